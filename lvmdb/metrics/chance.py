"""The level of chance: what guessing reaches, so that no number is read without its floor.

Guessing means to answer with a concept drawn at random. For ranks it is drawn among the query's
candidates; for distances, from the whole pool of unit vectors, whose mean is then all that is
needed: E[v·t] = m·t, with m = E[v]. All functions return `(n,)` float64, one level per query; the
mean over the queries is the level of the metric.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lvmdb.errors import ModelError
from lvmdb.metrics.ranking import harmonic_numbers
from lvmdb.metrics.vectors import Floats, PerQuery, normalise, row_products


def recall_chance(candidates: npt.NDArray[np.int64], k: int) -> PerQuery:
    """min(1, k / candidates): the truth is equally likely at each rank."""
    return np.minimum(1.0, k / candidates)


def reciprocal_rank_chance(candidates: npt.NDArray[np.int64], k: int) -> PerQuery:
    """H_min(k, candidates) / candidates, where H_r = 1 + 1/2 + ... + 1/r."""
    return harmonic_numbers(k)[np.minimum(candidates, k)] / candidates


def pool_mean(pool: Floats) -> PerQuery:
    """`(d,)` the mean m of a pool `(N, d)` of unit vectors.

    Raises:
        ModelError: the pool is empty or holds NaN or infinity.
    """
    if pool.ndim != 2 or len(pool) == 0:
        raise ModelError(f"a pool must be (concepts, dimensions), not {pool.shape}")
    mean: PerQuery = pool.mean(axis=0, dtype=np.float64)
    if not np.isfinite(mean).all():
        raise ModelError("the pool holds NaN or infinity")
    return mean


def cosine_chance(mean: PerQuery, target: Floats) -> PerQuery:
    """E[cos(v, t)] = m·t / |t|, for v drawn from the pool with mean `mean` `(d,)`."""
    expected: PerQuery = normalise(target) @ mean
    return expected


def margin_chance(mean: PerQuery, target: Floats, last_context: Floats) -> PerQuery:
    """E[cos(v, t) - cos(v, c)] = m·t/|t| - m·c/|c|: about 0."""
    return cosine_chance(mean, target) - cosine_chance(mean, last_context)


def squared_error_chance(mean: PerQuery, target: Floats) -> PerQuery:
    """E|v - t|² = 1 + |t|² - 2 m·t, summed over dimensions; 2 - 2 m·t for a unit target."""
    targets = target.astype(np.float64)
    expected: PerQuery = 1.0 + row_products(targets, targets) - 2.0 * (targets @ mean)
    return expected


def mse_chance(mean: PerQuery, target: Floats) -> PerQuery:
    """`squared_error_chance` divided by the number of dimensions."""
    expected: PerQuery = squared_error_chance(mean, target) / target.shape[1]
    return expected


def distance_chance(guesses: Floats, target: Floats) -> PerQuery:
    """E|v - t|, estimated from a sample of the pool: `guesses` `(m, d)` unit vectors."""
    targets = target.astype(np.float64)
    squared = row_products(targets, targets)[:, None] + 1.0 - 2.0 * (targets @ guesses.T)
    expected: PerQuery = np.sqrt(np.maximum(squared, 0.0)).mean(axis=1)
    return expected


def context_cosine_chance(
    guesses: Floats, pool: Floats, context: npt.NDArray[np.integer]
) -> PerQuery:
    """E[max_i v·c_i] over the concepts c_i of each context, estimated from `guesses` `(m, d)`."""
    expected = np.empty(len(context))
    for start in range(0, len(context), 1024):
        rows = context[start : start + 1024]
        largest = np.full((len(rows), len(guesses)), -np.inf)
        for lag in rows.T:
            np.maximum(largest, pool[lag] @ guesses.T, out=largest)
        expected[start : start + 1024] = largest.mean(axis=1)
    return expected


def sample(pool: Floats, size: int = 512, seed: int = 0) -> Floats:
    """`(min(size, N), d)` concepts of the pool, drawn once: the same for every run."""
    chosen = np.random.default_rng(seed).permutation(len(pool))[:size]
    return pool[np.sort(chosen)]
