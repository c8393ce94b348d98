"""How far a prediction is from real concepts, and how near to those that were just read.

A model that hedges predicts a mean of several plausible concepts, and no concept lies there. One
that plays safe repeats its context. Neither shows in the cosine with the truth.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lvmdb.errors import ModelError
from lvmdb.metrics.vectors import Floats, PerQuery, normalise

Indices = npt.NDArray[np.integer]

_QUERY_BLOCK = 1024


def nearest_cosine(
    vectors: Floats, pool: Floats, excluded: Indices | None = None, *, block: int = 4096
) -> PerQuery:
    """`(n,)` the cosine of each vector `(n, d)` to the nearest concept of the pool.

    Args:
        vectors: of any length; a zero vector has cosine 0 with everything.
        pool: `(N, d)` unit vectors.
        excluded: `(n,)` for each vector the index of a concept that does not count: itself.
        block: how many pool vectors are compared at a time.

    Raises:
        ModelError: the pool is empty, or holds nothing but what is excluded.
    """
    if len(pool) <= (excluded is not None):
        raise ModelError("the nearest concept is looked for in an empty pool")
    queries = normalise(vectors).astype(np.float32)
    candidates = np.ascontiguousarray(pool, dtype=np.float32)
    best = np.full(len(queries), -np.inf, dtype=np.float32)
    for first in range(0, len(queries), _QUERY_BLOCK):
        rows = slice(first, first + _QUERY_BLOCK)
        for start in range(0, len(candidates), block):
            scores = queries[rows] @ candidates[start : start + block].T
            if excluded is not None:
                column = excluded[rows] - start
                inside = np.flatnonzero((column >= 0) & (column < scores.shape[1]))
                scores[inside, column[inside]] = -np.inf
            np.maximum(best[rows], scores.max(axis=1), out=best[rows])
    return np.clip(best.astype(np.float64), -1.0, 1.0)


def context_cosine(vectors: Floats, pool: Floats, context: Indices) -> PerQuery:
    """`(n,)` the largest cosine of each vector `(n, d)` to a concept of its own context.

    Args:
        vectors: of any length.
        pool: `(N, d)` unit vectors.
        context: `(n, k)` indices in the pool.
    """
    queries = normalise(vectors)
    largest = np.full(len(queries), -np.inf)
    for lag in context.T:
        np.maximum(largest, np.einsum("nd,nd->n", queries, pool[lag]), out=largest)
    clipped: PerQuery = np.clip(largest, -1.0, 1.0)
    return clipped
