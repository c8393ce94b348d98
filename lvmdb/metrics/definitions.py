"""The registry of metrics: a name stands for one formula, a changed formula for a new version.

A stored value carries the name and the version, so that two numbers are compared only if they were
computed alike. Versions only ever go up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np

from lvmdb.errors import ModelError, UnknownNameError
from lvmdb.metrics import chance, ranking, vectors
from lvmdb.metrics.ranking import Ranks
from lvmdb.metrics.vectors import Floats, PerQuery

_MCSHERRY = (
    "McSherry & Najork 2008, Computing information retrieval performance measures "
    "efficiently in the presence of tied scores"
)
_VOORHEES = "Voorhees 1999, The TREC-8 question answering track report"


@dataclass(frozen=True)
class Queries:
    """All that a metric may look at, for n queries of one run.

    Attributes:
        prediction: `(n, d)` what the model answered, not normalised.
        target: `(n, d)` the true vectors.
        last_context: `(n, d)` the last vector of each context.
        ranks: the truths' places in the candidate pool.
        pool_mean: `(d,)` the mean of the candidate pool, from `chance.pool_mean`.
    """

    prediction: Floats
    target: Floats
    last_context: Floats
    ranks: Ranks
    pool_mean: PerQuery

    def __post_init__(self) -> None:
        shapes = {self.prediction.shape, self.target.shape, self.last_context.shape}
        if len(shapes) != 1 or self.prediction.ndim != 2 or len(self.ranks) != len(self.target):
            raise ModelError(
                f"queries that do not belong together: vectors {sorted(shapes)}, "
                f"{len(self.ranks)} ranks"
            )

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Metric:
    """One metric, as it is stored with each value.

    Attributes:
        name: unique, e.g. `recall@5`.
        version: from 1, raised whenever the formula changes.
        formula: in words and signs, for one query.
        reference: where the formula comes from.
        higher_is_better: which way an improvement points.
        per_query: `(n,)` float64, the value for each query.
        chance_per_query: `(n,)` float64, what a concept drawn at random reaches.
    """

    name: str
    version: int
    formula: str
    reference: str
    higher_is_better: bool
    per_query: Callable[[Queries], PerQuery]
    chance_per_query: Callable[[Queries], PerQuery]


def aggregate(values: PerQuery) -> float:
    """The mean over queries: what a metric reports of `(n,)` values.

    Raises:
        ModelError: there are no queries, or a value is not a number.
    """
    if values.size == 0:
        raise ModelError("a metric over no queries has no value: the split holds no window")
    if not np.isfinite(values).all():
        raise ModelError("a metric's values hold NaN or infinity")
    return float(np.mean(values, dtype=np.float64))


def metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        UnknownNameError: there is none; the message offers the nearest.
    """
    try:
        return METRICS[name]
    except KeyError:
        raise UnknownNameError("metric", name, METRICS) from None


def _recall(k: int) -> Metric:
    return Metric(
        name=f"recall@{k}",
        version=1,
        formula=f"clip(({k} - greater) / (ties + 1), 0, 1)",
        reference=_MCSHERRY,
        higher_is_better=True,
        per_query=partial(_recall_values, k=k),
        chance_per_query=partial(_recall_chance, k=k),
    )


def _recall_values(q: Queries, *, k: int) -> PerQuery:
    return ranking.recall_at(q.ranks, k)


def _recall_chance(q: Queries, *, k: int) -> PerQuery:
    return chance.recall_chance(q.ranks.candidates, k)


_ALL = (
    Metric(
        name="mse",
        version=1,
        formula="sum_d (p_d - t_d)^2 / d, the mean over dimensions",
        reference="definition",
        higher_is_better=False,
        per_query=lambda q: vectors.mse(q.prediction, q.target),
        chance_per_query=lambda q: chance.mse_chance(q.pool_mean, q.target),
    ),
    Metric(
        name="cosine",
        version=1,
        formula="p.t / (|p| |t|), 0 for a zero vector",
        reference="definition",
        higher_is_better=True,
        per_query=lambda q: vectors.cosine(q.prediction, q.target),
        chance_per_query=lambda q: chance.cosine_chance(q.pool_mean, q.target),
    ),
    Metric(
        name="margin",
        version=1,
        formula="cos(p, t) - cos(p, c), c the last vector of the context",
        reference="definition",
        higher_is_better=True,
        per_query=lambda q: vectors.margin(q.prediction, q.target, q.last_context),
        chance_per_query=lambda q: chance.margin_chance(q.pool_mean, q.target, q.last_context),
    ),
    _recall(1),
    _recall(5),
    _recall(10),
    Metric(
        name="mrr@10",
        version=1,
        formula="mean of 1/r where r <= 10, else 0, over r = greater + 1 ... greater + ties + 1",
        reference=f"{_VOORHEES}; ties: {_MCSHERRY}",
        higher_is_better=True,
        per_query=lambda q: ranking.reciprocal_rank_at(q.ranks, 10),
        chance_per_query=lambda q: chance.reciprocal_rank_chance(q.ranks.candidates, 10),
    ),
)

METRICS: Mapping[str, Metric] = MappingProxyType({m.name: m for m in _ALL})
"""All metrics by name, in the order in which reports show them."""
