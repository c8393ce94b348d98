"""Metrics of one run on one split: values, levels of chance, and sums by article."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lvmdb.metrics.definitions import METRICS, aggregate
from lvmdb.metrics.intervals import Interval, intervals
from lvmdb.metrics.queries import Queries

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """One metric's value.

    Attributes:
        value: sum(totals) / sum(weights).
        chance: what a concept drawn at random reaches.
        interval: 95 %, over articles; None with too few.
        totals, weights: `(articles,)`.
        queries: how many have a weight.
    """

    value: float
    chance: float
    interval: Interval | None
    totals: Floats
    weights: Floats
    queries: int

    @property
    def articles(self) -> int:
        """How many have a weight."""
        return int(np.count_nonzero(self.weights))


def score(queries: Queries, article_id: Ints, pools: frozenset[str]) -> dict[str, Score]:
    """Every metric of these pools, by key; one that no query has a weight for is left out.

    Args:
        queries: of one run.
        article_id: `(n,)` the article of each truth.
        pools: of `POOLS`.
    """
    _, place = np.unique(article_id, return_inverse=True)
    values: dict[str, tuple[float, float, Floats, Floats, int]] = {}
    for key, metric in METRICS.items():
        if metric.pool not in pools:
            continue
        found, given = metric.per_query(queries)
        weights = np.ones(len(queries)) if given is None else given
        if not weights.any():
            continue
        values[key] = (
            aggregate(found, weights),
            aggregate(metric.chance_per_query(queries), weights),
            np.bincount(place, found).astype(np.float64),
            np.bincount(place, weights).astype(np.float64),
            int(np.count_nonzero(weights)),
        )
    ends = intervals(
        np.stack([totals for _, _, totals, _, _ in values.values()], axis=1),
        np.stack([weights for _, _, _, weights, _ in values.values()], axis=1),
    )
    return {
        key: Score(value, chance, interval, totals, weights, count)
        for (key, (value, chance, totals, weights, count)), interval in zip(
            values.items(), ends, strict=True
        )
    }
