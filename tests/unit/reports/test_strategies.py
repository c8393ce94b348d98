"""The picture of the strategies: marks, intervals and words of each comparison."""

from __future__ import annotations

from typing import Any

import pytest

from lvmdb.errors import RunError
from lvmdb.reports import strategies as module
from lvmdb.reports.strategies import SHOWN, strategies


def row(strategy: str, value: str = "true", **more: Any) -> dict[str, Any]:
    return {
        "sequence_set": "wiki5", "split": "test", "strategy": strategy, "value": value,
        "architecture": "lstm", "configuration": None, "seeds": 3, "cosine_difference": 0.02,
        "cosine_low": 0.01, "cosine_high": 0.03, "verdict": "better",
        "cosine_by_seed": [0.02, 0.015, 0.025], "mrr_difference": -0.01, "mrr_low": -0.03,
        "mrr_high": 0.01, "mrr_verdict": "not distinguishable", "mrr_by_seed": [-0.01, 0, -0.02],
        "runs": "7 9 11", "pool": 24340, **more,
    }  # fmt: skip


FEW = row(
    "curriculum", "bands", seeds=1, cosine_low=None, cosine_high=None, verdict="too few seeds",
    cosine_by_seed=[0.02], mrr_difference=None, mrr_low=None, mrr_high=None, mrr_verdict=None,
    mrr_by_seed=[None],
)  # fmt: skip


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    figures: list[Any] = []

    def keep(figure: Any) -> bytes:
        figures.append(figure)
        return b""

    monkeypatch.setattr(module, "png", keep)
    return figures


def words(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_a_row_a_comparison(drawn: list[Any]) -> None:
    strategies([row("centre", configuration="residual=true"), FEW])
    (figure,) = drawn
    said = words(figure)
    assert {"centre", "curriculum=bands", "lstm · residual=true", "lstm", "3", "1"} <= set(said)
    assert "+0.0200  better" in said
    assert "\N{MINUS SIGN}0.0100  not distinguishable" in said
    assert "+0.0200  too few seeds" in said
    cosine, mrr = figure.axes
    bar, seeds, mean, lonely, zero = cosine.lines
    assert list(bar.get_xdata()) == [0.01, 0.03]
    assert list(seeds.get_xdata()) == [0.02, 0.015, 0.025]
    assert (mean.get_marker(), mean.get_markerfacecolor()) == ("^", "#00734F")
    assert (lonely.get_xdata()[0], lonely.get_markerfacecolor()) == (0.02, "white")
    assert list(zero.get_xdata()) == [0, 0]
    low, high = cosine.get_xlim()
    assert low < 0 < 0.03 < high
    assert len(mrr.lines) == 4  # the second comparison has no ranks


def test_only_what_was_measured_where_the_newest_run_was(drawn: list[Any]) -> None:
    strategies([row("centre"), row("init", "ridge", sequence_set="other", runs="8 12")])
    said = "\n".join(words(drawn[0]))
    assert "other, split test" in said
    assert "init=ridge" in said
    assert "centre" not in said
    assert "Other sets and pools are in the table." in said


def test_all_words_stay_inside_and_apart(drawn: list[Any]) -> None:
    many = [
        row("roundtrip_every", "a value of many words " * 4, configuration="hidden=4 " * 12,
            verdict="not distinguishable", cosine_difference=-1e-9)
        for _ in range(SHOWN + 2)
    ]  # fmt: skip
    strategies(many)
    figure = drawn[0]
    assert f"The first {SHOWN} of {SHOWN + 2} comparisons." in words(figure)[-1]
    boxes = [text.get_window_extent() for text in figure.texts]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)
    # Rows are alike: the first three, and what stands above and below.
    near = boxes[:15] + boxes[5 * SHOWN :]
    for index, box in enumerate(near):
        assert not any(box.overlaps(other) for other in near[index + 1 :])


def test_nothing_to_draw_says_what_to_do() -> None:
    with pytest.raises(RunError, match="with the same seed"):
        strategies([])
