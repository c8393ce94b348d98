"""An order of queries in which like ones follow each other.

A graph search spends most of its time on waiting for memory: pages, their entries in the server's
table of buffers, the processor's table of addresses. Two queries that lie near each other visit
much of the same, and the second finds it in the caches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TOGETHER = 1_000
"""Queries that are ordered among themselves: the work grows with their square."""

_DIMENSIONS = 32
"""Of a random projection, which keeps enough of who is near whom (Johnson & Lindenstrauss 1984)."""


def alike_first(queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """A permutation `(q,)` of queries `(q, d)`: each is followed by the nearest that is left.

    Blocks of a thousand are ordered each by itself; the same queries give the same order.
    """
    generator = np.random.default_rng(0)
    projection = generator.standard_normal((queries.shape[1], _DIMENSIONS)).astype(np.float32)
    small = queries @ projection
    parts = [
        start + _chain(small[start : start + _TOGETHER])
        for start in range(0, len(queries), _TOGETHER)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _chain(points: NDArray[np.float32]) -> NDArray[np.int64]:
    near = points @ points.T
    chain = np.zeros(len(points), dtype=np.int64)
    near[:, 0] = -np.inf
    for place in range(1, len(points)):
        chain[place] = near[chain[place - 1]].argmax()
        near[:, chain[place]] = -np.inf
    return chain
