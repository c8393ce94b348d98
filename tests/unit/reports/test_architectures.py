"""The picture of the architectures: a row a name, all runs, the best one's words."""

from __future__ import annotations

from typing import Any

import pytest

from lvmdb.errors import RunError
from lvmdb.reports import architectures as module
from lvmdb.reports.architectures import architectures


def row(run_id: int, architecture: str, cosine: float, **more: Any) -> dict[str, Any]:
    return {
        "sequence_set": "wiki5", "split": "test", "run_id": run_id, "kind": "model",
        "architecture": architecture, "cosine": cosine, "cosine_low": cosine - 0.01,
        "cosine_high": cosine + 0.01, "cosine_gain": cosine - 0.6, "cosine_verdict": "better",
        "mrr_10": cosine / 2, "parameter_count": 5_000_000, "seconds": 720.0, "queries": 2901,
        "articles": 412, "pool_size": 24340, "places": 1, "best": True, **more,
    }  # fmt: skip


BASELINE = row(1, "lag-weights", 0.6, kind="baseline", cosine_verdict="best baseline", seconds=2)
ROWS = [
    BASELINE,
    row(2, "lstm", 0.61),
    row(3, "lstm", 0.63, best=False),
    row(4, "gru", 0.62, cosine_low=None, cosine_high=None, cosine_verdict=None),
]


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


def at(axes: Any, marker: str, index: int) -> list[float]:
    """Where a panel has this marker in a row."""
    return [
        float(x)
        for line in axes.lines
        if line.get_marker() == marker
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
        if y == index
    ]


def test_a_row_a_name_in_the_order_of_their_best_runs(drawn: list[Any]) -> None:
    architectures(ROWS)
    (figure,) = drawn
    said = words(figure)
    # The best by validation stands for its name, though another run has more cosine.
    assert [name for name in said if name in ("gru", "lstm", "lag-weights")] == [
        "gru",
        "lstm",
        "lag-weights",
    ]
    assert [text for text in said if "run" in text.split()[-1:]] == ["1 run", "1 run"]
    assert "2 runs" in said
    assert "0.6100  +0.0100  better" in said
    assert "0.6200  +0.0200  no interval" in said
    assert "0.6000  0  best baseline" in said
    assert {"5 M", "12 min", "2 s"} <= set(said)
    cosine, mrr = figure.axes
    assert sorted(at(cosine, "o", 1)) == [0.61, 0.61, 0.63]  # two dots, and the best
    assert sorted(at(mrr, "o", 1)) == [0.305, 0.305, 0.315]
    assert at(cosine, "s", 2) == [0.6]


def test_what_is_far_behind_is_an_arrow(drawn: list[Any]) -> None:
    architectures([*ROWS, row(9, "random", 0.01, kind="baseline", cosine_verdict="worse")])
    figure = drawn[0]
    cosine, _ = figure.axes
    low, high = cosine.get_xlim()
    assert low > 0.5
    assert high < 0.7
    assert at(cosine, "<", 3) == [low]
    assert "Arrows: beyond the axis." in words(figure)[-1]


def test_all_words_stay_inside_and_apart(drawn: list[Any]) -> None:
    names = [f"an-architecture-of-a-very-long-name-{k}" for k in range(14)]
    rows = [row(k, name, 0.6 + k / 1000, cosine_verdict="not distinguishable") for k, name in
            enumerate(names)]  # fmt: skip
    architectures([*rows, {**BASELINE, "sequence_set": "$x$ " * 60, "places": 2}])
    figure = drawn[0]
    boxes = [text.get_window_extent() for text in figure.texts]
    for text, box in zip(figure.texts, boxes, strict=True):
        assert box.x0 >= 0, text
        assert box.x1 <= figure.bbox.width, text
    for index, box in enumerate(boxes):
        for other in boxes[index + 1 :]:
            assert not box.overlaps(other)


def test_without_baselines_and_ranks(drawn: list[Any]) -> None:
    architectures([row(2, "lstm", 0.6, mrr_10=None, cosine_gain=None, cosine_verdict=None)])
    said = "\n".join(words(drawn[0]))
    assert "no baseline" in said
    assert "dashed" not in said


def test_nothing_to_draw_says_what_to_do() -> None:
    with pytest.raises(RunError, match="'lvmdb evaluate --run-id N'"):
        architectures([])
