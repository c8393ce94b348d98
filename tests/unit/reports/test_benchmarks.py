"""What a benchmark measured: one row a contender, and a picture."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from lvmdb.db.benchmarks import PEAK, POSITIONS
from lvmdb.errors import MissingDependencyError, RunError
from lvmdb.reports import benchmarks
from lvmdb.reports.benchmarks import bars, side_by_side
from lvmdb.reports.plots import png

X = "×"  # noqa: RUF001


def row(contender: str, unit: str, value: float, **more: Any) -> dict[str, object]:
    given = {"peer": "peer", "ratio": value / 1000, "parameters": {"kind": "lvmdb"}, **more}
    lowest, highest = 0.9 * value, 1.1 * value
    found = {"contender": contender, "unit": unit, "value": value}
    return {**found, "lowest": lowest, "highest": highest, **given}


ROWS = [
    row("peer", "vectors/s", 1000.4, ratio=1.0, parameters={"kind": "client"}),
    row("peer", PEAK, 2.54, ratio=None, peer=None),
    row("ours", "vectors/s", 2000.0),
    row("$of$ windows", "windows/s", 3.2, ratio=None),
]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    figures: list[Any] = []

    def keep(figure: Any) -> bytes:
        figures.append(figure)
        return png(figure)

    monkeypatch.setattr(benchmarks, "png", keep)
    return figures


def test_a_contender_has_one_row_and_empty_columns_go() -> None:
    shown = side_by_side(ROWS)
    assert list(shown[0]) == ["contender", "vectors/s", "MB/s", "windows/s", PEAK, "ratio"]
    assert [tuple(one.values()) for one in shown] == [
        ("peer", 1000, 3.1, None, 2.5, "   1.000"),
        ("ours", 2000, 6.1, None, None, "   2.000"),
        ("$of$ windows", None, None, 3, None, None),
    ]
    assert list(side_by_side(ROWS[3:])[0]) == ["contender", "windows/s"]


def test_there_is_a_panel_for_each_unit_with_the_fastest_on_top(drawn: list[Any]) -> None:
    assert bars(ROWS, "costs $5 and $6").startswith(b"\x89PNG")
    vectors, windows = drawn[0].axes
    assert [label.get_text() for label in vectors.get_yticklabels()] == ["peer", "ours"]
    assert [bar.get_width() for bar in vectors.patches] == [1000.4, 2000.0]
    assert [text.get_text() for text in vectors.texts] == ["1,000", f"1.00{X}", "2,000", f"2.00{X}"]
    assert vectors.get_xscale() == windows.get_xscale() == "linear"
    assert vectors.get_xlim()[0] == 0
    assert (vectors.get_xlabel(), windows.get_xlabel()) == ("vectors/s", "windows/s")
    assert [text.get_text() for text in drawn[0].texts] == ["costs $5 and $6", f"{X} of: peer"]
    assert [t.get_text() for t in drawn[0].legends[0].get_texts()] == [
        "lvmdb",
        "other clients",
        "slowest to fastest pass",
    ]


def blocks() -> list[dict[str, object]]:
    """Two parts and two shapes, as they are told."""
    return [
        row(f"{name}, {shape}", POSITIONS, value, ratio=ratio, peer=peer, parameters=given)
        for shape, positions, speeds in (("64x5", 320, (3200.0, 800.0)), ("4x9", 36, (720.0, 9.0)))
        for name, kind, value, ratio in zip(
            ("mamba2", "peer"), ("lvmdb", "library"), speeds, (4.0, 1.0), strict=True
        )
        for given in [{"kind": kind, "shape": shape, "positions": positions}]
        for peer in [f"peer, {shape}"]
    ]


def test_positions_are_also_told_as_milliseconds() -> None:
    assert side_by_side(blocks())[:2] == [
        {"contender": "mamba2, 64x5", POSITIONS: 3200, "ms": 100.0, "ratio": "   4.000"},
        {"contender": "peer, 64x5", POSITIONS: 800, "ms": 400.0, "ratio": "   1.000"},
    ]


def test_there_is_a_panel_for_each_shape(drawn: list[Any]) -> None:
    bars(blocks(), "t")
    panels = drawn[0].axes
    assert [axes.get_xlabel() for axes in panels] == [
        "positions/s at 64x5",
        "positions/s at 4x9, logarithmic",
    ]
    for axes in panels:
        assert [label.get_text() for label in axes.get_yticklabels()] == ["peer", "mamba2"]
    assert drawn[0].texts[-1].get_text() == f"{X} of: peer"
    assert "other libraries" in [t.get_text() for t in drawn[0].legends[0].get_texts()]


def test_values_that_span_much_have_a_logarithmic_axis(drawn: list[Any]) -> None:
    bars([row("a", "vectors/s", 10.0), row("b", "vectors/s", 100_000.0)], "t")
    (axes,) = drawn[0].axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "vectors/s, logarithmic"
    assert axes.get_xlim()[0] < 9


def test_everything_written_stays_inside_the_picture(drawn: list[Any]) -> None:
    rows = [row(f"windows of a contender number {k}", "vectors/s", 10.0**k) for k in range(8)]
    bars(rows, "a very long title " * 12)
    figure = drawn[0]
    (axes,) = figure.axes
    texts = [*figure.texts, *axes.texts, *axes.get_yticklabels(), axes.xaxis.label]
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= 0, text
        assert box.x1 <= figure.bbox.width, text
        assert box.y0 >= 0, text
        assert box.y1 <= figure.bbox.height, text
    ticks = max(label.get_window_extent().x1 for label in axes.get_xticklabels())
    assert ticks <= figure.bbox.width
    # Numbers and ratios do not meet.
    for value, ratio in zip(axes.texts[::2], axes.texts[1::2], strict=True):
        assert value.get_window_extent().x1 < ratio.get_window_extent().x0


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(RunError, match="no speed was measured"):
        bars([ROWS[1]], "t")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"pip install 'lvmdb\[plots\]'"):
        bars(ROWS, "t")
