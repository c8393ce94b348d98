"""Metrics of one run on one split: values, levels of chance, and sums by article."""

from __future__ import annotations

from collections.abc import Sequence
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
        totals, weights: `(articles,)`; empty for what is no ratio of sums over articles.
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


@dataclass(frozen=True)
class Taken:
    """One metric of n queries.

    Attributes:
        key: of the metric.
        values, weights, chance: `(n,)`; no weights are one each.
    """

    key: str
    values: Floats
    weights: Floats | None
    chance: Floats


def score(queries: Queries, article_id: Ints, pools: frozenset[str]) -> dict[str, Score]:
    """Every metric of these pools, by key; one that no query has a weight for is left out.

    Args:
        queries: of one run.
        article_id: `(n,)` the article of each truth.
        pools: of `POOLS`.
    """
    taken = []
    for key, metric in METRICS.items():
        if metric.pool in pools:
            found, weights = metric.per_query(queries)
            taken.append(Taken(key, found, weights, metric.chance_per_query(queries)))
    return scores_of(taken, article_id)


def scores_of(taken: Sequence[Taken], article_id: Ints) -> dict[str, Score]:
    """What was measured of the same queries, as scores; what no query has a weight for is left out.

    Args:
        taken: by metric.
        article_id: `(n,)` the article of each truth.
    """
    _, place = np.unique(article_id, return_inverse=True)
    values: dict[str, tuple[float, float, Floats, Floats, int]] = {}
    for each in taken:
        weights = np.ones(len(article_id)) if each.weights is None else each.weights
        if not weights.any():
            continue
        values[each.key] = (
            aggregate(each.values, weights),
            aggregate(each.chance, weights),
            np.bincount(place, each.values).astype(np.float64),
            np.bincount(place, weights).astype(np.float64),
            int(np.count_nonzero(weights)),
        )
    if not values:
        return {}
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
