"""Vectors that are nearly the same, found exactly: an approximate index may miss some.

For unit vectors cos(a, b) ≥ 0.995 is |a - b|² ≤ 0.01. An orthonormal projection never makes a
distance longer, so every pair sought is within 0.1 on a few axes too; a k-d tree over those finds
the candidates, and the true cosine of each decides. Axes along which the vectors vary most leave
few candidates, but any axes would find the same pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from lvmdb.errors import SequenceError
from lvmdb.metrics.vectors import row_products

Ints = NDArray[np.int64]
Vectors = NDArray[np.float32]

COSINE = 0.995
"""Concepts at least so alike are taken for copies of each other."""

MOST_PAIRS = 2_000_000
"""Pairs of different vectors that are kept, in about 50 MB. More are no copies: such a corpus
repeats itself throughout, or its vectors fill only a few dimensions."""

_RADIUS = float(np.sqrt(2 - 2 * COSINE)) + 1e-6
_AXES = 8
_SAMPLE = 8_192
_CANDIDATES = 1_000_000
_ROWS = 4_096


@dataclass(frozen=True)
class NearDuplicates:
    """What is alike among n vectors.

    Attributes:
        group: `(n,)` vectors with equal numbers share a group; groups count from 0 as they appear.
        pairs: `(pairs, 2)` groups whose vectors differ, with a cosine of at least `COSINE`; each
            pair once, the smaller number first.
        cosine: `(pairs,)` float32, of each pair.
    """

    group: Ints
    pairs: Ints
    cosine: NDArray[np.float32]

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return int(self.group.max(initial=-1)) + 1


def near_duplicates(
    vectors: Vectors, advance: Callable[[int], None] = lambda _: None
) -> NearDuplicates:
    """All pairs of vectors whose cosine is at least `COSINE`.

    Equal vectors are compared once, so that any number of copies costs no more than one vector.
    Memory beyond the result is some tens of bytes a vector and blocks of fixed size.

    Args:
        vectors: `(n, d)`, of any length but zero.
        advance: is called with the number of vectors just compared.

    Raises:
        SequenceError: more than `MOST_PAIRS` pairs of different vectors are so alike.
    """
    # By digest: the rows themselves as keys would double the memory.
    seen: dict[bytes, int] = {}
    digests = (blake2b(row, digest_size=16).digest() for row in np.ascontiguousarray(vectors))
    group = np.fromiter((seen.setdefault(key, len(seen)) for key in digests), dtype=np.int64)
    first = np.unique(group, return_index=True)[1]
    left, right, cosines = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    lengths = np.sqrt(row_products(vectors, vectors))
    kept = 0
    advance(len(group) - len(first))
    for one, other in _candidates(vectors, first, advance):
        for start in range(0, len(one), _ROWS):
            rows = slice(start, start + _ROWS)
            alike, cosine = _alike(vectors, lengths, first[one[rows]], first[other[rows]])
            left.append(one[rows][alike])
            right.append(other[rows][alike])
            cosines.append(cosine)
            kept += len(cosine)
            if kept > MOST_PAIRS:
                raise SequenceError(
                    f"more than {MOST_PAIRS:,} pairs of different concepts have a cosine of at "
                    f"least {COSINE}: the vectors are too alike to be told apart; take repeated "
                    "text out of the corpus, or use an encoder that tells its texts apart"
                )
    pairs = np.stack([np.concatenate(left), np.concatenate(right)], axis=1)
    return NearDuplicates(group, pairs, np.concatenate(cosines).astype(np.float32))


def _candidates(
    vectors: Vectors, first: Ints, advance: Callable[[int], None]
) -> Iterator[tuple[Ints, Ints]]:
    """Pairs `(k,)`, `(k,)` of indices into `first` that are near on the axes, smaller first."""
    if not len(first):
        return
    axes = _axes(_unit(vectors[first[:: -(-len(first) // _SAMPLE)]]))
    blocks = range(0, len(first), _ROWS)
    points = np.concatenate([_unit(vectors[first[s : s + _ROWS]]) @ axes for s in blocks])
    # Whoever looks for none starts without it.
    from scipy.spatial import cKDTree

    # Not balanced by medians: those are slow to find among many equal points.
    tree = cKDTree(points, balanced_tree=False)
    near = tree.query_ball_point(points, _RADIUS, return_length=True, workers=-1)
    # Each is near itself.
    busy = np.flatnonzero(near > 1)
    advance(len(first) - len(busy))
    ends = np.cumsum(near[busy])
    start = 0
    while start < len(busy):
        before = ends[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + _CANDIDATES, side="right")))
        rows = busy[start:end]
        lists = tree.query_ball_point(points[rows], _RADIUS, return_sorted=False, workers=-1)
        one = np.repeat(rows, [len(found) for found in lists])
        other = np.fromiter(chain.from_iterable(lists), dtype=np.int64, count=len(one))
        once = one < other
        yield one[once], other[once]
        advance(len(rows))
        start = end


def _axes(sample: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(d, at most 8)` orthonormal axes near the leading principal ones, by subspace iteration."""
    centred = sample - sample.mean(axis=0)
    width = centred.shape[1]
    axes = np.random.default_rng(0).standard_normal((width, min(_AXES, width)))
    for _ in range(6):
        axes = np.linalg.qr(centred.T @ (centred @ axes))[0]
    return axes


def _alike(
    vectors: Vectors, lengths: NDArray[np.float64], one: Ints, other: Ints
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which of the pairs of rows are alike, and the cosines of those that are."""
    left, right = vectors[one], vectors[other]
    cosine = np.einsum("nd,nd->n", left, right) / (lengths[one] * lengths[other])
    # Single precision is off by 1e-6 at most: where that could decide, double does.
    close = np.abs(cosine - COSINE) < 1e-5
    cosine[close] = row_products(_unit(left[close]), _unit(right[close]))
    alike = cosine >= COSINE
    return alike, np.minimum(cosine[alike], 1.0)


def _unit(vectors: Vectors) -> NDArray[np.float64]:
    rows = vectors.astype(np.float64)
    unit: NDArray[np.float64] = rows / np.sqrt(row_products(rows, rows))[:, None]
    return unit
