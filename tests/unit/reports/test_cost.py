"""The picture of cost: marks by parameters and by seconds, baselines as lines."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from lvmdb.errors import RunError
from lvmdb.reports import cost as module
from lvmdb.reports.cost import cost
from lvmdb.reports.plots import MARKERS, PALETTE, styles

BOTH = "parameters, seconds"


def row(run: int, architecture: str, cosine: float, **more: Any) -> dict[str, Any]:
    return {
        "sequence_set": "wiki5", "split": "test", "run": run, "architecture": architecture,
        "kind": "model", "parameters": 10**6 * run, "seconds": 100.0 * run, "cosine": cosine,
        "nothing_cheaper": None, "pool": 24340, **more,
    }  # fmt: skip


BASELINES = [
    row(1, "lag-weights", 0.606, kind="baseline", parameters=0),
    row(2, "context-mean", 0.597, kind="baseline", parameters=0),
    row(3, "random", 0.0, kind="baseline", parameters=0),
]
ROWS = [
    *BASELINES,
    row(4, "gru", 0.59, nothing_cheaper=BOTH),
    row(5, "lstm", 0.62, nothing_cheaper="parameters"),
    row(6, "ensemble", 0.61, parameters=None, seconds=None, kind="ensemble"),
]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    figures: list[Any] = []

    def keep(figure: Any) -> bytes:
        figures.append(figure)
        return b""

    monkeypatch.setattr(module, "png", keep)
    return figures


def marks(axes: Any) -> list[tuple[float, float]]:
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in axes.lines
        if line.get_markersize() == 7.5
    ]


def rings(axes: Any) -> list[float]:
    return [float(line.get_xdata()[0]) for line in axes.lines if line.get_markersize() == 15]


def test_a_mark_a_run_by_both_costs(drawn: list[Any]) -> None:
    cost(ROWS)
    (figure,) = drawn
    parameters, seconds = figure.axes
    assert marks(parameters) == [(4e6, 0.59), (5e6, 0.62)]
    assert marks(seconds) == [(400, 0.59), (500, 0.62)]
    assert (rings(parameters), rings(seconds)) == ([4e6, 5e6], [400])
    assert parameters.get_xscale() == seconds.get_xscale() == "log"
    # A baseline far below the models does not stretch the axis, and has no line.
    assert parameters.get_ylim()[0] > 0.5
    named = [text.get_text() for text in seconds.texts if text.get_text()]
    assert named == ["context-mean: 0.5970", "lag-weights: 0.6060"]
    key = [text.get_text() for text in figure.legends[0].get_texts()]
    assert key == ["ensemble", "gru", "lstm"]
    assert [tick.get_text() for tick in seconds.get_xticklabels()] == ["5 min", "10 min"]


def test_only_the_place_of_the_newest_run(drawn: list[Any]) -> None:
    cost([*ROWS, row(9, "s4", 0.7, sequence_set="other")])
    figure = drawn[0]
    assert marks(figure.axes[0]) == [(9e6, 0.7)]
    said = "\n".join(text.get_text() for text in figure.texts)
    assert "Cost and worth: other, split test" in said
    assert "other sets and pools are in the table" in said


def test_many_architectures_stay_inside_and_are_told_apart(drawn: list[Any]) -> None:
    names = [f"architecture-number-{k}" for k in range(16)]
    found = styles(names)
    assert len({(style.colour, style.marker) for style in found.values()}) == 16
    many = [row(k, name, 0.6, parameters=10**k) for k, name in enumerate(names, start=1)]
    cost([*many, *BASELINES])
    figure = drawn[0]
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    labels = figure.axes[0].xaxis.label.get_window_extent()
    assert 0 <= box.y0 < box.y1 < labels.y0
    ticks = [tick.get_window_extent() for tick in figure.axes[0].get_xticklabels()]
    assert len(ticks) > 3
    assert all(a.x1 < b.x0 for a, b in pairwise(ticks))


def test_names_of_one_colour_and_one_marker_are_far_apart() -> None:
    pairs = [(style.colour, style.marker) for style in styles(map(str, range(70))).values()]
    assert len(set(pairs)) == 70 == len(PALETTE) * len(MARKERS)


@pytest.mark.parametrize("rows", [[], BASELINES])
def test_nothing_to_draw_says_what_to_do(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(RunError, match="no model has been evaluated"):
        cost(rows)
