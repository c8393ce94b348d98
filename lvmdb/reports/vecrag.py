"""What `lvmdb bench vecrag` measured, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lvmdb.errors import RunError
from lvmdb.reports.layout import OTHER_VERDICT, VERDICTS, Layout, scale, with_verdict
from lvmdb.reports.plots import WIDTH, finite, number, png
from lvmdb.reports.render import Rows

_ABOVE, _BELOW = 100, 96
_NAMES, _MEASURE, _VALUES, _PANEL, _VERDICT = 18, 250, 470, (490, 930), 950
"""From the left, in pixels: contenders, measures, right end of values, the panel, words."""


def dots(rows: Rows, title: str) -> bytes:
    """Draw each contender's measures with their 95 % intervals, and its gain in words, as a PNG.

    Args:
        rows: of `evaluation.vecrag_rows.vecrag_rows`.
        title: stands above the picture.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RunError: there is nothing to draw.
    """
    if not rows:
        raise RunError("nothing was measured: there is nothing to draw")
    layout = Layout(WIDTH, _ABOVE, _BELOW, len(rows))
    axes = layout.panel(*_PANEL)
    ends = [0.0]
    for index, row in enumerate(rows):
        if index % 2 == 0:
            layout.band(index)
        ends += _row(layout, axes, index, row)
    scale(axes, min(ends), max(ends))
    first = rows[0]
    queries = f"{first['queries']:,} queries of {first['articles']:,} articles"
    layout.caption(_NAMES, 14, f"{title}: {queries}", 15, fontweight="bold", color="black")
    layout.caption(_PANEL[0], 60, "share, or mean reciprocal rank", 12, color="black")
    layout.caption(_VERDICT, 60, "gain over the plain vector", 12, color="black")
    layout.notes(
        _NAMES,
        [
            "next: the true next concept counts (P@5 is .2 at most); article: any concept of its "
            "article outside of the context.",
            "Bars: 95 % intervals, from drawing articles with replacement; gains are paired.",
        ],
    )
    return png(layout.figure)


def _row(layout: Layout, axes: Any, index: int, row: Mapping[str, Any]) -> list[float]:
    """One value; returns what the axis must hold."""
    plain = row["gain"] is None
    verdict = "" if plain else str(row["verdict"])
    colour, marker = VERDICTS["best baseline"] if plain else VERDICTS.get(verdict, OTHER_VERDICT)
    value, low, high = (number(row[name]) for name in ("value", "low", "high"))
    room = _MEASURE - _NAMES - 10
    layout.write(index, _NAMES, str(row["contender"]), colour, room=room)
    layout.write(index, _MEASURE, f"{row['measure']} {row['relevant']}", colour)
    layout.write(index, _VALUES, f"{value:.4f}", colour, right=True)
    if not plain:
        layout.write(index, _VERDICT, with_verdict(number(row["gain"]), verdict), colour)
    known = finite(low, high)
    if known:
        axes.plot([low, high], [index, index], color=colour, linewidth=2.2, zorder=2)
    axes.plot([value], [index], marker=marker, markersize=8, color=colour, zorder=3)
    return [value, low, high] if known else [value]
