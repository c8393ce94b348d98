"""What `lvmdb bench vecrag` found, as rows: values, intervals by article, gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvmdb.db.benchmarks import Measured
from lvmdb.metrics.intervals import difference_intervals, intervals, verdict

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

RELEVANT = ("next", "article")
"""What counts as found: the true next concept, or any of its article."""

MEASURES = ("P@1", "P@5", "MRR@10")

MS = "ms"
"""Unit of how long one query takes."""


def measures(relevant: NDArray[np.bool_]) -> dict[str, Floats]:
    """P@1, P@5 and MRR@10 `(n,)` of what was found, `(n, 10)`, best first.

    P@5 is the share of the first five places: with one relevant concept it is .2 at most.
    """
    ranks = np.arange(1, relevant.shape[1] + 1)
    first = np.where(relevant.any(axis=1), 1 / ranks[relevant.argmax(axis=1)], 0.0)
    return {
        "P@1": relevant[:, 0].astype(np.float64),
        "P@5": relevant[:, :5].sum(axis=1) / 5.0,
        "MRR@10": first,
    }


def vecrag_rows(
    relevant: Mapping[tuple[str, str], NDArray[np.bool_]], article_id: Ints, plain: str
) -> list[dict[str, Any]]:
    """Values with their 95 % intervals over articles, and paired gains over the plain query.

    Args:
        relevant: `(n, 10)` whether what was found counts, by contender and notion of relevance.
        article_id: `(n,)` the articles of the queries.
        plain: the contender that the others are held against.
    """
    _, place = np.unique(article_id, return_inverse=True)
    weights = np.bincount(place).astype(np.float64)
    keys, totals = [], []
    for (name, notion), found in relevant.items():
        for measure, values in measures(found).items():
            keys.append((notion, measure, name))
            totals.append(np.bincount(place, values).astype(np.float64))
    table, each = np.stack(totals, axis=1), np.repeat(weights[:, None], len(keys), axis=1)
    base = [keys.index((notion, measure, plain)) for notion, measure, _ in keys]
    ends = intervals(table, each)
    gains = difference_intervals(table, each, table[:, base], each)
    value = table.sum(axis=0) / weights.sum()
    rows = []
    for notion in RELEVANT:
        for measure in MEASURES:
            for place_of, key in enumerate(keys):
                if key[:2] != (notion, measure):
                    continue
                low, high = ends[place_of] or (None, None)
                gain_low, gain_high = gains[place_of] or (None, None)
                alone = key[2] == plain
                rows.append(
                    {
                        "relevant": notion,
                        "measure": measure,
                        "contender": key[2],
                        "value": float(value[place_of]),
                        "low": low,
                        "high": high,
                        "gain": None if alone else float(value[place_of] - value[base[place_of]]),
                        "gain_low": None if alone else gain_low,
                        "gain_high": None if alone else gain_high,
                        "verdict": None if alone else verdict(gains[place_of], 1),
                        "queries": int(weights.sum()),
                        "articles": len(weights),
                    }
                )
    return rows


def vecrag_measured(
    rows: Sequence[dict[str, Any]], seconds: Mapping[str, Floats]
) -> list[Measured]:
    """What was found as rows of the table `benchmark`, and how long queries took."""
    found = [
        Measured(
            row["contender"],
            row["measure"],
            [row["value"]],
            parameters={
                name: row[name]
                for name in ("relevant", "low", "high", "gain", "gain_low", "gain_high", "verdict")
            },
        )
        for row in rows
    ]
    return found + [
        Measured(name, MS, [1000 * s for s in each.tolist()])
        for name, each in seconds.items()
        if len(each)
    ]
