"""The picture of the recall curves: how often the truth is among the first k, one line a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lvmdb.errors import RunError
from lvmdb.reports.plots import (
    DASHES,
    GREY,
    PALETTE,
    WIDTH,
    End,
    finite,
    fit,
    legend_above,
    name_ends,
    new_figure,
    number,
    plain_axes,
    png,
    run_name,
)
from lvmdb.reports.render import Rows

SHOWN = 24
"""Runs in one picture: more names than these cannot be read."""

_BASELINE = "#8c8c8c"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")


@dataclass
class _Curve:
    """One run's recall by k, and how it is drawn."""

    run_id: object
    architecture: str
    baseline: bool
    points: list[tuple[float, float]]
    colour: str = _BASELINE
    dash: Any = "-"
    marker: str = "o"

    @property
    def near_ten(self) -> tuple[float, float]:
        """The point whose k is nearest to 10."""
        return min(self.points, key=lambda point: abs(point[0] - 10))


def recall_curves(rows: Rows) -> bytes:
    """Draw recall at k of the runs of one set, split and pool, as a PNG of 1200 x 700 pixels.

    Of several sets, splits and pools, those of the newest run are drawn: only what was ranked among
    the same candidates compares. Models are coloured, baselines grey, each with its own marker;
    chance is dashed. Where guessing cannot fail (k reaches the number of candidates), nothing is
    drawn any more.

    Args:
        rows: of the report `recall_curve`, in any order.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RunError: there is nothing to draw.
    """
    figure = new_figure()
    if not rows:
        raise RunError("no predictions are stored yet: 'lvmdb evaluate --run-id N' makes them")
    newest = max(rows, key=lambda row: number(row["run"]))
    drawn = [row for row in rows if _place(row) == _place(newest)]
    chance = sorted(
        {(number(r["k"]), number(r["chance"])) for r in drawn if r["run"] == newest["run"]}
    )
    chance = [point for point in chance if point[1] < 1] or chance[:1]
    curves = _curves(drawn, last=chance[-1][0])
    axes = figure.add_axes((0.07, 0.1, 0.67, 0.78))
    for curve in curves[:SHOWN]:
        axes.plot(
            *zip(*curve.points, strict=True),
            color=curve.colour,
            linestyle=curve.dash,
            linewidth=1.3 if curve.baseline else 2.2,
            marker=curve.marker,
            markersize=5,
            zorder=2 if curve.baseline else 3,
        )
    axes.plot(
        *zip(*chance, strict=True), color=GREY, linewidth=1.4, linestyle=(0, (2, 2)), zorder=4
    )
    _decorate(axes, [k for k, _ in chance], newest, {curve.baseline for curve in curves[:SHOWN]})
    notes = []
    if len(curves) > SHOWN:
        notes.append(f"the best {SHOWN} of {len(curves)} runs by recall at 10")
    if len(drawn) < len(rows):
        notes.append("other sets, splits and pools are in the table")
    if notes:
        figure.text(0.99, 0.012, "; ".join(notes), ha="right", fontsize=10, color=GREY)
    name_ends(axes, _ends(curves[:SHOWN], chance[-1]))
    return png(figure)


def _place(row: Any) -> tuple[object, ...]:
    return (row["sequence_set"], row["split"], row["queries"], row["candidates"])


def _curves(rows: Rows, last: float) -> list[_Curve]:
    """Rows grouped by run, the best recall at 10 first; colours in the order of run numbers."""
    found: dict[object, _Curve] = {}
    for row in sorted(rows, key=lambda row: (number(row["run"]), number(row["k"]))):
        curve = found.setdefault(
            row["run"],
            _Curve(row["run"], str(row["architecture"]), row["kind"] == "baseline", []),
        )
        point = (number(row["k"]), number(row["recall"]))
        if finite(*point) and point[0] <= last:
            curve.points.append(point)
    curves = [curve for curve in found.values() if curve.points]
    models = [curve for curve in curves if not curve.baseline]
    for index, curve in enumerate(models):
        curve.colour = PALETTE[index % len(PALETTE)]
        curve.dash = DASHES[index // len(PALETTE) % len(DASHES)]
    for index, curve in enumerate(c for c in curves if c.baseline):
        curve.marker = _MARKERS[(index + 1) % len(_MARKERS)]
    return sorted(curves, key=lambda curve: -curve.near_ten[1])


def _ends(curves: Sequence[_Curve], chance: tuple[float, float]) -> list[End]:
    """Names with the recall at 10, in one line where there are many; of equals the best on top."""
    between = "\n" if len(curves) < 13 else ": "
    ends = []
    for curve in reversed(curves):
        k, recall = curve.near_ten
        value = f"{recall:.3f} at {k:g}"
        name = run_name(curve.architecture, curve.run_id)
        ends.append(End(f"{name}{between}{value}", curve.colour, curve.points[-1], curve.marker))
    return [End("chance", GREY, chance, "_"), *ends]


def _decorate(axes: Any, ks: Sequence[float], newest: Any, kinds: set[bool]) -> None:
    """Scales, grid, title, and the key to what is there."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(ks[0] / 1.06, max(ks[-1], ks[0] * 1.5) * 1.06)
    axes.set_ylim(-0.02, 1.02)
    axes.xaxis.set_major_locator(FixedLocator(ks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:,g}"))
    title = (
        f"Recall at k: {newest['sequence_set']}, split {newest['split']}, "
        f"{newest['queries']:,} windows, about {newest['candidates']:,} candidates each"
    )
    head = axes.set_title(title, loc="left", fontsize=14, fontweight="bold", pad=30)
    fit([head], WIDTH - 100)
    axes.set_xlabel("k: first candidates looked at", fontsize=12)
    axes.set_ylabel("windows whose truth is among them", fontsize=12)
    plain_axes(axes)
    model = Line2D([], [], color=PALETTE[0], linewidth=2.2, label="models")
    baseline = Line2D([], [], color=_BASELINE, linewidth=1.3, marker="s", label="baselines")
    guess = Line2D([], [], color=GREY, linewidth=1.4, linestyle=(0, (2, 2)), label="chance")
    there = [line for line, kind in ((model, False), (baseline, True)) if kind in kinds]
    legend_above(axes, [*there, guess])
