"""The picture of a schedule's progress: runs in order, the best so far, the weeks."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from lvmdb.errors import RunError
from lvmdb.reports import progress as module
from lvmdb.reports.progress import progress


def row(week: int, slot: int, val: float | None, **more: Any) -> dict[str, Any]:
    return {
        "schedule": "five-weeks", "week": week, "slot": slot, "run_id": 10 * week + slot,
        "architecture": "lstm", "status": "planned" if val is None else "succeeded",
        "val_cosine": val, "test_cosine": None if val is None else val - 0.01,
        "baseline": "lag-weights", "baseline_cosine": 0.55, **more,
    }  # fmt: skip


ROWS = [
    row(1, 1, 0.5),
    row(1, 2, 0.9, status="failed"),
    row(1, 3, 0.6, architecture="gru", test_cosine=None),
    row(2, 1, 0.58),
    row(2, 2, 0.7, architecture="mamba2"),
    row(3, 1, None, run_id=None, architecture=None, status=None),
]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    figures: list[Any] = []

    def keep(figure: Any) -> bytes:
        figures.append(figure)
        return b""

    monkeypatch.setattr(module, "png", keep)
    return figures


def test_runs_in_order_and_the_best_so_far(drawn: list[Any]) -> None:
    progress(ROWS)
    (figure,) = drawn
    (axes,) = figure.axes
    marks = [line for line in axes.lines if line.get_markersize() == 7.5]
    assert [float(line.get_xdata()[0]) for line in marks] == [1, 3, 4, 5]
    best, test = (line for line in axes.lines if line.get_drawstyle() == "steps-post")
    assert list(best.get_xdata()) == [1, 3, 4, 5]
    assert list(best.get_ydata()) == [0.5, 0.6, 0.6, 0.7]
    # What was not evaluated leaves a gap.
    values = [float(value) for value in test.get_ydata()]
    assert values[0] == 0.49
    assert math.isnan(values[1])
    assert math.isnan(values[2])
    assert values[3] == pytest.approx(0.69)
    (crosses,) = (line for line in axes.lines if line.get_marker() == "x")
    assert list(crosses.get_xdata()) == [2]
    assert axes.get_ylim()[0] < crosses.get_ydata()[0] < 0.49
    said = [text.get_text() for text in axes.texts if text.get_text()]
    assert said == [
        "week 1",
        "week 2",
        "week 3",
        "best, validation:\n0.7000, mamba2 · run 22",
        "the same run, test:\n0.6900",
        "lag-weights, validation:\n0.5500",
    ]
    assert figure.texts[0].get_text() == ("Progress of five-weeks: 4 of 6 runs succeeded, 1 failed")
    key = [text.get_text() for text in figure.legends[0].get_texts()]
    assert key == ["gru", "lstm", "mamba2", "failed"]
    assert all(place == int(place) for place in axes.get_xticks())


def test_without_tests_baselines_and_failures(drawn: list[Any]) -> None:
    progress([row(1, 1, 0.5, test_cosine=None, baseline=None, baseline_cosine=None)])
    (axes,) = drawn[0].axes
    said = [text.get_text() for text in axes.texts if text.get_text()]
    assert said == ["week 1", "best, validation:\n0.5000, lstm · run 11"]


def test_a_hundred_runs_stay_inside(drawn: list[Any]) -> None:
    rows = [row(1 + k // 20, k, 0.5 + (k * 37 % 100) / 1000, architecture=f"architecture-{k % 13}")
            for k in range(100)]  # fmt: skip
    progress([*rows, row(6, 1, None)])
    figure = drawn[0]
    figure.canvas.draw()
    (axes,) = figure.axes
    weeks = [text.get_window_extent() for text in axes.texts if text.get_text()[:4] == "week"]
    assert len(weeks) == 6
    assert all(a.x1 < b.x0 for a, b in pairwise(weeks))
    for text in (*axes.texts, *figure.texts):
        box = text.get_window_extent()
        assert box.x0 >= 0, text
        assert box.x1 <= figure.bbox.width, text


@pytest.mark.parametrize("rows", [[], [row(1, 1, None)]])
def test_nothing_to_draw_says_what_to_do(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(RunError, match="'lvmdb schedule status'"):
        progress(rows)
