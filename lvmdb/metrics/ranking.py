"""Where the truth stands among all candidates, counted so that ties cannot flatter.

A model is asked: of all concepts in a pool, which comes next? Its prediction is compared with each
pool vector by inner product, and the truth's place in that order is its rank. Three rules keep the
rank honest:

- **Ties.** Candidates within `TOLERANCE` of the truth's score are tied with it, and every metric is
  the expected value when ties are broken at random (McSherry & Najork 2008, "Computing information
  retrieval performance measures efficiently in the presence of tied scores", ECIR). The zero vector
  ties all candidates, and gets chance, not 100 %.
- **Context.** The concepts that the model has read are never candidates.
- **Duplicates.** Concepts whose vector equals the truth's are the same answer, no competitors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lvmdb.errors import CorpusError, ModelError
from lvmdb.metrics.vectors import Floats, PerQuery, normalise, row_products

Indices = npt.NDArray[np.integer]

TOLERANCE = 1e-6
"""Scores nearer than this are tied: float32 inner products of 768 dimensions differ by ~1e-7."""

_UNIT = 1e-3
"""How far from 1 the length of a pool vector may be."""

_QUERY_BLOCK = 1024


@dataclass(frozen=True)
class Ranks:
    """Where the truths stand, for n queries.

    Attributes:
        greater: `(n,)` int64, candidates that score above the truth by more than the tolerance.
        ties: `(n,)` int64, other candidates whose score is within the tolerance of the truth's.
        candidates: `(n,)` int64, how many concepts were eligible, the truth among them.
        nearest: `(n,)` float64, the cosine to the nearest concept, eligible or not.
    """

    greater: npt.NDArray[np.int64]
    ties: npt.NDArray[np.int64]
    candidates: npt.NDArray[np.int64]
    nearest: PerQuery

    def __len__(self) -> int:
        return len(self.greater)


def duplicate_groups(pool: Floats) -> npt.NDArray[np.int64]:
    """`(N,)` int64: vectors with equal numbers share a group; groups count from 0 as they appear.

    Rows are compared as bytes, after -0.0 is made 0.0. Nearly equal vectors stay apart.
    """
    rows = np.ascontiguousarray(pool + np.zeros(1, dtype=pool.dtype))
    seen: dict[bytes, int] = {}
    return np.fromiter((seen.setdefault(row.tobytes(), len(seen)) for row in rows), np.int64)


def rank_in_pool(
    predictions: Floats,
    pool: Floats,
    truth: Indices,
    excluded: Indices,
    *,
    block: int = 4096,
    duplicate_group: Indices | None = None,
) -> Ranks:
    """The truth's rank among the pool, for each prediction.

    The score of candidate j for query i is (p_i / |p_i|)·v_j, a cosine, since pool vectors are of
    unit length. Memory beyond the arguments is bounded by 1024 x `block` float32 scores.

    Args:
        predictions: `(n, d)`, of any length; a zero vector scores 0 everywhere.
        pool: `(N, d)` unit vectors.
        truth: `(n,)` the index in the pool of each query's true concept.
        excluded: `(n, k)` indices in the pool that are no candidates, -1 for none. An index that
            equals the truth has no effect: the truth is always a candidate.
        block: how many pool vectors are scored at a time.
        duplicate_group: `(N,)` from `duplicate_groups(pool)`; None takes all vectors as different.

    Raises:
        ModelError: a prediction is not finite, or of another dimension than the pool.
        CorpusError: the pool is empty or not of unit length, or an index is not in it.
    """
    _check_arguments(predictions, pool, truth, excluded, duplicate_group)
    queries = normalise(predictions).astype(np.float32)
    vectors = np.ascontiguousarray(pool, dtype=np.float32)
    groups = None if duplicate_group is None else _Members(duplicate_group)
    count, size = len(queries), len(vectors)
    greater, ties, candidates = (np.zeros(count, dtype=np.int64) for _ in range(3))
    nearest = np.full(count, -1.0)
    for first in range(0, count, _QUERY_BLOCK):
        rows = slice(first, first + _QUERY_BLOCK)
        own = np.einsum("nd,nd->n", queries[rows], vectors[truth[rows]])[:, None]
        skip_row, skip_column = _not_competing(truth[rows], excluded[rows], size, groups)
        candidates[rows] = size + 1 - np.bincount(skip_row, minlength=len(own))
        for start in range(0, size, block):
            scores = queries[rows] @ vectors[start : start + block].T
            np.maximum(nearest[rows], scores.max(axis=1), out=nearest[rows])
            low, high = np.searchsorted(skip_column, [start, start + block])
            scores[skip_row[low:high], skip_column[low:high] - start] = -np.inf
            above = np.count_nonzero(scores > own + np.float32(TOLERANCE), axis=1)
            greater[rows] += above
            ties[rows] += np.count_nonzero(scores >= own - np.float32(TOLERANCE), axis=1) - above
    return Ranks(greater, ties, candidates, np.minimum(nearest, 1.0))


def rank_in_articles(
    predictions: Floats,
    pool: Floats,
    truth: Indices,
    excluded: Indices,
    article: Indices,
    *,
    duplicate_group: Indices | None = None,
) -> Ranks:
    """The truth's rank among the concepts of its own article, for each prediction.

    Args:
        predictions, pool, truth, excluded, duplicate_group: as for `rank_in_pool`.
        article: `(N,)` the article of each pool vector; an article's vectors stand together.

    Raises:
        ModelError, CorpusError: as for `rank_in_pool`.
    """
    _check_arguments(predictions, pool, truth, excluded, duplicate_group)
    greater, ties, candidates = (np.zeros(len(truth), dtype=np.int64) for _ in range(3))
    nearest = np.zeros(len(truth))
    starts = np.flatnonzero(np.r_[True, article[1:] != article[:-1]])
    ends = np.r_[starts[1:], len(article)]
    place = np.searchsorted(starts, truth, side="right") - 1
    for number in np.unique(place):
        start, end = starts[number], ends[number]
        rows = np.flatnonzero(place == number)
        outside = (excluded[rows] < start) | (excluded[rows] >= end)
        found = rank_in_pool(
            predictions[rows],
            pool[start:end],
            truth[rows] - start,
            np.where(outside, -1, excluded[rows] - start),
            duplicate_group=None if duplicate_group is None else duplicate_group[start:end],
        )
        greater[rows], ties[rows], candidates[rows] = found.greater, found.ties, found.candidates
        nearest[rows] = found.nearest
    return Ranks(greater, ties, candidates, nearest)


def recall_at(ranks: Ranks, k: int) -> PerQuery:
    """The probability that the truth is among the first k: clip((k - greater)/(ties + 1), 0, 1).

    With one relevant concept per query this is also the hit rate at k.
    """
    return np.clip((_positive(k) - ranks.greater) / (ranks.ties + 1), 0.0, 1.0)


def reciprocal_rank_at(ranks: Ranks, k: int) -> PerQuery:
    """The expected reciprocal rank, 0 beyond k.

    The truth is equally likely at each rank r = greater + 1 ... greater + ties + 1; this is the
    mean over them of 1/r where r ≤ k, else 0. With H_r the harmonic numbers:
    (H_min(k, greater + ties + 1) - H_min(k, greater)) / (ties + 1).
    """
    harmonic = harmonic_numbers(_positive(k))
    last = np.minimum(ranks.greater + ranks.ties + 1, k)
    before = np.minimum(ranks.greater, k)
    expected: PerQuery = (harmonic[last] - harmonic[before]) / (ranks.ties + 1)
    return expected


def harmonic_numbers(k: int) -> PerQuery:
    """`(k + 1,)` H_0 = 0, H_1 = 1, ..., H_k = 1 + 1/2 + ... + 1/k."""
    return np.concatenate(([0.0], np.cumsum(1.0 / np.arange(1, k + 1))))


class _Members:
    """The members of each duplicate group, as slices of one sorted array."""

    def __init__(self, group: Indices) -> None:
        _, self.group = np.unique(group, return_inverse=True)
        self.order = np.argsort(self.group, kind="stable")
        self.starts = np.concatenate(([0], np.cumsum(np.bincount(self.group))))

    def of(self, truth: Indices) -> Iterator[npt.NDArray[np.int64]]:
        """For each truth, the indices of all concepts in its group, the truth among them."""
        for group in self.group[truth]:
            yield self.order[self.starts[group] : self.starts[group + 1]]


def _not_competing(
    truth: Indices, excluded: Indices, size: int, groups: _Members | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Distinct (row, column) pairs that no truth competes with, in the order of the columns.

    They are the truth itself, its duplicates and the excluded concepts. Each pair counts once,
    however often it was named.
    """
    rows = np.arange(len(truth), dtype=np.int64)
    same = [truth[i : i + 1] for i in rows] if groups is None else list(groups.of(truth))
    named_row, named = np.nonzero(excluded >= 0)
    row = np.concatenate([named_row, np.repeat(rows, [len(s) for s in same])])
    column = np.concatenate([excluded[named_row, named], *same]).astype(np.int64)
    pairs = np.unique(column * len(truth) + row)
    column, row = np.divmod(pairs, len(truth))
    return row, column


def _positive(k: int) -> int:
    if k < 1:
        raise ModelError(f"a metric at rank {k} has no meaning: k starts at 1")
    return k


def _check_arguments(
    predictions: Floats,
    pool: Floats,
    truth: Indices,
    excluded: Indices,
    duplicate_group: Indices | None,
) -> None:
    size = len(pool)
    if pool.ndim != 2 or size == 0:
        raise CorpusError(f"the candidate pool must be (concepts, dimensions), not {pool.shape}")
    if predictions.ndim != 2 or predictions.shape[1] != pool.shape[1]:
        raise ModelError(
            f"predictions of shape {predictions.shape} cannot be ranked "
            f"in a pool of {pool.shape[1]} dimensions"
        )
    count = len(predictions)
    if truth.shape != (count,) or excluded.ndim != 2 or len(excluded) != count:
        raise ModelError(
            f"{count} predictions need truth ({count},) and excluded ({count}, k), "
            f"not {truth.shape} and {excluded.shape}"
        )
    if duplicate_group is not None and duplicate_group.shape != (size,):
        raise CorpusError(f"duplicate groups of {len(duplicate_group)} concepts, pool of {size}")
    if count and (truth.min() < 0 or truth.max() >= size):
        raise CorpusError(f"a true concept is not in the candidate pool of {size}")
    if excluded.size and (excluded.min() < -1 or excluded.max() >= size):
        raise CorpusError(f"a context concept's index is not in the candidate pool of {size}")
    lengths = np.sqrt(row_products(pool, pool))
    unit = np.abs(lengths - 1.0) <= _UNIT
    if not unit.all():
        worst = int(np.argmin(unit))
        raise CorpusError(f"pool vector {worst} has length {lengths[worst]:.6g}, not 1")
