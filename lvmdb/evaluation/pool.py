"""The corpus pool: every concept of a dataset, in memory, by place."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database, raw
from lvmdb.db.queries import psycopg_sql, query
from lvmdb.db.types import DIMENSION
from lvmdb.errors import CorpusError
from lvmdb.sequences.sets import SequenceSet

Ints = NDArray[np.int64]
FETCH_ROWS = 1_000

SAME_VECTOR = 1 - 1e-5
"""The least cosine of two vectors that are one, but for rounding."""


@dataclass(frozen=True)
class Pool:
    """All concepts of a dataset that have a vector, in corpus order.

    Attributes:
        cpe_id: the ids, 16 bytes each.
        vectors: `(concepts, 768)`, of unit norm to float precision.
        fingerprint: SHA-256 over ids and vectors as they are stored.
        article_id: `(articles,)`, sorted.
        first: `(articles,)`, row of each article's first concept.
        length: `(articles,)`, concepts of each.
    """

    cpe_id: list[bytes]
    vectors: NDArray[np.float32]
    fingerprint: bytes
    article_id: Ints
    first: Ints
    length: Ints

    def __len__(self) -> int:
        return len(self.cpe_id)

    def rows(self, article_id: Ints, seq: Ints) -> Ints:
        """The rows `(n,)` of the concepts at these places.

        Raises:
            CorpusError: one is not there.
        """
        place = np.searchsorted(self.article_id, article_id)
        place = np.minimum(place, len(self.article_id) - 1)
        if np.any(self.article_id[place] != article_id) or np.any(seq >= self.length[place]):
            raise CorpusError("a concept of the sequence set is no longer in the dataset")
        found: Ints = self.first[place] + seq
        return found


def load_pool(db: Database, dataset: str) -> Pool:
    """Read the pool of a dataset, through a server-side cursor."""
    ids: list[bytes] = []
    articles: list[int] = []
    seqs: list[int] = []
    blocks: list[NDArray[np.float32]] = []
    digest = hashlib.sha256()
    with db.connect() as connection, raw(connection).cursor("pool", binary=True) as cursor:
        cursor.execute(psycopg_sql("corpus", "pool"), {"dataset": dataset})
        while rows := cursor.fetchmany(FETCH_ROWS):
            ids += [row[0].bytes for row in rows]
            digest.update(b"".join(ids[-len(rows) :]))
            digest.update(b"".join(row[3] for row in rows))
            articles += [row[1] for row in rows]
            seqs += [row[2] for row in rows]
            blocks.append(parsed_vectors([row[3] for row in rows], DIMENSION))
    if not ids:
        raise CorpusError(f"dataset '{dataset}' has no vectors")
    article_of_row = np.array(articles, dtype=np.int64)
    starts = np.flatnonzero(np.r_[True, article_of_row[1:] != article_of_row[:-1]])
    length = np.diff(np.r_[starts, len(ids)])
    if not np.array_equal(seqs, np.arange(len(ids)) - np.repeat(starts, length)):
        raise CorpusError(f"dataset '{dataset}' has gaps in its order: run 'lvmdb verify'")
    order = np.argsort(article_of_row[starts])
    vectors = np.concatenate(blocks)
    # The database lets norms be off by a rounding to half precision; ranks are by direction.
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Pool(
        cpe_id=ids,
        vectors=vectors,
        fingerprint=digest.digest(),
        article_id=article_of_row[starts][order],
        first=starts[order],
        length=length[order],
    )


class ContextRows:
    """Which rows of a pool are the context of a window.

    Args:
        connection: to read the set's articles from, where windows cross them.
        sequences: the set.
        pool: of its dataset.
    """

    def __init__(self, connection: Connection, sequences: SequenceSet, pool: Pool) -> None:
        self._pool = pool
        self._lags = np.arange(-sequences.context_len, 0)
        self._along: Ints | None = None
        if sequences.scope == "corpus":
            listed = connection.execute(
                query("sequences", "articles"),
                {"sequence_set_id": sequences.sequence_set_id, "split": None},
            ).all()
            # (concepts,): rows of the pool in the order of the set, and the inverse of it.
            self._along = np.concatenate(
                [
                    pool.rows(np.full(row.concepts, row.article_id), np.arange(row.concepts))
                    for row in listed
                ]
            )
            self._place = np.full(len(pool), -1, dtype=np.int64)
            self._place[self._along] = np.arange(len(self._along))

    def of(self, target: Ints) -> Ints:
        """Rows `(n, context_len)` of the contexts of the targets at the rows `(n,)`."""
        if self._along is None:
            return target[:, None] + self._lags
        rows: Ints = self._along[self._place[target][:, None] + self._lags]
        return rows


class SameVectors:
    """Which rows of a pool are a context, where only its vectors are known and not its place.

    Args:
        pool: where to look.
        block: concepts compared at a time.
    """

    def __init__(self, pool: Pool, block: int = 4096) -> None:
        self._pool = pool
        self._block = block

    def of(self, context: NDArray[np.float32], mask: NDArray[np.bool_]) -> Ints:
        """Rows `(n, k)` of the concepts that have a vector of the context `(n, time, 768)`.

        Equal texts have equal vectors: all of their concepts are meant. k is the most that any
        context has; -1 stands where one has fewer. Padding, where the mask is False, and vectors
        that no concept has are nothing.
        """
        norms = np.linalg.norm(context, axis=-1, keepdims=True)
        units = (context / np.where(norms > 0, norms, 1)).reshape(-1, context.shape[-1])
        time = context.shape[1]
        windows: list[Ints] = [np.empty(0, dtype=np.int64)]
        found: list[Ints] = [np.empty(0, dtype=np.int64)]
        for start in range(0, len(self._pool), self._block):
            same = units @ self._pool.vectors[start : start + self._block].T >= SAME_VECTOR
            asked, row = np.nonzero(same & mask.reshape(-1, 1))
            windows.append(asked // time)
            found.append(row + start)
        window, rows = np.concatenate(windows), np.concatenate(found)
        order = np.argsort(window, kind="stable")
        window, rows = window[order], rows[order]
        column = np.arange(len(window)) - np.searchsorted(window, window)
        table = np.full((len(context), int(column.max(initial=-1)) + 1), -1, dtype=np.int64)
        table[window, column] = rows
        return table
