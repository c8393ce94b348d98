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
from lvmdb.metrics import chance, manifold, ranking, vectors
from lvmdb.metrics.queries import Queries
from lvmdb.metrics.ranking import Ranks
from lvmdb.metrics.vectors import PerQuery

POOLS = ("corpus", "article", "drawn")
"""What a truth is held against: all concepts of the dataset, those of its article, or distractors
that were drawn once and stored."""

_MCSHERRY = (
    "McSherry & Najork 2008, Computing information retrieval performance measures "
    "efficiently in the presence of tied scores"
)
_VOORHEES = "Voorhees 1999, The TREC-8 question answering track report"
LCM = "Barrault et al. 2024, Large concept models, 2412.08821, section 2.4.1"


Values = tuple[PerQuery, PerQuery | None]
"""`(n,)` values, and what their sum is divided by: `(n,)` weights, or None for one each."""


@dataclass(frozen=True)
class Metric:
    """One metric, as it is stored with each value.

    Attributes:
        name: e.g. `recall@5`; unique among the metrics of a pool.
        version: from 1, raised whenever the formula changes.
        formula: in words and signs, for one query.
        reference: where the formula comes from.
        direction: 1 where higher is better, -1 where lower is, 0 for a gauge: it tells what a model
            does, and decides nothing.
        per_query: the values of all queries, with their weights.
        chance_per_query: `(n,)` float64, what a concept drawn at random reaches, with the same
            weights.
        pool: one of `POOLS`.
    """

    name: str
    version: int
    formula: str
    reference: str
    direction: int
    per_query: Callable[[Queries], Values]
    chance_per_query: Callable[[Queries], PerQuery]
    pool: str = "corpus"

    @property
    def key(self) -> str:
        """Unique among all metrics: the name, behind its pool unless that is the corpus."""
        return self.name if self.pool == "corpus" else f"{self.pool}/{self.name}"


def aggregate(values: PerQuery, weights: PerQuery | None = None) -> float:
    """sum(values) / sum(weights), by default the mean: what a metric reports of `(n,)` values.

    Raises:
        ModelError: there are no queries, or a value is not a number.
    """
    total = float(values.size) if weights is None else float(weights.sum(dtype=np.float64))
    if total == 0:
        raise ModelError("a metric over no queries has no value: the split holds no window")
    if not (np.isfinite(values).all() and np.isfinite(total)):
        raise ModelError("a metric's values hold NaN or infinity")
    return float(np.sum(values, dtype=np.float64) / total)


def metric(key: str) -> Metric:
    """The metric of that key.

    Raises:
        UnknownNameError: there is none; the message offers the nearest.
    """
    try:
        return METRICS[key]
    except KeyError:
        raise UnknownNameError("metric", key, METRICS) from None


def _ranks(q: Queries, pool: str) -> Ranks:
    return q.ranks if pool == "corpus" else q.article_ranks


def _recall_values(q: Queries, *, k: int, pool: str) -> Values:
    values = ranking.recall_at(_ranks(q, pool), k)
    if pool == "corpus":
        return values, None
    # Among k candidates or fewer every answer is a hit.
    weights = (q.article_ranks.candidates > k).astype(np.float64)
    return values * weights, weights


def _recall_chance(q: Queries, *, k: int, pool: str) -> PerQuery:
    candidates = _ranks(q, pool).candidates
    level = chance.recall_chance(candidates, k)
    return level if pool == "corpus" else level * (candidates > k)


def _recall(k: int, pool: str = "corpus") -> Metric:
    return Metric(
        name=f"recall@{k}",
        version=1,
        formula=f"clip(({k} - greater) / (ties + 1), 0, 1)"
        + ("" if pool == "corpus" else f", over queries with more than {k} candidates"),
        reference=_MCSHERRY,
        direction=1,
        per_query=partial(_recall_values, k=k, pool=pool),
        chance_per_query=partial(_recall_chance, k=k, pool=pool),
        pool=pool,
    )


def _reciprocal_rank_values(q: Queries, *, pool: str) -> Values:
    return ranking.reciprocal_rank_at(_ranks(q, pool), 10), None


def _reciprocal_rank_chance(q: Queries, *, pool: str) -> PerQuery:
    return chance.reciprocal_rank_chance(_ranks(q, pool).candidates, 10)


def _reciprocal_rank(pool: str = "corpus") -> Metric:
    return Metric(
        name="mrr@10",
        version=1,
        formula="mean of 1/r where r <= 10, else 0, over r = greater + 1 ... greater + ties + 1",
        reference=f"{_VOORHEES}; ties: {_MCSHERRY}",
        direction=1,
        per_query=partial(_reciprocal_rank_values, pool=pool),
        chance_per_query=partial(_reciprocal_rank_chance, pool=pool),
        pool=pool,
    )


def _contrastive_values(q: Queries, *, strata: tuple[int, ...]) -> Values:
    if q.contrast is None:
        return np.zeros(len(q)), np.zeros(len(q))
    return q.contrast.accuracy(*strata)


def _contrastive_chance(q: Queries, *, strata: tuple[int, ...]) -> PerQuery:
    _, weights = _contrastive_values(q, strata=strata)
    # Half of the distractors are farther than a concept drawn at random.
    assert weights is not None
    return weights / 2


def _contrastive_accuracy(name: str, strata: tuple[int, ...]) -> Metric:
    return Metric(
        name=name,
        version=1,
        formula="share of drawn distractors d with |p - d| > |p - t|, ties counted as one half",
        reference=LCM,
        direction=1,
        per_query=partial(_contrastive_values, strata=strata),
        chance_per_query=partial(_contrastive_chance, strata=strata),
        pool="drawn",
    )


_ALL = (
    Metric(
        name="mse",
        version=1,
        formula="sum_d (p_d - t_d)^2 / d, the mean over dimensions",
        reference="definition",
        direction=-1,
        per_query=lambda q: (vectors.mse(q.prediction, q.target), None),
        chance_per_query=lambda q: chance.mse_chance(q.pool_mean, q.target),
    ),
    Metric(
        name="mse_sum",
        version=1,
        formula="sum_d (p_d - t_d)^2, summed over dimensions; 2 - 2 cosine on unit vectors",
        reference="definition",
        direction=-1,
        per_query=lambda q: (vectors.squared_error(q.prediction, q.target), None),
        chance_per_query=lambda q: chance.squared_error_chance(q.pool_mean, q.target),
    ),
    Metric(
        name="l2",
        version=1,
        formula="|p - t|, the square root of the sum over dimensions",
        reference=LCM,
        direction=-1,
        per_query=lambda q: (vectors.l2(q.prediction, q.target), None),
        chance_per_query=lambda q: chance.distance_chance(q.guesses, q.target),
    ),
    Metric(
        name="cosine",
        version=1,
        formula="p.t / (|p| |t|), 0 for a zero vector",
        reference="definition",
        direction=1,
        per_query=lambda q: (vectors.cosine(q.prediction, q.target), None),
        chance_per_query=lambda q: chance.cosine_chance(q.pool_mean, q.target),
    ),
    Metric(
        name="margin",
        version=1,
        formula="cos(p, t) - cos(p, c), c the last vector of the context",
        reference="definition",
        # That of random vectors is about 0, the best value that baselines reach.
        direction=0,
        per_query=lambda q: (vectors.margin(q.prediction, q.target, q.last_context), None),
        chance_per_query=lambda q: chance.margin_chance(q.pool_mean, q.target, q.last_context),
    ),
    *(_recall(k) for k in (1, 5, 10, 50)),
    _reciprocal_rank(),
    Metric(
        name="par",
        version=1,
        formula="sum of max_i cos(p, c_i) / sum of max_i cos(t, c_i), over the context c_i: above "
        "1 the model repeats its context more than the truth does",
        reference=f"{LCM} (there a mean of ratios; sums stay finite where a truth has little to "
        "do with its context)",
        direction=0,
        per_query=lambda q: (
            manifold.context_cosine(q.prediction, q.pool, q.context),
            manifold.context_cosine(q.target, q.pool, q.context),
        ),
        chance_per_query=lambda q: chance.context_cosine_chance(q.guesses, q.pool, q.context),
    ),
    Metric(
        name="off_manifold",
        version=1,
        formula="1 - max_v cos(p, v) over all concepts v",
        reference="definition",
        direction=0,
        per_query=lambda q: (1.0 - q.ranks.nearest, None),
        chance_per_query=lambda q: np.zeros(len(q)),
    ),
    Metric(
        name="off_manifold_truth",
        version=1,
        formula="1 - max_v cos(t, v) over all concepts v but t itself: what off_manifold is held "
        "against",
        reference="definition",
        direction=0,
        per_query=lambda q: (1.0 - q.truth_nearest, None),
        chance_per_query=lambda q: np.full(len(q), float(np.mean(1.0 - q.truth_nearest))),
    ),
    *(_recall(k, "article") for k in (1, 5, 10, 50)),
    _reciprocal_rank("article"),
    _contrastive_accuracy("contrastive_accuracy", (0, 1)),
    _contrastive_accuracy("contrastive_accuracy_same_article", (0,)),
    _contrastive_accuracy("contrastive_accuracy_other_article", (1,)),
)

METRICS: Mapping[str, Metric] = MappingProxyType({m.key: m for m in _ALL})
"""All metrics by key, in the order in which reports show them."""
