"""The picture of cost: cosine over parameters and over seconds of training, a mark a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lvmdb.errors import RunError
from lvmdb.reports.plots import (
    GREY,
    HEIGHT,
    End,
    Style,
    duration,
    finite,
    fit,
    marks_below,
    name_ends,
    new_figure,
    number,
    plain_axes,
    png,
    short_count,
    styles,
)
from lvmdb.reports.render import Rows

WIDTH = 1400
"""In pixels."""

_NAMED = 8
"""Baselines with a line of their own: more names than these cannot be read."""

_PANELS = {"parameters": (0.055, 0.37), "seconds": (0.465, 0.37)}
"""Where each panel begins, and its width, as shares of the picture's."""

_COUNTS = tuple(part * 10.0**power for power in range(13) for part in (1, 2, 5))
_TIMES = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 45),
    *(60.0 * minutes for minutes in (2, 5, 10, 20, 45)),
    *(3600.0 * hours for hours in (2, 5, 10, 20)),
    *(86400.0 * days for days in (2, 5, 10, 20, 50, 100)),
)
"""Where an axis may have a tick: numbers that `short_count` and `duration` say roundly."""

_MOST_TICKS = 8


def cost(rows: Rows) -> bytes:
    """Draw what models are worth by what they cost, as a PNG of 1400 x 700 pixels.

    Colour and marker are the architecture's. Ringed in black: no other run is as good for less. The
    baselines are lines, as far as they are among the models; the best is dashed. Of several sets
    and pools, those of the newest run are drawn.

    Args:
        rows: of the report `cost`.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RunError: there is nothing to draw.
    """
    models = [row for row in rows if row["kind"] != "baseline" and finite(number(row["cosine"]))]
    if not models:
        raise RunError("no model has been evaluated there yet: 'lvmdb evaluate --run-id N' does it")
    newest = max(models, key=lambda row: number(row["run"]))
    models = [row for row in models if _place(row) == _place(newest)]
    baselines = [row for row in rows if row["kind"] == "baseline" and _place(row) == _place(newest)]
    chosen = styles(str(row["architecture"]) for row in models)
    figure = new_figure(WIDTH, HEIGHT)
    low, high = _range(models, baselines)
    lines = _lines(baselines, low, high)
    for name, (left, width) in _PANELS.items():
        axes = figure.add_axes((left, 0.2, width, 0.66))
        drawn = [row for row in models if number(row[name]) > 0]
        _draw(axes, drawn, name, chosen)
        _decorate(axes, name, [number(row[name]) for row in drawn], low, high)
        for line in lines:
            best = line is lines[-1]
            axes.axhline(
                number(line["cosine"]),
                color=GREY,
                linewidth=1.4 if best else 0.9,
                linestyle=(0, (4, 2)) if best else (0, (1, 2)),
                zorder=1,
            )
    if lines:
        right = axes.get_xlim()[1]
        ends = [(str(line["architecture"]), number(line["cosine"])) for line in lines]
        name_ends(axes, [End(f"{name}: {value:.4f}", GREY, (right, value)) for name, value in ends])
    _captions(figure, newest, chosen, others=len(rows) > len(models) + len(baselines))
    return png(figure)


def _place(row: Mapping[str, object]) -> tuple[object, ...]:
    return (row["sequence_set"], row["split"], row["pool"])


def _range(models: Rows, baselines: Rows) -> tuple[float, float]:
    """Ends of the cosine's axis: all models and the best baseline, with a little room."""
    values = [number(row["cosine"]) for row in models]
    values += [max((number(row["cosine"]) for row in baselines), default=values[0])]
    room = 0.06 * (max(values) - min(values)) or 0.01
    return min(values) - room, max(values) + room


def _lines(baselines: Rows, low: float, high: float) -> list[Mapping[str, object]]:
    """The baselines that the axis holds, the best last; those next to it where there are many."""
    held = [row for row in baselines if low <= number(row["cosine"]) <= high]
    best = {}
    for row in sorted(held, key=lambda row: number(row["cosine"])):
        best[row["architecture"]] = row
    return sorted(best.values(), key=lambda row: number(row["cosine"]))[-_NAMED:]


def _draw(axes: Any, rows: Rows, name: str, chosen: Mapping[str, Style]) -> None:
    for row in rows:
        style = chosen[str(row["architecture"])]
        ringed = name in str(row["nothing_cheaper"] or "").split(", ")
        axes.plot(
            [number(row[name])],
            [number(row["cosine"])],
            linestyle="none",
            marker=style.marker,
            markersize=7.5,
            markerfacecolor=style.colour,
            markeredgecolor="white",
            markeredgewidth=0.6,
            alpha=1.0 if ringed else 0.8,
            zorder=4 if ringed else 3,
        )
        if ringed:
            axes.plot(
                [number(row[name])], [number(row["cosine"])], linestyle="none", marker="o",
                markersize=15, markerfacecolor="none", markeredgecolor="black",
                markeredgewidth=1.4, zorder=5,
            )  # fmt: skip


def _decorate(axes: Any, name: str, values: Sequence[float], low: float, high: float) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    say, steps = (short_count, _COUNTS) if name == "parameters" else (duration, _TIMES)
    axes.set_xscale("log")
    axes.set_ylim(low, high)
    ends = (min(values), max(values)) if values else (1.0, 10.0)
    axes.set_xlim(ends[0] / 1.35, ends[1] * 1.35)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(steps, *axes.get_xlim())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: say(value)))
    plain_axes(axes)
    axes.tick_params(labelsize=10)
    label = "parameters" if name == "parameters" else "training, interruptions left out"
    axes.set_xlabel(f"{label} (logarithmic)", fontsize=12)
    if name == "parameters":
        axes.set_ylabel("cosine of prediction and truth", fontsize=12)


def _ticks(steps: Sequence[float], low: float, high: float) -> list[float]:
    """At most so many of the steps between two ends, about evenly chosen."""
    inside = [step for step in steps if low <= step <= high]
    return inside[:: -(-len(inside) // _MOST_TICKS)] if inside else []


def _captions(
    figure: Any, newest: Mapping[str, object], chosen: Mapping[str, Style], *, others: bool
) -> None:
    """Title, the key to the architectures, and what must be known."""
    title = (
        f"Cost and worth: {newest['sequence_set']}, split {newest['split']}, "
        f"{number(newest['pool']):,.0f} candidates"
    )
    head = figure.text(0.013, 0.95, title, fontsize=15, fontweight="bold", parse_math=False)
    fit([head], WIDTH - 40)
    note = (
        "ringed in black: no other run is as good for less; grey lines: baselines, dashed the best"
    )
    if others:
        note += "; other sets and pools are in the table"
    figure.text(0.013, 0.905, note, fontsize=10.5, color=GREY)
    marks_below(figure, chosen)
