"""The picture of the leaderboard: a forest plot of cosines and of gains, one row a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from lvmdb.errors import RunError
from lvmdb.reports.plots import (
    GREY,
    finite,
    fit,
    new_figure,
    number,
    plain_axes,
    png,
    run_name,
)
from lvmdb.reports.render import Rows

WIDTH = 1300
"""In pixels; the height grows with the runs."""

SHOWN = 100
"""Runs in one picture."""

_NOISE = 1e-5
"""Values nearer than this are the same, whatever the axis could show."""

_ROW, _ABOVE, _BELOW = 30, 118, 88
_NAMES, _VALUES, _COSINE, _GAIN, _VERDICT = 18, 372, (392, 700), (748, 1040), 1058
"""From the left, in pixels: names, right end of values, the two panels, words."""

_MODEL, _BASELINE = "#0072B2", "#7a7a7a"
_VERDICTS = {
    "better": ("#00734F", "^"),
    "worse": ("#B34700", "v"),
    "not distinguishable": ("#333333", "o"),
    "best baseline": (_BASELINE, "D"),
}
_OTHER = (_BASELINE, "o")
"""Of verdicts that say why there is none."""


@dataclass(frozen=True)
class _Bar:
    """A value and the ends of its interval, NaN where there is none."""

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        return finite(self.low, self.high)

    @property
    def ends(self) -> tuple[float, float]:
        """What the axis must hold."""
        return (self.low, self.high) if self.known else (self.value, self.value)

    @property
    def size(self) -> float:
        return max(map(abs, (*self.ends, self.value)))


def forest(rows: Rows) -> bytes:
    """Draw cosines with their 95 % intervals, and gains over the best baseline, as a PNG.

    Models are blue circles, baselines grey squares; the best baseline's cosine is a vertical line.
    The verdict on a gain has a colour, a marker and words. A marker is hollow where there is no
    interval. Losses far below the others are arrows at the edge, so that the others can be told
    apart; their numbers are beside.

    Args:
        rows: of the statement `leaderboard` of `sql/pictures.sql`, best first.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RunError: there is nothing to draw.
    """
    if not rows:
        raise RunError("no run has been evaluated yet: 'lvmdb evaluate --run-id N' does it")
    shown = rows[:SHOWN]
    height = _ABOVE + _ROW * len(shown) + _BELOW
    figure = new_figure(WIDTH, height)
    cosine, gain = (_panel(figure, ends, len(shown), height) for ends in (_COSINE, _GAIN))
    for index, row in enumerate(shown):
        _words(figure, row, 1 - (_ABOVE + _ROW * (index + 0.5)) / height, index, height)
    _draw_cosines(cosine, shown, best=_best_baseline(rows))
    arrows = _draw_gains(gain, shown)
    _captions(figure, rows, arrows, height)
    return png(figure)


def _panel(figure: Any, ends: tuple[int, int], rows: int, height: int) -> Any:
    left, right = ends
    axes = figure.add_axes(
        (left / WIDTH, _BELOW / height, (right - left) / WIDTH, _ROW * rows / height)
    )
    axes.set_facecolor("none")
    axes.set_ylim(rows - 0.5, -0.5)
    plain_axes(axes)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.set_yticks([])
    return axes


def _words(figure: Any, row: Mapping[str, object], y: float, index: int, height: int) -> None:
    """Name and cosine at the left, gain and verdict at the right, every second row on a band."""
    from matplotlib.patches import Rectangle

    if index % 2 == 0:
        band = Rectangle((0, y - _ROW / 2 / height), 1, _ROW / height, facecolor="#f5f5f5")
        band.set_transform(figure.transFigure)
        band.set_zorder(-1)
        figure.add_artist(band)
    ink = "#555555" if _is_baseline(row) else "#00507d"
    verdict, gain = _verdict(row), number(row["cosine_gain"])
    colour, _ = _VERDICTS.get(verdict, _OTHER)
    shown = verdict if not finite(gain) else f"{_signed(gain)}  {verdict}"
    for x, text, tint, side in (
        (_NAMES, run_name(row["architecture"], row["run_id"]), ink, "left"),
        (_VALUES, f"{number(row['cosine']):.4f}", ink, "right"),
        (_VERDICT, shown, colour, "left"),
    ):
        style = {"color": tint, "ha": side, "va": "center", "parse_math": False}
        written = figure.text(x / WIDTH, y, text, fontsize=10.5, **style)
        if x == _NAMES:
            fit([written], _VALUES - _NAMES - 70)


def _draw_cosines(axes: Any, rows: Rows, best: Mapping[str, object] | None) -> None:
    bars = [_bar(row, "cosine") for row in rows]
    for index, (row, bar) in enumerate(zip(rows, bars, strict=True)):
        colour = _BASELINE if _is_baseline(row) else _MODEL
        _draw(axes, bar, index, colour, "s" if _is_baseline(row) else "o")
    ends = [end for bar in bars for end in bar.ends]
    if best is not None:
        value = number(best["cosine"])
        ends.append(value)
        axes.axvline(value, color=GREY, linewidth=1.3, linestyle=(0, (4, 2)), zorder=1)
    _scale(axes, min(ends), max(ends))


def _draw_gains(axes: Any, rows: Rows) -> bool:
    """Gains and their zero line.

    Returns:
        Whether any lies beyond the axis.
    """
    bars = {index: _bar(row, "cosine_gain") for index, row in enumerate(rows)}
    bars = {index: bar for index, bar in bars.items() if finite(bar.value)}
    if not bars:
        axes.set_xticks([])
        axes.text(
            0.5, 0.5, "no baseline to compare with", ha="center", va="center",
            transform=axes.transAxes, color=GREY, fontsize=11,
        )  # fmt: skip
        return False
    # The best baseline's own gain is 0 and says nothing about the scale.
    sizes = [bar.size for bar in bars.values() if bar.size > 0] or [1.0]
    limit = max(size for size in sizes if size <= 2 * median(sizes))
    kept = [bar for bar in bars.values() if bar.value >= 0 or bar.size <= limit]
    near = [end for bar in kept for end in (*bar.ends, bar.value)]
    low, high = _scale(axes, min(0.0, *near), max(0.0, *near))
    axes.axvline(0, color=GREY, linewidth=1.3, linestyle=(0, (4, 2)), zorder=1)
    for index, bar in bars.items():
        colour, marker = _VERDICTS.get(_verdict(rows[index]), _OTHER)
        if low <= bar.value <= high:
            _draw(axes, bar, index, colour, marker)
            beyond = [end for end in bar.ends if not low <= end <= high]
        else:
            beyond = [bar.value]
        for end in beyond:
            edge, arrow = (low, "<") if end < low else (high, ">")
            axes.plot([edge], [index], marker=arrow, markersize=8, color=colour, clip_on=False)
    return any(not low <= end <= high for bar in bars.values() for end in bar.ends)


def _draw(axes: Any, bar: _Bar, index: int, colour: str, marker: str) -> None:
    if bar.known:
        axes.plot([bar.low, bar.high], [index, index], color=colour, linewidth=2.2, zorder=2)
    axes.plot(
        [bar.value],
        [index],
        marker=marker,
        markersize=8,
        markerfacecolor=colour if bar.known or marker == "D" else "white",
        markeredgecolor=colour,
        markeredgewidth=1.6,
        zorder=3,
    )


def _scale(axes: Any, low: float, high: float) -> tuple[float, float]:
    """Set the axis with a little room on both sides."""
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


def _captions(figure: Any, rows: Rows, arrows: bool, height: int) -> None:
    """Title, heads of the panels, and what must be known to read them."""
    first, best = rows[0], _best_baseline(rows)

    def write(x: float, from_top: float, text: str, size: float = 10.5, **more: Any) -> None:
        style = {"color": GREY, "va": "top", "parse_math": False, **more}
        written = figure.text(x / WIDTH, 1 - from_top / height, text, fontsize=size, **style)
        fit([written], WIDTH - x - 10)

    where = (
        f"{first['sequence_set']}, split {first['split']}: {first['queries']:,} windows"
        + (f" of {first['articles']:,} articles" if first["articles"] is not None else "")
        + f", {first['pool_size']:,} candidates"
    )
    write(_NAMES, 14, f"Leaderboard: {where}", 15, fontweight="bold", color="black")
    write(_COSINE[0], 60, "cosine of prediction and truth", 12, color="black")
    write(_GAIN[0], 60, "gain over the best baseline", 12, color="black")
    if best is not None:
        name = run_name(best["architecture"], best["run_id"])
        write(_COSINE[0], 86, f"dashed: best baseline, {number(best['cosine']):.4f}")
        write(_GAIN[0], 86, f"dashed: no gain over {name}")
    notes = [
        "Circles: models; squares: baselines. Bars: 95 % intervals, from drawing articles with "
        "replacement" + (
            "; hollow: no interval, too few articles or not computed." if _lacking(rows) else "."
        )
    ]  # fmt: skip
    if arrows:
        notes.append("Arrows: beyond the axis; the number is beside.")
    if len(rows) > SHOWN:
        notes.append(f"The best {SHOWN} of {len(rows)} runs.")
    if int(str(first["places"])) > 1:
        notes.append("Other sets, splits and pools are in the table.")
    write(_NAMES, height - 46, "\n".join([notes[0], " ".join(notes[1:])]), 10)


def _lacking(rows: Rows) -> bool:
    """Whether any interval is missing; the best baseline's own gain needs none."""
    gains = [_bar(row, "cosine_gain") for row in rows if _verdict(row) != "best baseline"]
    lacking = [bar for bar in gains if finite(bar.value) and not bar.known]
    return bool(lacking) or any(not _bar(row, "cosine").known for row in rows)


def _best_baseline(rows: Sequence[Mapping[str, object]]) -> Mapping[str, object] | None:
    found = [row for row in rows if row["cosine_verdict"] == "best baseline"]
    return found[0] if found else None


def _bar(row: Mapping[str, object], name: str) -> _Bar:
    return _Bar(*(number(row[name + end]) for end in ("", "_low", "_high")))


def _is_baseline(row: Mapping[str, object]) -> bool:
    return row["kind"] == "baseline"


def _verdict(row: Mapping[str, object]) -> str:
    """The verdict in words, or why there is none."""
    if row["cosine_verdict"] is not None:
        return str(row["cosine_verdict"])
    return "no interval" if finite(number(row["cosine_gain"])) else "no baseline"


def _signed(gain: float) -> str:
    """With its sign; what four decimals would show as nothing has an exponent."""
    if gain == 0:
        return "0"
    text = f"{gain:+.4f}" if abs(gain) >= 0.5e-4 else f"{gain:+.0e}"
    return text.replace("-", "\N{MINUS SIGN}")
