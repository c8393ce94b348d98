"""What all pictures share: the canvas, colours, axes, names beside the ends of lines, PNG bytes.

Matplotlib is optional and imported when a picture is drawn. Figures are made without pyplot, so
that nothing global is touched and no display is looked for.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lvmdb.errors import MissingDependencyError

WIDTH, HEIGHT, DPI = 1200, 700, 100
"""Size in pixels, unless a picture says otherwise."""

# Okabe & Ito 2008, "Color universal design"; yellow is left out, being too pale on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (7, 2)), (0, (7, 2, 1.5, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
GREY = "#555555"

LABEL_POINTS = 10.5
"""Size of names, where there is room."""

_KEY = 0.12
"""Share of a picture's height that the key at its foot takes at most."""

_NAME = 22
"""Characters of an architecture's name that are shown."""


@dataclass(frozen=True)
class End:
    """Where a line ends, and what it is called there.

    Attributes:
        text: its name, of one line or more.
        colour: of the line.
        point: its last point, in the units of the data.
        marker: of the line, repeated before the name; None for none.
    """

    text: str
    colour: str
    point: tuple[float, float]
    marker: str | None = None


@dataclass(frozen=True)
class Style:
    """How the runs of one architecture are marked."""

    colour: str
    marker: str


def styles(names: Iterable[str]) -> dict[str, Style]:
    """A colour and a marker for each name, in the order of names; no two names have both alike.

    There are fewer colours than markers, and neither number is a multiple of the other's parts, so
    that it takes seventy names until a pair comes again.
    """
    return {
        name: Style(PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)])
        for index, name in enumerate(sorted(set(names)))
    }


def marks_below(figure: Any, chosen: Mapping[str, Style], more: Sequence[Any] = ()) -> None:
    """The key to the architectures, at the foot of a picture.

    Args:
        figure: whose lowest sixth is free.
        chosen: of `styles`.
        more: further handles, after those.
    """
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [], [], linestyle="none", marker=style.marker, markersize=8, color=style.colour,
            label=cut(name, _NAME),
        )
        for name, style in chosen.items()
    ]  # fmt: skip
    handles += more
    # As many in a line as there is room for; smaller ones where that makes too many lines.
    for size, columns in ((s, c) for s in (11.0, 9.0, 7.0) for c in (9, 8, 7, 6, 5, 4)):
        key = figure.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0.01, 0.01),
            ncols=min(len(handles), columns),
            frameon=False,
            fontsize=size,
            columnspacing=1.6,
            handletextpad=0.3,
        )
        taken = key.get_window_extent()
        if taken.x1 <= figure.bbox.width - 8 and taken.height <= _KEY * figure.bbox.height:
            return
        key.remove()
    figure.add_artist(key)


def new_figure(width: int = WIDTH, height: int = HEIGHT) -> Any:
    """An empty white matplotlib figure of so many pixels.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "plots", "drawing a picture") from error

    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Any) -> bytes:
    """The figure as the bytes of a PNG file."""
    out = io.BytesIO()
    figure.canvas.print_png(out)
    return out.getvalue()


def plain_axes(axes: Any) -> None:
    """A pale grid, and no frame but the two axes."""
    axes.tick_params(labelsize=11, length=0)
    axes.grid(color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#999999")


def legend_above(axes: Any, handles: Sequence[Any]) -> None:
    """The key, in one line between title and panel."""
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.3,
        borderpad=0,
        ncols=len(handles),
        frameon=False,
        fontsize=11,
        columnspacing=1.6,
    )


def name_ends(axes: Any, ends: Sequence[End]) -> None:
    """Write each line's name to the right of the panel, as near to its end as room allows."""
    from matplotlib.colors import to_rgb

    right = axes.get_xlim()[1]
    heights = [axes.transData.transform((right, end.point[1]))[1] for end in ends]
    bottom, top = (axes.transAxes.transform((0, y))[1] for y in (0, 1))
    # A line of text with the space around it.
    room = 1.45 * max(end.text.count("\n") + 1 for end in ends)
    size = min(LABEL_POINTS, (top - bottom) / len(ends) / room * 72 / DPI)
    placed = spread(heights, room * size * DPI / 72, bottom, top)
    # The markers' column stays free beside names that have none.
    indent = 1.055 if any(end.marker for end in ends) else 1.03
    names = []
    for end, y in zip(ends, placed, strict=True):
        height = (y - bottom) / (top - bottom)
        # The palette is made for lines; letters need more contrast.
        ink = [0.75 * part for part in to_rgb(end.colour)]
        names.append(
            axes.text(
                indent,
                height,
                end.text,
                transform=axes.transAxes,
                color=ink,
                fontsize=size,
                va="center",
                linespacing=1.15,
                parse_math=False,
            )
        )
        axes.annotate(
            "",
            xy=end.point,
            xytext=(indent - 0.003 if end.marker is None else 1.027, height),
            textcoords="axes fraction",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": end.colour,
                "linewidth": 0.8,
                "alpha": 0.6,
                "shrinkA": 0,
                "shrinkB": 3,
            },
        )
        if end.marker is not None:
            axes.plot(
                [1.04],
                [height],
                transform=axes.transAxes,
                marker=end.marker,
                markersize=min(6.0, 0.6 * size),
                color=end.colour,
                clip_on=False,
            )
    fit(names, axes.figure.bbox.width - axes.transAxes.transform((indent, 0))[0] - 8)


def fit(texts: Sequence[Any], width: float) -> None:
    """Make all texts smaller, alike, until the widest takes at most so many pixels."""
    widest = max(text.get_window_extent().width for text in texts)
    if widest > width:
        for text in texts:
            text.set_fontsize(text.get_fontsize() * width / widest)


def spread(heights: Sequence[float], gap: float, bottom: float, top: float) -> list[float]:
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


def run_name(architecture: object, run_id: object) -> str:
    """What a run is called in a picture; only the architecture is cut."""
    return f"{cut(str(architecture), _NAME)} · run {run_id}"


def cut(text: str, length: int) -> str:
    """A text of at most so many characters, with `…` where the rest was."""
    return text if len(text) <= length else text[: length - 1] + "…"


def number(value: object) -> float:
    """A number of a row; NaN where there is none."""
    return math.nan if value is None else float(str(value))


def finite(*values: float) -> bool:
    """Whether all are numbers that can be drawn."""
    return all(map(math.isfinite, values))


def short_count(value: float) -> str:
    """A count for people: `5.0 M`; nothing where there is none."""
    if not finite(value):
        return ""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds for people: `45 s`, `12 min`, `1.5 h`; nothing where there are none."""
    if not finite(seconds):
        return ""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size:
            return f"{_two_digits(seconds / size)} {unit}"
    return f"{_two_digits(seconds)} s"


def _two_digits(value: float) -> str:
    """All digits before the point, and two in all where there are fewer before it."""
    return f"{value:.2g}" if value < 9.95 else f"{value:.0f}"
