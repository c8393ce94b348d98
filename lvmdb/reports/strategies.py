"""The picture of the strategies: a forest plot of differences, one row a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lvmdb.errors import RunError
from lvmdb.reports.layout import (
    OTHER_VERDICT,
    VERDICTS,
    Layout,
    reference,
    scale,
    with_verdict,
)
from lvmdb.reports.plots import cut, finite, number, png
from lvmdb.reports.render import Rows

WIDTH = 1570
"""In pixels; the height grows with the comparisons."""

SHOWN = 80
"""Comparisons in one picture."""

_ABOVE, _BELOW = 118, 88
_NAMES, _WHERE, _SEEDS = 18, 215, 478
_PANELS = {"cosine": ((500, 770), 785), "mrr": ((1030, 1300), 1315)}
"""From the left, in pixels: each panel, and the words beside it."""


def strategies(rows: Rows) -> bytes:
    """Draw what each strategy adds to cosine and MRR@10, as a PNG.

    A dot is a seed: the run with the strategy less the run without. The mark is their mean, the bar
    its 95 % interval; without one (fewer than three seeds) the mark is hollow. Right of the dashed
    zero the strategy helps.

    Args:
        rows: of the report `strategies`.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RunError: there is nothing to draw.
    """
    if not rows:
        raise RunError(
            "no run can be compared with the same run without a strategy yet: train and evaluate "
            "both, with the same seed"
        )
    newest = max(rows, key=_newest_run)
    there = [row for row in rows if _place(row) == _place(newest)]
    shown = there[:SHOWN]
    layout = Layout(WIDTH, _ABOVE, _BELOW, len(shown))
    for index, row in enumerate(shown):
        _words(layout, row, index)
    for name, (ends, _) in _PANELS.items():
        _panel(layout.panel(*ends), shown, name)
    _captions(layout, newest, rows, there)
    return png(layout.figure)


def _words(layout: Layout, row: Mapping[str, object], index: int) -> None:
    if index % 2 == 0:
        layout.band(index)
    named = f"{row['strategy']}={row['value']}".removesuffix("=true")
    layout.write(index, _NAMES, cut(named, 40), "black", room=_WHERE - _NAMES - 12)
    where = " · ".join(str(row[n]) for n in ("architecture", "configuration") if row[n])
    layout.write(index, _WHERE, cut(where, 60), "#00507d", room=_SEEDS - _WHERE - 30)
    layout.write(index, _SEEDS, str(row["seeds"]), "#555555", right=True)
    for name, (_, place) in _PANELS.items():
        verdict = _verdict(row, name)
        if verdict is not None:
            colour, _ = VERDICTS.get(verdict, OTHER_VERDICT)
            text = with_verdict(number(row[f"{name}_difference"]), verdict)
            layout.write(index, place, text, colour, room=245)


def _panel(axes: Any, rows: Rows, name: str) -> None:
    ends = [0.0]
    for index, row in enumerate(rows):
        mean, *interval = (number(row[f"{name}_{end}"]) for end in ("difference", "low", "high"))
        if not finite(mean):
            continue
        colour, marker = VERDICTS.get(_verdict(row, name) or "", OTHER_VERDICT)
        seeds = [value for value in map(number, _list(row[f"{name}_by_seed"])) if finite(value)]
        known = finite(*interval)
        if known:
            axes.plot(interval, [index, index], color=colour, linewidth=2.2, zorder=2)
        if len(seeds) > 1:
            axes.plot(
                seeds, [index] * len(seeds), linestyle="none", marker="|", markersize=11,
                color=colour, markeredgewidth=1.3, alpha=0.75, zorder=3,
            )  # fmt: skip
        axes.plot(
            [mean],
            [index],
            marker=marker,
            markersize=8,
            markerfacecolor=colour if known else "white",
            markeredgecolor=colour,
            markeredgewidth=1.6,
            zorder=4,
        )
        ends += [mean, *seeds, *(interval if known else [])]
    scale(axes, min(ends), max(ends))
    reference(axes, 0)


def _captions(layout: Layout, newest: Mapping[str, object], rows: Rows, there: Rows) -> None:
    where = f"{newest['sequence_set']}, split {newest['split']}, {number(newest['pool']):,.0f}"
    title = f"Strategies against the same run without them: {where} candidates"
    layout.caption(_NAMES, 14, title, 15, fontweight="bold", color="black")
    for left, text in (
        (_NAMES, "strategy"),
        (_WHERE, "architecture"),
        (_PANELS["cosine"][0][0], "difference of cosine"),
        (_PANELS["mrr"][0][0], "difference of MRR@10"),
    ):
        layout.caption(left, 60, text, 12, color="black")
    layout.caption(_SEEDS, 60, "seeds", 12, color="black", ha="right")
    for ends, _ in _PANELS.values():
        layout.caption(ends[0], 86, "right of the dashed line: better with it")
    notes = [
        "Marks: means over seeds, each paired with the run without; bars: Student's 95 % interval "
        "of the mean; ticks: seeds; hollow: no interval, of fewer than three seeds."
    ]
    more = []
    if len(there) > SHOWN:
        more.append(f"The first {SHOWN} of {len(there)} comparisons.")
    if len(there) < len(rows):
        more.append("Other sets and pools are in the table.")
    layout.notes(_NAMES, [*notes, " ".join(more)])


def _verdict(row: Mapping[str, object], name: str) -> str | None:
    found = row["verdict" if name == "cosine" else "mrr_verdict"]
    return None if found is None else str(found)


def _place(row: Mapping[str, object]) -> tuple[object, ...]:
    return (row["sequence_set"], row["split"], row["pool"])


def _newest_run(row: Mapping[str, object]) -> int:
    return max(map(int, str(row["runs"]).split()))


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, (list, tuple)) else ()
