"""Pictures with one row a thing: names and numbers beside panels that share the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lvmdb.reports.plots import GREY, finite, fit, new_figure, plain_axes

ROW = 30
"""Height of a row in pixels."""

BASELINE = "#7a7a7a"
VERDICTS = {
    "better": ("#00734F", "^"),
    "worse": ("#B34700", "v"),
    "not distinguishable": ("#333333", "o"),
    "best baseline": (BASELINE, "D"),
}
OTHER_VERDICT = (BASELINE, "o")
"""Of verdicts that say why there is none."""

_NOISE = 1e-5
"""Values nearer than this are the same, whatever the axis could show."""


class Layout:
    """A white picture of so many rows, the first on top.

    Args:
        width: in pixels, as all places are.
        above, below: room for titles and for notes.
        rows: how many.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """

    def __init__(self, width: int, above: int, below: int, rows: int) -> None:
        self.width, self.height = width, above + ROW * rows + below
        self._above, self._below, self._rows = above, below, rows
        self.figure = new_figure(width, self.height)

    def panel(self, left: int, right: int) -> Any:
        """Axes from one place to the other, whose unit of height is a row."""
        axes = self.figure.add_axes(
            (
                left / self.width,
                self._below / self.height,
                (right - left) / self.width,
                ROW * self._rows / self.height,
            )
        )
        axes.set_facecolor("none")
        axes.set_ylim(self._rows - 0.5, -0.5)
        plain_axes(axes)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        axes.set_yticks([])
        return axes

    def band(self, index: int) -> None:
        """Shade a row."""
        from matplotlib.patches import Rectangle

        corner = (0, self._middle(index) - ROW / 2 / self.height)
        band = Rectangle(corner, 1, ROW / self.height, facecolor="#f5f5f5")
        band.set_transform(self.figure.transFigure)
        band.set_zorder(-1)
        self.figure.add_artist(band)

    def write(
        self,
        index: int,
        place: int,
        text: str,
        colour: str,
        *,
        right: bool = False,
        room: int | None = None,
    ) -> None:
        """Write in a row.

        Args:
            index: of the row.
            place: of the text's left end, or its right one.
            text: of one line.
            colour: of the letters.
            right: the place is that of the right end.
            room: the text is made smaller until it takes at most so much.
        """
        written = self.figure.text(
            place / self.width,
            self._middle(index),
            text,
            fontsize=10.5,
            color=colour,
            ha="right" if right else "left",
            va="center",
            parse_math=False,
        )
        if room is not None:
            fit([written], room)

    def caption(self, left: int, top: int, text: str, size: float = 10.5, **style: Any) -> None:
        """Write above or below the rows, from a place to the right; it is made to fit."""
        given = {"color": GREY, "va": "top", "parse_math": False, **style}
        written = self.figure.text(
            left / self.width, 1 - top / self.height, text, fontsize=size, **given
        )
        fit([written], self.width - left - 10)

    def notes(self, left: int, lines: Sequence[str]) -> None:
        """Two lines, or one, at the bottom."""
        self.caption(left, self.height - 46, "\n".join(lines), 10)

    def _middle(self, index: int) -> float:
        return 1 - (self._above + ROW * (index + 0.5)) / self.height


def scale(axes: Any, low: float, high: float) -> tuple[float, float]:
    """Set the axis of values, with a little room on both sides; returns its ends."""
    from matplotlib.ticker import MaxNLocator

    room = 0.06 * (high - low)
    if high - low < _NOISE:
        room = max(_NOISE, 0.1 * abs(low))
    axes.set_xlim(low - room, high + room)
    # Tiny differences have long labels, of which fewer fit.
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5 if high - low + 2 * room > 1e-3 else 3))
    axes.ticklabel_format(axis="x", style="plain", useOffset=False)
    axes.tick_params(axis="x", labelsize=10)
    return low - room, high + room


def reference(axes: Any, value: float) -> None:
    """A dashed vertical line to compare with."""
    axes.axvline(value, color=GREY, linewidth=1.3, linestyle=(0, (4, 2)), zorder=1)


def signed(value: float) -> str:
    """With its sign; what four decimals would show as nothing has an exponent."""
    if value == 0:
        return "0"
    text = f"{value:+.4f}" if abs(value) >= 0.5e-4 else f"{value:+.0e}"
    return text.replace("-", "\N{MINUS SIGN}")


def with_verdict(value: float, verdict: str) -> str:
    """A difference and what is to be said of it."""
    return f"{signed(value)}  {verdict}" if finite(value) else verdict
