"""What `lvmdb bench retrieval` measured: as a table, in words, and as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from lvmdb.errors import RunError
from lvmdb.reports.plots import (
    GREY,
    PALETTE,
    WIDTH,
    End,
    fit,
    name_ends,
    new_figure,
    number,
    plain_axes,
    png,
)
from lvmdb.reports.render import Rows

PEER = "faiss hnsw"
"""Whom the others are compared with."""

REACHED = 0.99
"""Recall at 10 that two engines are compared at."""

_EXACT = "D"
_MARKERS = {"pgvector": "o", "faiss": "s"}
_PANEL, _ABOVE, _BELOW, _BETWEEN = 430, 70, 62, 84
_PER_PANEL = 0.66
"""Share of the width that the axes take; names stand beside them."""


def side_by_side(rows: Rows) -> list[dict[str, object]]:
    """One row a setting and kind of queries, for a table: recall, milliseconds, queries a second.

    Measurements with several threads are columns beside those with one.

    Args:
        rows: of `retrieval.bench_rows.write`.
    """
    found: dict[object, dict[str, object]] = {}
    for row in sorted(rows, key=lambda row: number(row["threads"])):
        shown = found.get(_setting(row))
        if shown is None:
            found[_setting(row)] = shown = {
                "engine": row["engine"],
                "asked with": _words(row["query_parameters"]),
                "vectors": row["corpus_vectors"],
                "queries": row["query_kind"],
                "recall@1": _rounded(row["recall_1"], 4),
                "recall@10": _rounded(row["recall"], 4),
                "p5": _rounded(row["recall_p5"], 2),
                "min": _rounded(row["recall_min"], 2),
                "recall@50": _rounded(row["recall_50"], 4),
                "like faiss": _rounded(row["parity"], 3),
                "ms p50": _rounded(1000 * number(row["latency_p50"]), 3),
                "p95": _rounded(1000 * number(row["latency_p95"]), 2),
                "p99": _rounded(1000 * number(row["latency_p99"]), 2),
            }
        suffix = f" x{row['threads']}" if row["threads"] != 1 else ""
        shown[f"q/s{suffix}"] = round(number(row["queries_per_second"]))
        shown[f"batch q/s{suffix}"] = round(number(row["batch_queries_per_second"]))
    columns = dict.fromkeys(name for shown in found.values() for name in shown)
    return [{name: shown.get(name) for name in columns} for shown in found.values()]


def builds(rows: Rows) -> list[dict[str, object]]:
    """One row an index: what building it took.

    Args:
        rows: of `retrieval.bench_rows.write`.
    """
    found = {
        (row["engine"], row["corpus_vectors"]): {
            "engine": row["engine"],
            "vectors": row["corpus_vectors"],
            "built with": _words(row["build_parameters"]),
            "threads": row["build_threads"],
            "seconds": _rounded(row["build_seconds"], 1),
            "MB": _rounded(number(row["index_bytes"]) / 1e6, 1),
            "MB to build": _rounded(number(row["build_memory"]) / 1e6, 1),
        }
        for row in rows
    }
    return list(found.values())


def compared(rows: Rows, reached: float = REACHED) -> list[str]:
    """Each engine's cheapest setting that reaches a recall, beside FAISS's graph; one line each.

    Args:
        rows: of `retrieval.bench_rows.write`.
        reached: mean recall at 10.
    """
    lines = []
    alone = [row for row in rows if row["threads"] == 1]
    places = dict.fromkeys((row["corpus_vectors"], row["query_kind"]) for row in alone)
    for vectors, kind in places:
        here = [r for r in alone if (r["corpus_vectors"], r["query_kind"]) == (vectors, kind)]
        cheapest: dict[str, Mapping[str, Any]] = {}
        for row in sorted(here, key=lambda row: number(row["latency_p50"])):
            if number(row["recall"]) >= reached:
                cheapest.setdefault(str(row["engine"]), row)
        peer = cheapest.get(PEER)
        for name, row in cheapest.items():
            line = (
                f"{vectors:,} vectors, {kind} queries, recall@10 {number(row['recall']):.4f}: "
                f"{name} ({_words(row['query_parameters']) or 'exact'}) "
                f"{1000 * number(row['latency_p50']):.3f} ms"
            )
            if row["round_trip_p50"] is not None:
                line += f" (round trip {1000 * number(row['round_trip_p50']):.3f} ms)"
            line += f", in batches {1000 / number(row['batch_queries_per_second']):.3f} ms"
            if peer is not None and row is not peer:
                single = number(row["latency_p50"]) / number(peer["latency_p50"])
                batch = number(peer["batch_queries_per_second"]) / number(
                    row["batch_queries_per_second"]
                )
                line += f"; {single:.2f} and {batch:.2f} times {PEER}"
            lines.append(line)
    return lines


def curves(rows: Rows, title: str) -> bytes:
    """Draw recall at 10 against queries a second, one line an engine, as PNG.

    A panel for each corpus, kind of queries and number of threads; queries one at a time are solid,
    in batches dashed. The axis of recall is stretched towards 1, where the engines differ.

    Args:
        rows: of `retrieval.bench_rows.write`.
        title: stands above the picture.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RunError: there is nothing to draw.
    """
    if not rows:
        raise RunError("nothing was measured: there is nothing to draw")
    panels: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = (row["corpus_vectors"], row["query_kind"], row["threads"])
        panels.setdefault(key, []).append(row)
    engines = list(dict.fromkeys(str(row["engine"]) for row in rows))
    height = _ABOVE + len(panels) * _PANEL + (len(panels) - 1) * _BETWEEN + _BELOW
    figure = new_figure(WIDTH, height)
    top = height - _ABOVE
    for (vectors, kind, threads), drawn in panels.items():
        axes = figure.add_axes((0.07, (top - _PANEL) / height, _PER_PANEL, _PANEL / height))
        plural = "s" if threads != 1 else ""
        label = f"{kind} queries, {vectors:,} vectors, {threads} thread{plural}"
        _panel(axes, label, drawn, engines)
        top -= _PANEL + _BETWEEN
    head = figure.text(18 / WIDTH, 1 - 24 / height, title, fontsize=15, fontweight="bold")
    head.set(va="center", parse_math=False)
    fit([head], WIDTH - 36)
    note = figure.text(
        18 / WIDTH, 12 / height, "solid: one query a call; dashed: in batches", fontsize=10.5
    )
    note.set_color(GREY)
    return png(figure)


def _panel(
    axes: Any, label: str, rows: Sequence[Mapping[str, Any]], engines: Sequence[str]
) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_yscale("log")
    ends = []
    lowest = min(number(row["recall"]) for row in rows)
    for name in dict.fromkeys(str(row["engine"]) for row in rows):
        own = sorted(
            (row for row in rows if row["engine"] == name),
            key=lambda row: (number(row["recall"]), -number(row["queries_per_second"])),
        )
        colour = PALETTE[engines.index(name) % len(PALETTE)]
        marker = _EXACT if not own[0]["query_parameters"] else _MARKERS[name.split()[0]]
        recalls = [_stretched(number(row["recall"])) for row in own]
        for column, dash in (
            ("queries_per_second", "-"),
            ("batch_queries_per_second", (0, (4, 3))),
        ):
            speeds = [number(row[column]) for row in own]
            axes.plot(
                recalls,
                speeds,
                color=colour,
                linestyle=dash,
                linewidth=1.8 if dash == "-" else 1.1,
                marker=marker,
                markersize=5 if dash == "-" else 3,
            )
        last = (recalls[-1], number(own[-1]["queries_per_second"]))
        ends.append(End(name, colour, last, marker))
    shown = [tick for tick in _TICKS if tick >= lowest - 0.1]
    axes.xaxis.set_major_locator(FixedLocator([_stretched(t) for t in shown]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{1 - 10**-x + _EDGE:.4g}"))
    axes.set_xlim(_stretched(max(lowest - 0.05, 0)) - 0.03, _stretched(1.0) + 0.06)
    axes.set_title(label, loc="left", fontsize=12.5, fontweight="bold")
    axes.set_xlabel("recall at 10", fontsize=11)
    axes.set_ylabel("queries a second", fontsize=11)
    plain_axes(axes)
    name_ends(axes, ends)


_EDGE = 5e-4
"""What a recall of 1 is taken to miss, so that it has a place."""

_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)


def _stretched(recall: float) -> float:
    """Where a recall stands: -log10 of what is missing to 1, and a little."""
    return -math.log10(1 - recall + _EDGE)


def _setting(row: Mapping[str, object]) -> tuple[object, ...]:
    parameters = _words(row["query_parameters"])
    return (row["corpus_vectors"], row["query_kind"], row["engine"], parameters)


def _words(parameters: object) -> str:
    given = cast("Mapping[str, object]", parameters)
    return ", ".join(f"{name} {value}" for name, value in given.items())


def _rounded(value: object, digits: int) -> float | None:
    return None if value is None else round(number(value), digits)
