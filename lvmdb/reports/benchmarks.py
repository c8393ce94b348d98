"""What one call of `lvmdb bench` measured, side by side and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from lvmdb.db.benchmarks import CONCEPTS, PEAK, POSITIONS, REQUESTS
from lvmdb.db.types import DIMENSION
from lvmdb.errors import RunError
from lvmdb.reports.plots import GREY, WIDTH, finite, fit, new_figure, number, plain_axes, png
from lvmdb.reports.render import Rows

MEGABYTES = DIMENSION * 4 / 1e6
"""Of one vector of float32."""

_SPEEDS = ("vectors/s", "windows/s", POSITIONS, CONCEPTS, REQUESTS)
_KINDS = {
    "lvmdb": ("#0072B2", "lvmdb"),
    "client": ("#9a9a9a", "other clients"),
    "memory": ("#E0B15A", "memory, not a database"),
    "library": ("#9a9a9a", "other libraries"),
    "encoder": ("#009E73", "the encoder alone"),
    "predecessor": ("#9a9a9a", "the predecessor, as published"),
}
_OTHER = "#9a9a9a"

_BAR, _ABOVE, _BETWEEN, _BELOW = 30, 96, 62, 74
_NAMES, _VALUES = 290, 190
"""Pixels at the left and at the right of the bars."""

_TIMES = "×"  # noqa: RUF001

_LOGARITHMIC = 20
"""Where the largest value is more than so many times the smallest, the axis is logarithmic."""


def side_by_side(rows: Rows) -> list[dict[str, object]]:
    """One row a contender, for a table: speeds, MB/s of float32, peak memory, ratio to its peer.

    Of positions a second also the milliseconds that all positions of the shape take. Columns that
    hold nothing are left out.

    Args:
        rows: of `db.benchmarks.write`.
    """
    found: dict[object, dict[str, object]] = {}
    for row in rows:
        empty = dict.fromkeys((*_SPEEDS[:1], "MB/s", *_SPEEDS[1:], "ms", PEAK, "ratio"))
        shown = found.setdefault(row["contender"], {"contender": row["contender"], **empty})
        value = number(row["value"])
        unit = str(row["unit"])
        decimals = 2 if unit.endswith(" ms") else 1 if unit == PEAK else None
        shown[unit] = round(value, decimals)
        if row["unit"] == "vectors/s":
            shown["MB/s"] = round(value * MEGABYTES, 1)
        if row["unit"] == POSITIONS:
            shown["ms"] = round(1000 * number(_parameters(row)["positions"]) / value, 1)
        if row["ratio"] is not None:
            # As text: a column of numbers has no more decimals than its largest needs.
            shown["ratio"] = f"{number(row['ratio']):8.3f}"
    used = {name for shown in found.values() for name, value in shown.items() if value is not None}
    return [{k: v for k, v in shown.items() if k in used} for shown in found.values()]


def peers(rows: Rows) -> list[str]:
    """Whom ratios are to, each once, whatever the shape.

    Args:
        rows: of `db.benchmarks.write`.
    """
    found = [_without_shape(row, "peer") for row in rows if row["ratio"] is not None]
    return list(dict.fromkeys(found))


def bars(rows: Rows, title: str) -> bytes:
    """Draw speeds as horizontal bars, a panel for each unit and shape, the fastest on top, as PNG.

    A thin line goes from the slowest to the fastest repetition; the ratio is to the contender's
    peer. The axis is logarithmic where the values span much.

    Args:
        rows: of `db.benchmarks.write`.
        title: stands above the picture.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RunError: there is no speed to draw.
    """
    panels = []
    for unit in _SPEEDS:
        of_unit = [row for row in rows if row["unit"] == unit and finite(number(row["value"]))]
        for shape in dict.fromkeys(map(_shape, of_unit)):
            drawn = [row for row in of_unit if _shape(row) == shape]
            label = f"{unit} at {shape}" if shape else unit
            panels.append((label, sorted(drawn, key=lambda row: number(row["value"]))))
    if not panels:
        raise RunError("no speed was measured: there is nothing to draw")
    inside = sum(_BAR * (len(drawn) + 1) for _, drawn in panels)
    height = _ABOVE + inside + _BETWEEN * (len(panels) - 1) + _BELOW
    figure = new_figure(WIDTH, height)
    top = height - _ABOVE
    for label, drawn in panels:
        tall = _BAR * (len(drawn) + 1)
        axes = figure.add_axes(
            (
                _NAMES / WIDTH,
                (top - tall) / height,
                (WIDTH - _NAMES - _VALUES) / WIDTH,
                tall / height,
            )
        )
        _panel(axes, label, drawn)
        top -= tall + _BETWEEN
    head = figure.text(18 / WIDTH, 1 - 28 / height, title, fontsize=15, fontweight="bold")
    head.set(va="center", parse_math=False)
    fit([head], WIDTH - 36)
    _key(figure, height, [row for _, drawn in panels for row in drawn])
    return png(figure)


def _panel(axes: Any, label: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Bars of one unit and shape, the last one on top."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    values = [number(row["value"]) for row in rows]
    lowest = [number(row["lowest"]) for row in rows]
    highest = [number(row["highest"]) for row in rows]
    places = range(len(rows))
    logarithmic = min(values) > 0 and max(values) > _LOGARITHMIC * min(values)
    if logarithmic:
        axes.set_xscale("log")
    axes.set_xlim(0.6 * min(lowest) if logarithmic else 0, max(highest) * 1.02)
    axes.set_ylim(-1, len(rows))
    axes.barh(places, values, height=0.64, color=[_colour(row) for row in rows], zorder=2)
    axes.hlines(places, lowest, highest, color="black", linewidth=1.1, alpha=0.75, zorder=3)
    plain_axes(axes)
    axes.grid(axis="y", visible=False)
    axes.tick_params(which="both", labelsize=11, length=0)
    axes.set_yticks(places, [_without_shape(row, "contender") for row in rows])
    for name in axes.get_yticklabels():
        name.set_parse_math(False)
    fit(axes.get_yticklabels(), _NAMES - 20)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label + (", logarithmic" if logarithmic else ""), fontsize=11, labelpad=2)
    for place, row in zip(places, rows, strict=True):
        times = number(row["ratio"])
        ratio = f"{times:,.{2 if times < 100 else 0}f}{_TIMES}" if finite(times) else ""
        for text, right in ((f"{number(row['value']):,.0f}", 76), (ratio, 126)):
            axes.annotate(
                text,
                (1, place),
                (right, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=11,
            )


def _key(figure: Any, height: int, rows: Sequence[Mapping[str, object]]) -> None:
    """What the colours mean, of those that are there; what the line and the ratios are."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    there = {_kind(row) for row in rows}
    handles: list[Any] = [
        Patch(color=colour, label=label)
        for kind, (colour, label) in _KINDS.items()
        if kind in there
    ]
    handles.append(
        Line2D([], [], color="black", linewidth=1.1, alpha=0.75, label="slowest to fastest pass")
    )
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(14 / WIDTH, 1 - 46 / height),
        ncols=len(handles),
        frameon=False,
        fontsize=11,
        columnspacing=1.6,
    )
    if compared := peers(rows):
        text = f"{_TIMES} of: {'; '.join(compared)}"
        note = figure.text(18 / WIDTH, 14 / height, text, fontsize=10, color=GREY)
        note.set_parse_math(False)
        fit([note], WIDTH - 36)


def _parameters(row: Mapping[str, object]) -> Mapping[str, object]:
    return cast("Mapping[str, object]", row["parameters"])


def _shape(row: Mapping[str, object]) -> str:
    """Of what was read, where a benchmark has several; otherwise nothing."""
    return str(_parameters(row).get("shape", ""))


def _without_shape(row: Mapping[str, object], key: str) -> str:
    """A name as it stands where the shape is said for all."""
    return str(row[key]).removesuffix(f", {_shape(row)}")


def _kind(row: Mapping[str, object]) -> str:
    return str(_parameters(row).get("kind"))


def _colour(row: Mapping[str, object]) -> str:
    return _KINDS.get(_kind(row), (_OTHER, ""))[0]
