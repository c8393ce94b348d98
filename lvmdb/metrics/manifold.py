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


def nearest_other_cosine(pool: Floats, rows: Indices, *, block: int = 4096) -> PerQuery:
    """`(n,)` the cosine of concepts of the pool to the nearest other one.

    Args:
        pool: `(N, d)` unit vectors.
        rows: `(n,)` which concepts.
        block: how many are compared at a time.

    Raises:
        ModelError: there is no other concept.
    """
    if len(pool) < 2:
        raise ModelError("the nearest other concept is looked for in a pool of one")
    queries = np.ascontiguousarray(pool[rows], dtype=np.float32)
    candidates = np.ascontiguousarray(pool, dtype=np.float32)
    best = np.full(len(queries), -np.inf, dtype=np.float32)
    for first in range(0, len(queries), _QUERY_BLOCK):
        part = slice(first, first + _QUERY_BLOCK)
        for start in range(0, len(candidates), block):
            scores = queries[part] @ candidates[start : start + block].T
            itself = rows[part] - start
            inside = np.flatnonzero((itself >= 0) & (itself < scores.shape[1]))
            scores[inside, itself[inside]] = -np.inf
            np.maximum(best[part], scores.max(axis=1), out=best[part])
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
