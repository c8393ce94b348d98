"""The picture of a dataset's health: norms, lengths, codes and neighbours, a panel each."""

from __future__ import annotations

from typing import Any

import numpy as np

from lvmdb.evaluation.vector_health import ECHO_WANTED, VectorHealth
from lvmdb.reports.plots import (
    GREY,
    PALETTE,
    cut,
    fit,
    new_figure,
    number,
    plain_axes,
    png,
    short_count,
)
from lvmdb.reports.render import Rows

WIDTH, HEIGHT = 1200, 840
"""In pixels."""

_LEFT, _WIDE, _HIGH = (0.075, 0.575), 0.4, 0.325
_BOTTOM = (0.545, 0.085)
_CODES = 12
_NAME = 44
_HEADROOM = 1.42
"""Height of the panel of cosines, whose curves end at 1: the key is above them."""

_LONGEST = 0.995
"""Share of the concepts that the panel of lengths shows: the longest would leave it empty."""


def health(found: VectorHealth, lengths: Rows, codes: Rows) -> bytes:
    """Draw a dataset, as a PNG of 1200 x 840 pixels.

    Args:
        found: what was found among its vectors.
        lengths: of the query `lengths`.
        codes: of the query `tmd_codes`.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure = new_figure(WIDTH, HEIGHT)
    title = f"{found.dataset}: {found.looked_at:,} concepts with vectors"
    head = figure.text(0.013, 0.955, title, fontsize=15, fontweight="bold", parse_math=False)
    fit([head], WIDTH - 40)
    _norms(_panel(figure, 0, 0, "norm of the stored vectors"), found)
    _words(_panel(figure, 1, 0, "words of a concept"), lengths)
    _codes(_panel(figure, 0, 1, "commonest TMD codes"), codes)
    _cosines(_panel(figure, 1, 1, "cosine of two concepts"), found)
    return png(figure)


def _panel(figure: Any, column: int, row: int, title: str) -> Any:
    axes = figure.add_axes((_LEFT[column], _BOTTOM[row], _WIDE, _HIGH))
    plain_axes(axes)
    axes.set_title(title, fontsize=12.5, loc="left", color="#222222", pad=10)
    return axes


def _norms(axes: Any, found: VectorHealth) -> None:
    low, high = float(found.norms.min()), float(found.norms.max())
    shown = (min(low, 0.988), max(high, 1.012))
    axes.hist(found.norms, bins=97, range=shown, color=PALETTE[0])
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.set_ylabel("concepts", fontsize=11)
    for edge in (0.99, 1.01):
        axes.axvline(edge, color=GREY, linestyle=(0, (4, 2)), linewidth=1.3)
    axes.minorticks_off()
    axes.locator_params(axis="x", nbins=6)
    _note(axes, f"{low:.6f} to {high:.6f}; what is between the lines is let in")


def _words(axes: Any, lengths: Rows) -> None:
    counts = np.array([number(row["concepts"]) for row in lengths])
    starts = np.array([number(row["words_from"]) for row in lengths])
    ends = np.array([number(row["words_to"]) for row in lengths])
    shown = max(int(np.searchsorted(np.cumsum(counts), _LONGEST * counts.sum())) + 1, 1)
    widths = 0.9 * (ends - starts + 1)[:shown]
    axes.bar(starts[:shown], counts[:shown], width=widths, align="edge", color=PALETTE[2])
    axes.set_ylabel("concepts", fontsize=11)
    rest = int(counts[shown:].sum())
    more = f"; {rest} longer ones, up to {ends[-1]:.0f} words, are not shown" if rest else ""
    _note(axes, f"{counts.sum():,.0f} concepts{more}")


def _codes(axes: Any, codes: Rows) -> None:
    axes.grid(visible=False, axis="y")
    known = [row for row in codes if row["tmd_code"] is not None][:_CODES]
    if not known:
        axes.set_axis_off()
        axes.text(0, 0.5, "no concept has a code", transform=axes.transAxes, color=GREY)
        return
    shares = [number(row["share"]) for row in known]
    axes.barh(range(len(known)), shares, color="#9dc3dd", height=0.8)
    axes.set_ylim(len(known) - 0.4, -0.6)
    axes.set_yticks(range(len(known)), [str(row["tmd_code"]) for row in known])
    axes.tick_params(labelsize=9.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    names = []
    for place, row in enumerate(known):
        said = ", ".join(str(row[k]) for k in ("domain", "task", "modifier") if row[k])
        text = f"{cut(said, _NAME)} ({short_count(number(row['concepts']))})"
        names.append(
            axes.text(
                0.012, place, text, transform=axes.get_yaxis_transform(), fontsize=9.5,
                va="center", parse_math=False,
            )
        )  # fmt: skip
    fit(names, _WIDE * WIDTH - 10)
    coded = sum(number(row["share"]) for row in codes if row["tmd_code"] is not None)
    _note(axes, f"the {len(known)} shown are {100 * sum(shares):.3g} % of the concepts"
          if coded > sum(shares) else f"{100 * coded:.3g} % of the concepts")  # fmt: skip


def _cosines(axes: Any, found: VectorHealth) -> None:
    drawn = [
        ("neighbours", found.neighbours, PALETTE[0]),
        ("random pairs", found.random, GREY),
        ("probe and concept", found.echoes, PALETTE[1]),
    ]
    drawn = [(name, values, colour) for name, values, colour in drawn if len(values)]
    low = min((float(values.min()) for _, values, _ in drawn), default=0.0)
    for name, values, colour in drawn:
        heights, edges = np.histogram(values, bins=70, range=(min(low, 0.0), 1.0))
        # Each to its own height: probes are few and all alike.
        axes.stairs(
            heights / heights.max(), edges, fill=True, facecolor=(colour, 0.35), edgecolor=colour,
            linewidth=1.5, label=f"{name}, {values.mean():.2f} on average",
        )  # fmt: skip
    axes.set_ylim(0, _HEADROOM)
    if len(found.echoes):
        line = {"color": PALETTE[1], "linestyle": (0, (4, 2)), "linewidth": 1.3}
        axes.axvline(ECHO_WANTED, ymax=1 / _HEADROOM, **line)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.legend(loc="upper left", fontsize=10, frameon=False, borderaxespad=0)
    pairs = "–" if found.near_pairs is None else f"{found.near_pairs:,}"  # noqa: RUF001
    _note(axes, f"{pairs} pairs of different vectors at .995 or more")


def _note(axes: Any, text: str) -> None:
    axes.set_xlabel(text, fontsize=10, color=GREY, loc="left", labelpad=5)
