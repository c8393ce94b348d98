"""Exact nearest neighbours of many vectors: products of matrices, over vectors streamed from SQL.

For a handful of queries the database is faster; for hundreds of them a scan of the dataset for each
is what costs. Here the dataset is read once, block by block, and only the best k are kept.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvmdb.db import native
from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database
from lvmdb.db.queries import psycopg_sql
from lvmdb.db.snapshots import reading
from lvmdb.db.types import DIMENSION

BLOCK = 4_096
"""Vectors compared at a time: 12 MB."""

_QUERIES = 1_024
"""Queries that they are compared with at a time: 16 MB of scores."""


@dataclass(frozen=True)
class Neighbours:
    """The k nearest concepts of n vectors, best first.

    Attributes:
        cpe_id: `(n, k, 16)` uint8, the bytes of the ids; zeros where there are fewer than k.
        cosine: `(n, k)` float32; NaN where there are fewer.
        exact: rows of which every concept was compared, since the index ended with fewer than k.
    """

    cpe_id: NDArray[np.uint8]
    cosine: NDArray[np.float32]
    exact: tuple[int, ...] = ()

    @property
    def counts(self) -> NDArray[np.int64]:
        """`(n,)`: how many were found."""
        return np.asarray((~np.isnan(self.cosine)).sum(axis=1), dtype=np.int64)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """`ids, cosines = neighbours`."""
        return iter((self.cpe_id, self.cosine))

    def ids(self, row: int) -> list[uuid.UUID]:
        """The ids of one vector's."""
        return [uuid.UUID(bytes=each.tobytes()) for each in self.cpe_id[row, : self.counts[row]]]

    def put(
        self, place: NDArray[np.int64], ids: NDArray[np.uint8], cosine: NDArray[np.float32]
    ) -> None:
        """Take what was found: for which vector `(r,)`, ids `(r, 16)`, cosines `(r,)`, in any
        order."""
        order = np.lexsort((-cosine, place))
        place, ids, cosine = place[order], ids[order], cosine[order]
        rank = np.arange(len(place)) - np.searchsorted(place, place)
        self.cpe_id[place, rank], self.cosine[place, rank] = ids, cosine

    def without(self, left_out: Sequence[Sequence[uuid.UUID]], k: int) -> Neighbours:
        """The first k of each that are none of those left out."""
        found = none_found(len(self.cosine), k)
        for row, ids in enumerate(left_out):
            named = {each.bytes for each in ids}
            kept = [
                column
                for column in range(self.counts[row])
                if self.cpe_id[row, column].tobytes() not in named
            ][:k]
            found.cpe_id[row, : len(kept)] = self.cpe_id[row, kept]
            found.cosine[row, : len(kept)] = self.cosine[row, kept]
        return Neighbours(found.cpe_id, found.cosine, self.exact)


def none_found(n: int, k: int) -> Neighbours:
    """Room for what n vectors find."""
    return Neighbours(np.zeros((n, k, 16), np.uint8), np.full((n, k), np.nan, np.float32))


def blocks(db: Database, dataset: str) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Ids `(b, 16)` and vectors `(b, 768)` of a dataset, as they are stored, in one snapshot."""
    with reading(db) as connection:
        as_stored = native.allowed(connection)
        name = "dataset_vectors_native" if as_stored else "dataset_vectors"
        with connection.cursor("dataset_vectors", binary=True) as cursor:
            cursor.execute(psycopg_sql("retrieval", name), {"dataset": dataset})
            while rows := cursor.fetchmany(BLOCK):
                ids = np.frombuffer(b"".join(row[0] for row in rows), np.uint8).reshape(-1, 16)
                yield ids, _parsed([row[1] for row in rows])


def _parsed(sent: list[bytes]) -> NDArray[np.float32]:
    # Native bytes begin with the dimensions in the server's order, portable ones in network order.
    if sent[0][:2] == DIMENSION.to_bytes(2, "big"):
        return parsed_vectors(sent, DIMENSION)
    layout = np.dtype([("dim", "<i2"), ("unused", "<i2"), ("v", "<f4", (DIMENSION,))])
    return np.frombuffer(b"".join(sent), dtype=layout)["v"].astype(np.float32)


def exact_neighbours(
    db: Database, dataset: str, queries: NDArray[np.float32], k: int, *, metric: str = "ip"
) -> Neighbours:
    """The k nearest concepts of each query `(n, 768)` of unit norm, every concept compared.

    Args:
        db: the database.
        dataset: where to search.
        queries: of unit norm.
        k: how many.
        metric: `ip` or `cosine`: what decides; cosines are given of either.
    """
    found = none_found(len(queries), k)
    score = np.full((len(queries), k), -np.inf, np.float32)
    for ids, vectors in blocks(db, dataset):
        norms = np.linalg.norm(vectors, axis=1)
        best = min(k, len(ids))
        for first in range(0, len(queries), _QUERIES):
            part = slice(first, first + _QUERIES)
            products = queries[part] @ vectors.T
            cosines = products / norms
            scores = products if metric == "ip" else cosines
            rows = np.arange(len(scores))[:, None]
            nearest = np.argpartition(-scores, best - 1, axis=1)[:, :best]
            # Those so far and the block's best, of which k stay.
            held = np.concatenate([score[part], scores[rows, nearest]], axis=1)
            keep = np.argsort(-held, axis=1, kind="stable")[:, :k]
            score[part] = held[rows, keep]
            held = np.concatenate([found.cosine[part], cosines[rows, nearest]], axis=1)
            found.cosine[part] = held[rows, keep]
            found.cpe_id[part] = np.concatenate([found.cpe_id[part], ids[nearest]], axis=1)[
                rows, keep
            ]
    return found
