"""The picture of the recall curves: lines, names, chance; one set, split and pool."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lvmdb.errors import RunError
from lvmdb.reports import recall as module
from lvmdb.reports.recall import recall_curves

BLUE = (0x00, 0x72, 0xB2)


def rows(
    run: int, architecture: str = "lstm", *, candidates: int = 1318, power: float = 0.5, **more: Any
) -> list[dict[str, Any]]:
    return [
        {
            "sequence_set": "wiki5", "split": "test", "run": run, "architecture": architecture,
            "kind": "model", "k": k, "recall": min(1, k / candidates) ** power,
            "chance": min(1, k / candidates), "queries": 1081, "candidates": candidates, **more,
        }
        for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    ]  # fmt: skip


def drawn(monkeypatch: pytest.MonkeyPatch, given: list[dict[str, Any]]) -> tuple[Any, list[str]]:
    """The panel and all texts of the picture."""
    figures: list[Any] = []

    def keep(figure: Any) -> bytes:
        figures.append(figure)
        return b""

    monkeypatch.setattr(module, "png", keep)
    recall_curves(given)
    (figure,) = figures
    (axes,) = figure.axes
    key = [text.get_text() for text in axes.get_legend().get_texts()]
    texts = [text.get_text() for text in (*axes.texts, *figure.texts)]
    return axes, [axes.get_title(loc="left"), *key, *texts]


def test_a_line_for_each_run_and_the_same_picture_whatever_the_order() -> None:
    given = rows(1) + rows(2, "copy-last", kind="baseline")
    picture = recall_curves(given)
    assert picture == recall_curves(given[::-1])
    with Image.open(io.BytesIO(picture)) as image:
        seen = np.asarray(image.convert("RGB")).astype(int)
    assert seen.shape == (700, 1200, 3)
    assert (np.abs(seen - BLUE) <= 2).all(axis=2).sum() > 500


def test_names_key_and_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    axes, said = drawn(monkeypatch, rows(1) + rows(2, "copy-last", kind="baseline", power=0.6))
    assert axes.get_xscale() == "log"
    for text in (
        "Recall at k: wiki5, split test, 1,081 windows, about 1,318 candidates each",
        "models", "baselines", "chance", "lstm · run 1\n0.087 at 10",
        "copy-last · run 2\n0.053 at 10",
    ):  # fmt: skip
        assert text in said
    assert "baselines" not in drawn(monkeypatch, rows(1))[1]


def test_nothing_is_drawn_where_guessing_cannot_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    axes, _ = drawn(monkeypatch, rows(1, candidates=58))
    assert max(axes.lines[0].get_xdata()) == 50
    axes, _ = drawn(monkeypatch, rows(1, candidates=1))
    assert list(axes.lines[0].get_xdata()) == [1]


def test_only_what_was_ranked_alike_is_in_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [
        *rows(1, sequence_set="other"), *rows(2, split="val"), *rows(3, candidates=1317),
        *rows(4, queries=7),
    ]  # fmt: skip
    _, said = drawn(monkeypatch, [*others, *rows(5), *rows(6)])
    assert {text.split("\n")[0] for text in said if "run" in text} == {
        "lstm · run 5", "lstm · run 6",
    }  # fmt: skip
    assert "other sets, splits and pools are in the table" in said


def test_of_very_many_runs_the_best_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [r for i in range(1, 31) for r in rows(i, power=0.3 + i / 100)]
    _, said = drawn(monkeypatch, many)
    named = [text for text in said if "· run" in text]
    assert len(named) == 24
    assert "lstm · run 1: 0.220 at 10" in named
    assert not any("run 25" in text for text in named)
    assert "the best 24 of 30 runs by recall at 10" in said


def test_nothing_to_draw_says_what_to_do() -> None:
    with pytest.raises(RunError, match="no predictions are stored yet: 'lvmdb evaluate"):
        recall_curves([])
