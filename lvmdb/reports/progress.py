"""The picture of a schedule's progress: its runs in order, and the best so far."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from lvmdb.errors import RunError
from lvmdb.reports.plots import (
    GREY,
    HEIGHT,
    PALETTE,
    End,
    Style,
    finite,
    fit,
    marks_below,
    name_ends,
    new_figure,
    number,
    plain_axes,
    png,
    run_name,
    styles,
)
from lvmdb.reports.render import Rows

WIDTH = 1400
"""In pixels."""

_BEST, _TEST = "black", PALETTE[0]


def progress(rows: Rows) -> bytes:
    """Draw a schedule's validation cosines in order and the best so far, as a PNG.

    Every mark is a run that succeeded, its colour and marker its architecture's; crosses at the
    foot are runs that failed. The black line is the best so far by validation, the blue one the
    same run's cosine on the test windows, the dashed one the best baseline on validation.

    Args:
        rows: of the statement `weeks` of `sql/pictures.sql`.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RunError: there is nothing to draw.
    """
    done = [
        (place, row)
        for place, row in enumerate(rows, start=1)
        if row["status"] == "succeeded" and finite(number(row["val_cosine"]))
    ]
    if not done:
        raise RunError("no run of a schedule has succeeded yet: 'lvmdb schedule status' says more")
    chosen = styles(str(row["architecture"]) for _, row in done)
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.add_axes((0.06, 0.2, 0.735, 0.66))
    axes.set_xlim(0.5, len(rows) + 0.5)
    for place, row in done:
        style = chosen[str(row["architecture"])]
        axes.plot(
            [place],
            [number(row["val_cosine"])],
            linestyle="none",
            marker=style.marker,
            markersize=7.5,
            markerfacecolor=style.colour,
            markeredgecolor="white",
            markeredgewidth=0.6,
            zorder=3,
        )
    ends = _best_lines(axes, done, len(rows))
    baseline = number(rows[0]["baseline_cosine"])
    if finite(baseline):
        axes.axhline(baseline, color=GREY, linewidth=1.3, linestyle=(0, (4, 2)), zorder=1)
        text = f"{rows[0]['baseline']}, validation:\n{baseline:.4f}"
        ends.append(End(text, GREY, (len(rows) + 0.5, baseline)))
    _decorate(axes, rows)
    name_ends(axes, ends)
    _captions(figure, rows, chosen)
    return png(figure)


def _best_lines(axes: Any, done: list[tuple[int, Mapping[str, object]]], last: int) -> list[End]:
    """The best so far and its cosine on the test windows, as steps to the end of what is done."""
    best: Mapping[str, object] | None = None
    points: list[tuple[float, float, float]] = []
    for place, row in done:
        if best is None or number(row["val_cosine"]) > number(best["val_cosine"]):
            best = row
        points.append((place, number(best["val_cosine"]), number(best["test_cosine"])))
    assert best is not None
    places, validation, test = zip(*points, strict=True)
    axes.step(places, validation, where="post", color=_BEST, linewidth=2.0, zorder=2)
    name = run_name(best["architecture"], best["run_id"])
    ends = [
        End(f"best, validation:\n{validation[-1]:.4f}, {name}", _BEST, (places[-1], validation[-1]))
    ]
    if any(map(finite, test)):
        axes.step(places, test, where="post", color=_TEST, linewidth=2.0, alpha=0.8, zorder=2)
        known = [(place, value) for place, value in zip(places, test, strict=True) if finite(value)]
        ends.append(End(f"the same run, test:\n{known[-1][1]:.4f}", _TEST, known[-1]))
    return ends


def _decorate(axes: Any, rows: Rows) -> None:
    """Bands and names of the weeks, crosses for what failed."""
    from matplotlib.ticker import MaxNLocator

    plain_axes(axes)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True, min_n_ticks=1))
    axes.margins(y=0.08)
    low, high = axes.get_ylim()
    foot = low - 0.04 * (high - low)
    failed = [place for place, row in enumerate(rows, start=1) if row["status"] == "failed"]
    if failed:
        axes.plot(
            failed, [foot] * len(failed), linestyle="none", marker="x", color=PALETTE[1],
            markersize=7, markeredgewidth=1.8, zorder=4,
        )  # fmt: skip
    axes.set_ylim(foot - 0.04 * (high - low), high)
    begin = 0.5
    for index, (week, entries) in enumerate(groupby(rows, key=lambda row: row["week"])):
        end = begin + len(list(entries))
        if index % 2 == 0:
            axes.axvspan(begin, end, color="#f5f5f5", zorder=0, linewidth=0)
        middle = ((begin + end) / 2, 1.0)
        named = axes.annotate(
            f"week {week}", middle, (0, 4), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="center", fontsize=11, color=GREY,
        )  # fmt: skip
        across = axes.transData.transform([(begin, 0), (end, 0)])[:, 0]
        fit([named], max(across[1] - across[0] - 4, 8))
        begin = end
    axes.set_xlabel("place in the schedule", fontsize=12)
    axes.set_ylabel("cosine of prediction and truth", fontsize=12)


def _captions(figure: Any, rows: Rows, chosen: Mapping[str, Style]) -> None:
    from matplotlib.lines import Line2D

    succeeded, failed = (
        sum(row["status"] == status for row in rows) for status in ("succeeded", "failed")
    )
    title = f"Progress of {rows[0]['schedule']}: {succeeded} of {len(rows)} runs succeeded" + (
        f", {failed} failed" if failed else ""
    )
    head = figure.text(0.013, 0.95, title, fontsize=15, fontweight="bold", parse_math=False)
    fit([head], WIDTH - 40)
    crosses = Line2D([], [], linestyle="none", marker="x", markersize=7, color=PALETTE[1])
    crosses.set_markeredgewidth(1.8)
    crosses.set_label("failed")
    marks_below(figure, chosen, [crosses] if failed else [])
