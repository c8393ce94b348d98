"""Recall of approximate search against exact search, counted so that ties cannot hurt.

A concept that was found counts if its exact score is not below that of the k-th best, as in
ann-benchmarks (Aumüller, Bernhardsson & Faithfull 2020): of several concepts with one vector, any
will do.

    recall@k = |{found among the first k, once each, whose score >= s_k - tolerance}| / k
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lvmdb.metrics.ranking import TOLERANCE
from lvmdb.retrieval.engine import ID, NO_ID, Ids, Vectors

Scores = NDArray[np.float32]

_BLOCK = 8_192
"""Vectors that are compared at a time."""


@dataclass(frozen=True)
class Spread:
    """One number a query: their mean, 5th percentile and minimum."""

    mean: float
    p5: float
    least: float

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> Spread:
        """Of one value for each query."""
        return cls(float(values.mean()), float(np.percentile(values, 5)), float(values.min()))


@dataclass(frozen=True)
class Truth:
    """What exact search says about some queries, and what was found is held against.

    Args:
        vectors: `(n, 768)`, the corpus.
        ids: `(n,)`, of each vector.
        queries: `(q, 768)`.
        measure: `ip`, or `cosine`.
    """

    vectors: Vectors
    ids: Ids
    queries: Vectors
    measure: str = "ip"

    @cached_property
    def best(self) -> Scores:
        """`(q, most)`: the highest scores of each query, the highest first; at most 50."""
        most = min(50, len(self.vectors))
        best = np.full((len(self.queries), 0), 0, dtype=np.float32)
        for start in range(0, len(self.vectors), _BLOCK):
            block = self._normal(np.asarray(self.vectors[start : start + _BLOCK]))
            best = np.concatenate([best, self._asked @ block.T], axis=1)
            if best.shape[1] > most:
                best = -np.partition(-best, most - 1, axis=1)[:, :most]
        scores: Scores = -np.sort(-best, axis=1)
        return scores

    def scores(self, found: Ids) -> Scores:
        """`(q, k)`: exact scores of what was found `(q, k)`, -inf for nothing and for repetitions.

        Raises:
            KeyError: an id is not of the corpus.
        """
        queries, k = found.shape
        scores = np.full((queries, k), -np.inf, dtype=np.float32)
        for query in range(queries):
            places: dict[int, int] = {}
            for rank, key in enumerate(found[query].tolist()):
                if key != _NOTHING:
                    places.setdefault(self._place[key], rank)
            there = self._normal(np.asarray(self.vectors[list(places)]))
            scores[query, list(places.values())] = there @ self._asked[query]
        return scores

    def recall(self, scores: Scores, k: int) -> NDArray[np.float64]:
        """`(q,)`: recall@k of what has these scores, in the order in which it was found."""
        k = min(k, len(self.vectors))
        reached = scores[:, :k] >= self.best[:, k - 1 : k] - TOLERANCE
        recalled: NDArray[np.float64] = reached.sum(axis=1) / k
        return recalled

    @cached_property
    def _place(self) -> dict[bytes, int]:
        keys = self.ids.tolist()
        return dict(zip(keys, range(len(keys)), strict=True))

    @cached_property
    def _asked(self) -> Vectors:
        return self._normal(self.queries)

    def _normal(self, vectors: Vectors) -> Vectors:
        if self.measure == "ip":
            return vectors
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def agreeing(scores: Scores, other: Scores) -> float:
    """The share of queries for which two searches found equally good concepts, rank by rank."""
    mine, others = -np.sort(-scores, axis=1), -np.sort(-other, axis=1)
    with np.errstate(invalid="ignore"):  # both found nothing
        apart = np.abs(mine - others) > TOLERANCE
    return float((~apart.any(axis=1)).mean())


_NOTHING: bytes = np.array([NO_ID], dtype=ID).tolist()[0]
