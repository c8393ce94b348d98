"""The picture of the learning curves: losses by epoch, one colour a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lvmdb.errors import RunError, UsageError
from lvmdb.reports.plots import (
    DASHES,
    GREY,
    PALETTE,
    End,
    cut,
    finite,
    legend_above,
    name_ends,
    new_figure,
    number,
    plain_axes,
    png,
    run_name,
)
from lvmdb.reports.render import Rows

_SPLITS = ("train", "validation")

_TWO_LINES = 14
"""With more names than this, each has one line."""


@dataclass
class _Curve:
    """One run's points by split, in the order of epochs, and how it is drawn."""

    run_id: object
    architecture: str
    points: dict[str, list[tuple[float, float]]]
    colour: str = ""
    dash: Any = "-"

    @property
    def best(self) -> tuple[float, float] | None:
        """(epoch, value) of the lowest validation loss, the first of equals."""
        return min(self.points["validation"], key=lambda p: p[1], default=None)

    @property
    def end(self) -> tuple[float, float]:
        """The last point, of validation if there is one: where the label stands."""
        return (self.points["validation"] or self.points["train"])[-1]

    @property
    def label(self) -> str:
        name = run_name(self.architecture, self.run_id)
        if self.best is None:
            return name
        return f"{name}\nbest {self.best[1]:#.4g} at epoch {self.best[0]:g}"

    @property
    def short_label(self) -> str:
        name = run_name(self.architecture, self.run_id)
        return name if self.best is None else f"{name}: {self.best[1]:#.4g}"


def learning_curves(
    rows: Rows,
    *,
    reference: float | None = None,
    reference_label: str | None = None,
    title: str = "Learning curves",
    value_label: str = "loss",
) -> bytes:
    """Draw train and validation loss per epoch, one colour per run, as a PNG of 1200 x 700 pixels.

    Validation is a full line with its best epoch ringed, train a thin pale line of the same colour.
    Each run is named where its line ends. The axis is logarithmic where the values span more than
    two powers of ten. Values that are missing, NaN or infinite are left out.

    Args:
        rows: mappings with `run_id`, `architecture`, `split` (`train` or `validation`), `epoch`
            and `value`, in any order.
        reference: a level to compare with, e.g. the best baseline's validation loss.
        reference_label: what that level is.
        title: stands above the picture.
        value_label: what the values are, with their unit.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RunError: there is nothing to draw.
        UsageError: a row is of another split.
    """
    figure = new_figure()
    curves = _curves(rows)
    axes = figure.add_axes((0.07, 0.1, 0.67, 0.78))
    for curve in curves:
        _draw(axes, curve)
    if reference is not None:
        axes.axhline(reference, color=GREY, linewidth=1.2, linestyle=(0, (2, 2)), zorder=1)
    _decorate(axes, curves, reference, title, value_label)
    short = len(curves) > _TWO_LINES
    ends = [End(c.short_label if short else c.label, c.colour, c.end) for c in curves]
    if reference is not None:
        label = cut(reference_label or "reference", 33)
        text = f"{label}{': ' if short else chr(10)}{reference:#.4g}"
        ends.append(End(text, GREY, (axes.get_xlim()[1], reference)))
    name_ends(axes, ends)
    return png(figure)


def _curves(rows: Rows) -> list[_Curve]:
    """Rows grouped by run, in the order of their first row."""
    found: dict[object, _Curve] = {}
    for row in rows:
        split = str(row["split"])
        if split not in _SPLITS:
            raise UsageError(f"a learning curve has the splits train and validation, not '{split}'")
        run = found.setdefault(
            row["run_id"],
            _Curve(row["run_id"], str(row["architecture"]), {name: [] for name in _SPLITS}),
        )
        epoch, value = number(row["epoch"]), number(row["value"])
        if finite(epoch, value):
            run.points[split].append((epoch, value))
    curves = [c for c in found.values() if any(c.points.values())]
    if not curves:
        raise RunError(
            "no losses are recorded yet, so there is no learning curve: train a run first"
        )
    for index, curve in enumerate(curves):
        curve.colour = PALETTE[index % len(PALETTE)]
        curve.dash = DASHES[index // len(PALETTE) % len(DASHES)]
        for points in curve.points.values():
            points.sort()
    return curves


def _draw(axes: Any, curve: _Curve) -> None:
    for split, points in curve.points.items():
        if not points:
            continue
        validation = split == "validation"
        axes.plot(
            *zip(*points, strict=True),
            color=curve.colour,
            linestyle=curve.dash,
            linewidth=2.2 if validation else 1.3,
            alpha=1.0 if validation else 0.45,
            marker="o" if len(points) <= 30 else None,
            markersize=5 if validation else 4,
            solid_capstyle="round",
            zorder=3 if validation else 2,
        )
    if curve.best is not None:
        axes.plot(
            *curve.best,
            marker="o",
            markersize=11,
            markerfacecolor="white",
            markeredgecolor=curve.colour,
            markeredgewidth=2.2,
            linestyle="none",
            zorder=4,
        )


def _decorate(
    axes: Any, curves: Sequence[_Curve], reference: float | None, title: str, value_label: str
) -> None:
    """Scales, grid, title and the key to the two kinds of line."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    values = [v for c in curves for points in c.points.values() for _, v in points]
    values += [] if reference is None else [reference]
    if min(values) > 0 and max(values) / min(values) > 100:
        axes.set_yscale("log")
    epochs = [e for c in curves for points in c.points.values() for e, _ in points]
    room = 0.02 * (max(epochs) - min(epochs)) or 0.9
    axes.set_xlim(min(epochs) - room, max(epochs) + room)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
    axes.margins(y=0.06)
    axes.set_title(title, loc="left", fontsize=15, fontweight="bold", pad=30)
    axes.set_xlabel("epoch", fontsize=12)
    axes.set_ylabel(value_label, fontsize=12)
    plain_axes(axes)
    ring = Line2D(
        [], [], color=GREY, linestyle="none", marker="o", markersize=9, label="best epoch"
    )
    ring.set_markerfacecolor("white")
    ring.set_markeredgewidth(2)
    legend_above(
        axes,
        [
            Line2D([], [], color=GREY, linewidth=2.2, label="validation"),
            Line2D([], [], color=GREY, linewidth=1.3, alpha=0.45, label="train"),
            ring,
        ],
    )
