"""The picture of the leaderboard: a row a run, intervals where there are any, verdicts in words."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from lvmdb.errors import RunError
from lvmdb.reports import forest as module
from lvmdb.reports.forest import WIDTH, forest

BLUE, GREEN, RED = (0x00, 0x72, 0xB2), (0x00, 0x73, 0x4F), (0xB3, 0x47, 0x00)


def row(run_id: int, cosine: float, gain: float | None, verdict: str | None, **more: Any) -> Any:
    return {
        "sequence_set": "wiki5", "split": "test", "run_id": run_id, "kind": "model",
        "architecture": "lstm", "cosine": cosine, "cosine_low": cosine - 0.02,
        "cosine_high": cosine + 0.02, "cosine_gain": gain,
        "cosine_gain_low": None if gain is None else gain - 0.01,
        "cosine_gain_high": None if gain is None else gain + 0.01, "cosine_verdict": verdict,
        "queries": 1034, "articles": 81, "pool_size": 13180, "places": 1, **more,
    }  # fmt: skip


BEST = row(
    1, 0.5, 0.0, "best baseline", kind="baseline", architecture="lag-weights",
    cosine_gain_low=None, cosine_gain_high=None,
)  # fmt: skip
BARE = dict.fromkeys(("cosine_low", "cosine_high", "cosine_gain_low", "cosine_gain_high"), None)


def pixels(picture: bytes) -> npt.NDArray[np.int64]:
    with Image.open(io.BytesIO(picture)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def count(picture: bytes, colour: tuple[int, int, int]) -> int:
    return int((np.abs(pixels(picture) - colour) <= 2).all(axis=2).sum())


def written(monkeypatch: pytest.MonkeyPatch, rows: list[Any]) -> str:
    """All texts of the picture."""
    figures: list[Any] = []

    def keep(figure: Any) -> bytes:
        figures.append(figure)
        return b""

    monkeypatch.setattr(module, "png", keep)
    forest(rows)
    (figure,) = figures
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    return "\n".join(text.get_text() for text in texts)


def test_a_row_for_each_run_and_a_colour_for_each_verdict() -> None:
    rows = [row(2, 0.55, 0.05, "better"), BEST, row(3, 0.45, -0.05, "worse")]
    picture = forest(rows)
    height, width, _ = pixels(picture).shape
    assert width == WIDTH
    assert len(pixels(forest([*rows, row(4, 0.4, -0.1, "worse")]))) == height + 30
    assert all(count(picture, colour) > 100 for colour in (BLUE, GREEN, RED))


def test_verdicts_and_numbers_stand_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    said = written(
        monkeypatch,
        [
            row(2, 0.55, 0.05, "better"),
            row(3, 0.501, 0.001, "not distinguishable"),
            BEST,
            row(4, 0.49999, -0.00001, "not distinguishable"),
            row(5, 0.45, -0.05, "worse"),
        ],
    )
    for text in (
        "wiki5, split test: 1,034 windows of 81 articles, 13,180 candidates",
        "dashed: best baseline, 0.5000",
        "no gain over lag-weights · run 1",
        "lstm · run 2", "+0.0500  better", "+0.0010  not distinguishable", "0  best baseline",
        "\N{MINUS SIGN}1e\N{MINUS SIGN}05  not distinguishable", "\N{MINUS SIGN}0.0500  worse",
    ):  # fmt: skip
        assert text in said
    assert "hollow" not in said
    assert "beyond the axis" not in said
    assert "table" not in said


def test_a_missing_interval_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    few = row(2, 0.55, 0.05, "too few articles", **BARE)
    old = row(3, 0.54, 0.04, None, **BARE, articles=None)
    alone = row(4, 0.53, None, None)
    assert count(forest([few, BEST]), BLUE) > 20
    said = written(monkeypatch, [few, old, alone, BEST])
    assert "hollow: no interval" in said
    assert "too few articles" in said
    assert "+0.0400  no interval" in said
    assert "no baseline" in said


def test_without_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    said = written(monkeypatch, [row(2, 0.55, None, None)])
    assert "no baseline to compare with" in said
    assert "dashed" not in said


def test_what_is_far_off_is_an_arrow(monkeypatch: pytest.MonkeyPatch) -> None:
    near = [row(i, 0.5 + i / 1000, i / 1000, "not distinguishable") for i in range(2, 8)]
    said = written(monkeypatch, [*near, BEST, row(9, 0.01, -0.49, "worse")])
    assert "Arrows: beyond the axis" in said
    assert "\N{MINUS SIGN}0.4900  worse" in said
    # A model that is far above is never beyond the axis.
    assert "Arrows" not in written(monkeypatch, [row(9, 0.99, 0.49, "better"), *near, BEST])


def test_many_runs_and_other_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [row(i, 0.9 - i / 1000, 0.1, "better", places=2) for i in range(2, 130)]
    said = written(monkeypatch, [*many, BEST])
    assert "The best 100 of 129 runs. Other sets, splits and pools are in the table." in said
    assert "run 101" in said
    assert "run 102" not in said


@pytest.mark.parametrize("difference", [0.0, 1e-9, 1e-5])
def test_runs_that_hardly_differ(difference: float) -> None:
    near = row(
        2, 0.5 + difference, difference, "not distinguishable", cosine_low=0.5, cosine_high=0.5,
        cosine_gain_low=0.0, cosine_gain_high=difference,
    )  # fmt: skip
    assert count(forest([near, {**BEST, "cosine_low": 0.5, "cosine_high": 0.5}]), BLUE) > 20


def test_a_long_name_and_signs_of_formulas_stay_in_their_column(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = pixels(forest([row(2, 0.5, None, None, architecture="W" * 40)]))
    assert (picture[125:140, 305:312] == picture[125, 305]).all()
    assert "$x^2$ · run 2" in written(monkeypatch, [row(2, 0.5, None, None, architecture="$x^2$")])


def test_nothing_to_draw_says_what_to_do() -> None:
    with pytest.raises(RunError, match="no run has been evaluated yet: 'lvmdb evaluate"):
        forest([])
