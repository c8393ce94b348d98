"""The picture of the leaderboard: a forest plot of cosines and of gains, one row a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from lvmdb.errors import RunError
from lvmdb.reports.layout import (
    BASELINE,
    OTHER_VERDICT,
    VERDICTS,
    Layout,
    reference,
    scale,
    with_verdict,
)
from lvmdb.reports.plots import GREY, finite, number, png, run_name
from lvmdb.reports.render import Rows

WIDTH = 1300
"""In pixels; the height grows with the runs."""

SHOWN = 100
"""Runs in one picture."""

_ABOVE, _BELOW = 118, 88
_NAMES, _VALUES, _COSINE, _GAIN, _VERDICT = 18, 372, (392, 700), (748, 1040), 1058
"""From the left, in pixels: names, right end of values, the two panels, words."""

_MODEL = "#0072B2"


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
    layout = Layout(WIDTH, _ABOVE, _BELOW, len(shown))
    cosine, gain = (layout.panel(*ends) for ends in (_COSINE, _GAIN))
    for index, row in enumerate(shown):
        _words(layout, row, index)
    _draw_cosines(cosine, shown, best=_best_baseline(rows))
    arrows = _draw_gains(gain, shown)
    _captions(layout, rows, arrows)
    return png(layout.figure)


def _words(layout: Layout, row: Mapping[str, object], index: int) -> None:
    """Name and cosine at the left, gain and verdict at the right, every second row on a band."""
    if index % 2 == 0:
        layout.band(index)
    ink = "#555555" if _is_baseline(row) else "#00507d"
    verdict = _verdict(row)
    colour, _ = VERDICTS.get(verdict, OTHER_VERDICT)
    name = run_name(row["architecture"], row["run_id"])
    layout.write(index, _NAMES, name, ink, room=_VALUES - _NAMES - 70)
    layout.write(index, _VALUES, f"{number(row['cosine']):.4f}", ink, right=True)
    layout.write(index, _VERDICT, with_verdict(number(row["cosine_gain"]), verdict), colour)


def _draw_cosines(axes: Any, rows: Rows, best: Mapping[str, object] | None) -> None:
    bars = [_bar(row, "cosine") for row in rows]
    for index, (row, bar) in enumerate(zip(rows, bars, strict=True)):
        colour = BASELINE if _is_baseline(row) else _MODEL
        _draw(axes, bar, index, colour, "s" if _is_baseline(row) else "o")
    ends = [end for bar in bars for end in bar.ends]
    if best is not None:
        value = number(best["cosine"])
        ends.append(value)
        reference(axes, value)
    scale(axes, min(ends), max(ends))


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
    low, high = scale(axes, min(0.0, *near), max(0.0, *near))
    reference(axes, 0)
    for index, bar in bars.items():
        colour, marker = VERDICTS.get(_verdict(rows[index]), OTHER_VERDICT)
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


def _captions(layout: Layout, rows: Rows, arrows: bool) -> None:
    """Title, heads of the panels, and what must be known to read them."""
    first, best, write = rows[0], _best_baseline(rows), layout.caption
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
    layout.notes(_NAMES, [notes[0], " ".join(notes[1:])])


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
