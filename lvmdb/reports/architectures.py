"""The picture of the architectures: all their runs as dots, the best of each, one row a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
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
from lvmdb.reports.plots import cut, duration, finite, number, png, short_count
from lvmdb.reports.render import Rows

WIDTH = 1540
"""In pixels; the height grows with the architectures."""

_ABOVE, _BELOW = 118, 88
_NAMES, _RUNS, _COSINE, _MRR, _VERDICT, _SIZE, _TIME = (
    18, 262, (290, 680), (720, 1020), 1040, 1430, 1520
)  # fmt: skip
"""From the left, in pixels: names, right end of counts, the two panels, words, right ends."""

_MODEL = "#0072B2"

_FAR = 4
"""What is so many times as far behind the best as the median run is drawn as an arrow."""


def architectures(rows: Rows) -> bytes:
    """Draw cosine and MRR@10 of every run by architecture, the best architecture on top, as a PNG.

    A pale dot is a run, a bar across the row their mean; the large mark is the run of the best
    validation cosine, with its 95 % interval, and the words are about it. Models are blue circles,
    baselines grey squares. The dashed lines are the best baseline's cosine and the best MRR@10 of
    any baseline.

    Args:
        rows: of the statement `architectures` of `sql/pictures.sql`.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RunError: there is nothing to draw.
    """
    groups = _groups(rows)
    if not groups:
        raise RunError("no run has been evaluated there yet: 'lvmdb evaluate --run-id N' does it")
    layout = Layout(WIDTH, _ABOVE, _BELOW, len(groups))
    for index, group in enumerate(groups):
        _words(layout, group, index)
    arrows = [_panel(layout.panel(*_COSINE), groups, "cosine")]
    arrows.append(_panel(layout.panel(*_MRR), groups, "mrr_10"))
    _captions(layout, rows, arrows=any(arrows))
    return png(layout.figure)


def _groups(rows: Rows) -> list[list[Mapping[str, object]]]:
    """Runs by kind and architecture, each group's best run first, the best group first."""
    found: dict[tuple[object, object], list[Mapping[str, object]]] = {}
    for row in sorted(rows, key=lambda row: not row["best"]):
        found.setdefault((row["kind"], row["architecture"]), []).append(row)
    return sorted(found.values(), key=lambda group: -number(group[0]["cosine"]))


def _words(layout: Layout, group: Sequence[Mapping[str, object]], index: int) -> None:
    if index % 2 == 0:
        layout.band(index)
    best = group[0]
    ink = "#555555" if _is_baseline(best) else "#00507d"
    gain = number(best["cosine_gain"])
    verdict = best["cosine_verdict"] or ("no interval" if finite(gain) else "no baseline")
    colour, _ = VERDICTS.get(str(verdict), OTHER_VERDICT)
    runs = "1 run" if len(group) == 1 else f"{len(group)} runs"
    name = cut(str(best["architecture"]), 28)
    layout.write(index, _NAMES, name, ink, room=_RUNS - _NAMES - 70)
    layout.write(index, _RUNS, runs, ink, right=True)
    text = f"{number(best['cosine']):.4f}  {with_verdict(gain, str(verdict))}"
    layout.write(index, _VERDICT, text, colour, room=_SIZE - _VERDICT - 70)
    layout.write(index, _SIZE, short_count(number(best["parameter_count"])), ink, right=True)
    layout.write(index, _TIME, duration(number(best["seconds"])), ink, right=True)


def _panel(axes: Any, groups: Sequence[Sequence[Mapping[str, object]]], name: str) -> bool:
    """One value of all runs.

    Returns:
        Whether any lies beyond the axis.
    """
    rows = [row for group in groups for row in group]
    values = [value for row in rows if finite(value := number(row[name]))]
    if not values:
        return False
    baselines = [number(row[name]) for row in rows if _is_baseline(row)]
    known = [value for value in baselines if finite(value)]
    # What is far below the others would press them together.
    behind = [max(values) - value for value in values]
    kept = [max(values) - back for back in behind if back <= _FAR * median(behind)]
    ends = [number(row.get(name + end)) for row in rows for end in ("_low", "_high")]
    kept += [end for end in ends if min(kept) <= end]
    low, _ = scale(axes, min(kept), max(kept))
    if known:
        reference(axes, max(known))
    for index, group in enumerate(groups):
        _dots(axes, group, name, index, low)
        _best(axes, group[0], name, index, low)
    return min(values) < low


def _dots(
    axes: Any, group: Sequence[Mapping[str, object]], name: str, index: int, low: float
) -> None:
    """All runs of a row, and their mean where there are several."""
    values = [value for row in group if finite(value := number(row[name]))]
    colour = BASELINE if _is_baseline(group[0]) else _MODEL
    drawn = [value for value in values if value >= low]
    axes.plot(
        drawn, [index] * len(drawn), linestyle="none", marker="o", markersize=6, color=colour,
        markeredgewidth=0, alpha=0.35, zorder=2,
    )  # fmt: skip
    if len(drawn) < len(values):
        axes.plot([low], [index], marker="<", markersize=8, color=colour, clip_on=False)
    if len(values) > 1 and (mean := fmean(values)) >= low:
        across = [index - 0.36, index + 0.36]
        axes.plot([mean, mean], across, color="black", linewidth=1.4, zorder=3)


def _best(axes: Any, row: Mapping[str, object], name: str, index: int, low: float) -> None:
    """The best run's value, and its interval where there is one."""
    colour = BASELINE if _is_baseline(row) else _MODEL
    value = number(row[name])
    ends = [number(row.get(name + end)) for end in ("_low", "_high")]
    if finite(*ends) and ends[0] >= low:
        axes.plot(ends, [index, index], color=colour, linewidth=2.2, zorder=4)
    if finite(value) and value >= low:
        axes.plot(
            [value],
            [index],
            marker="s" if _is_baseline(row) else "o",
            markersize=8.5,
            markerfacecolor=colour,
            markeredgecolor="white",
            markeredgewidth=1.2,
            zorder=5,
        )


def _captions(layout: Layout, rows: Rows, *, arrows: bool) -> None:
    first = rows[0]
    where = (
        f"{first['sequence_set']}, split {first['split']}: {first['queries']:,} windows"
        + (f" of {first['articles']:,} articles" if first["articles"] is not None else "")
        + f", {first['pool_size']:,} candidates"
    )
    layout.caption(_NAMES, 14, f"Architectures: {where}", 15, fontweight="bold", color="black")
    layout.caption(_COSINE[0], 60, "cosine of prediction and truth", 12, color="black")
    layout.caption(_MRR[0], 60, "MRR@10", 12, color="black")
    layout.caption(_VERDICT, 60, "best run: cosine, and to the best baseline", 12, color="black")
    layout.caption(_VERDICT, 86, "its verdict; parameters; time to train")
    baselines = [row for row in rows if _is_baseline(row)]
    if baselines:
        best = max(baselines, key=lambda row: number(row["cosine"]))
        layout.caption(_COSINE[0], 86, f"dashed: {best['architecture']}, the best baseline")
        ranked = [row for row in baselines if finite(number(row["mrr_10"]))]
        if ranked:
            best = max(ranked, key=lambda row: number(row["mrr_10"]))
            layout.caption(_MRR[0], 86, f"dashed: {best['architecture']}, the best baseline")
    notes = [
        "Pale dots: runs; black bars: their mean. Large marks: the run of the best validation "
        "cosine, with its 95 % interval; circles are models, squares baselines."
    ]
    more = ["Arrows: beyond the axis."] if arrows else []
    if int(str(first["places"])) > 1:
        more.append("Other sets and pools are in the table.")
    layout.notes(_NAMES, [*notes, " ".join(more)])


def _is_baseline(row: Mapping[str, object]) -> bool:
    return row["kind"] == "baseline"
