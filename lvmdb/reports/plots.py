"""Pictures of what a run did. One so far: the learning curves.

Matplotlib is optional and imported when a picture is drawn. Figures are made without pyplot, so
that nothing global is touched and no display is looked for.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from lvmdb.errors import InputError, MissingDependencyError, RunError, UsageError

WIDTH, HEIGHT, DPI = 1200, 700, 100
"""Size in pixels."""

# Okabe & Ito 2008, "Color universal design"; yellow is left out, being too pale on white.
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", (0, (7, 2)), (0, (7, 2, 1.5, 2)))
_SPLITS = ("train", "validation")
_GREY = "#555555"
_LABEL_POINTS = 10.5


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
        name = f"{self.architecture} · run {self.run_id}"
        if self.best is None:
            return name
        return f"{name}\nbest {self.best[1]:#.4g} at epoch {self.best[0]:g}"


def learning_curves(
    rows: Sequence[Mapping[str, object]],
    path: Path,
    *,
    reference: float | None = None,
    reference_label: str | None = None,
    title: str = "Learning curves",
    value_label: str = "loss",
) -> None:
    """Draw train and validation loss per epoch, one colour per run, as a PNG of 1200 x 700 pixels.

    Validation is a full line with its best epoch ringed, train a thin pale line of the same colour.
    Each run is named where its line ends. The axis is logarithmic where the values span more than
    two powers of ten. Values that are missing, NaN or infinite are left out. The file appears
    whole or not at all.

    Args:
        rows: mappings with `run_id`, `architecture`, `split` (`train` or `validation`), `epoch`
            and `value`, in any order.
        path: the file to write; folders are made.
        reference: a level to compare with, e.g. the best baseline's validation loss.
        reference_label: what that level is.
        title: stands above the picture.
        value_label: what the values are, with their unit.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RunError: there is nothing to draw.
        UsageError: a row is of another split.
        InputError: the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "plots", "drawing a picture") from error

    curves = _curves(rows)
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.07, 0.1, 0.67, 0.78))
    for curve in curves:
        _draw(axes, curve)
    if reference is not None:
        axes.axhline(reference, color=_GREY, linewidth=1.2, linestyle=(0, (2, 2)), zorder=1)
    _decorate(axes, curves, reference, title, value_label)
    _name_lines(axes, curves, reference, reference_label)
    _save(canvas, path)


def _curves(rows: Sequence[Mapping[str, object]]) -> list[_Curve]:
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
        epoch, value = _float(row["epoch"]), _float(row["value"])
        if math.isfinite(epoch) and math.isfinite(value):
            run.points[split].append((epoch, value))
    curves = [c for c in found.values() if any(c.points.values())]
    if not curves:
        raise RunError(
            "no losses are recorded yet, so there is no learning curve: train a run first"
        )
    for index, curve in enumerate(curves):
        curve.colour = _PALETTE[index % len(_PALETTE)]
        curve.dash = _DASHES[index // len(_PALETTE) % len(_DASHES)]
        for points in curve.points.values():
            points.sort()
    return curves


def _float(value: object) -> float:
    return math.nan if value is None else float(str(value))


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
    axes.tick_params(labelsize=11, length=0)
    axes.grid(color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#999999")
    ring = Line2D(
        [], [], color=_GREY, linestyle="none", marker="o", markersize=9, label="best epoch"
    )
    ring.set_markerfacecolor("white")
    ring.set_markeredgewidth(2)
    axes.legend(
        handles=[
            Line2D([], [], color=_GREY, linewidth=2.2, label="validation"),
            Line2D([], [], color=_GREY, linewidth=1.3, alpha=0.45, label="train"),
            ring,
        ],
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.3,
        borderpad=0,
        ncols=3,
        frameon=False,
        fontsize=11,
        columnspacing=1.6,
    )


def _name_lines(
    axes: Any, curves: Sequence[_Curve], reference: float | None, reference_label: str | None
) -> None:
    """Write each line's name to the right of the panel, as near to its end as room allows."""
    from matplotlib.colors import to_rgb

    right = axes.get_xlim()[1]
    names = [(c.label, c.colour, c.end) for c in curves]
    if reference is not None:
        label = f"{shorten(reference_label or 'reference', 33, placeholder='…')}\n{reference:#.4g}"
        names.append((label, _GREY, (right, reference)))
    heights = [axes.transData.transform((right, point[1]))[1] for _, _, point in names]
    bottom, top = (axes.transAxes.transform((0, y))[1] for y in (0, 1))
    size = min(_LABEL_POINTS, (top - bottom) / len(names) / 2.9 * 72 / DPI)
    placed = _spread(heights, 2.9 * size * DPI / 72, bottom, top)
    for (text, colour, point), y in zip(names, placed, strict=True):
        axes.annotate(
            text,
            xy=point,
            xytext=(1.03, (y - bottom) / (top - bottom)),
            textcoords="axes fraction",
            # The palette is made for lines; letters need more contrast.
            color=[0.75 * part for part in to_rgb(colour)],
            fontsize=size,
            va="center",
            linespacing=1.15,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.8,
                "alpha": 0.6,
                "shrinkA": 1,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
        )


def _spread(heights: Sequence[float], gap: float, bottom: float, top: float) -> list[float]:
    """Move heights apart until neighbours are `gap` from each other, within bottom and top.

    The order stays; each is pushed up from the one below, then down from the top where they would
    leave the panel.
    """
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = list(heights)
    floor = bottom + gap / 2
    for i in order:
        placed[i] = floor = max(placed[i], floor)
        floor += gap
    ceiling = top - gap / 2
    for i in reversed(order):
        placed[i] = ceiling = min(placed[i], ceiling)
        ceiling -= gap
    return placed


def _save(canvas: Any, path: Path) -> None:
    """Write beside the file, then rename: a reader sees the old picture or the new one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            temporary = Path(folder) / path.name
            with temporary.open("wb") as file:
                canvas.print_png(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
