"""A dataset's vectors in memory, with their ids, in corpus order: what FAISS is built from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database, raw
from lvmdb.db.queries import psycopg_sql, query
from lvmdb.db.types import DIMENSION
from lvmdb.errors import CorpusError

_ROWS = 1_000
"""Rows of a round trip: 3 MB."""


@dataclass(frozen=True)
class Corpus:
    """All concepts of a dataset that have a vector.

    Attributes:
        dataset: its name.
        ids: `(concepts, 16)` uint8, the bytes of each `cpe_id`.
        vectors: `(concepts, 768)`, as they are stored.
        articles: `(concepts,)`, which article each is of.
        fingerprint: SHA-256 over ids and vectors, the same as that of `ann_index`.
    """

    dataset: str
    ids: NDArray[np.uint8]
    vectors: NDArray[np.float32]
    articles: NDArray[np.int64]
    fingerprint: bytes

    def __len__(self) -> int:
        return len(self.ids)


def load(db: Database, dataset: str) -> Corpus:
    """Read a dataset through a server-side cursor, in one snapshot.

    Raises:
        CorpusError: it has no vectors.
    """
    ids: list[bytes] = []
    articles: list[int] = []
    blocks: list[NDArray[np.float32]] = []
    digest = hashlib.sha256()
    with db.connect() as connection, raw(connection).cursor("corpus", binary=True) as cursor:
        cursor.execute(psycopg_sql("corpus", "pool"), {"dataset": dataset})
        while rows := cursor.fetchmany(_ROWS):
            for cpe_id, article_id, _, sent in rows:
                ids.append(cpe_id.bytes)
                articles.append(article_id)
                digest.update(hashlib.sha256(cpe_id.bytes + sent).digest())
            blocks.append(parsed_vectors([row[3] for row in rows], DIMENSION))
    if not ids:
        raise CorpusError(f"dataset '{dataset}' has no vectors to index")
    return Corpus(
        dataset=dataset,
        ids=np.frombuffer(b"".join(ids), dtype=np.uint8).reshape(-1, 16),
        vectors=np.concatenate(blocks),
        articles=np.array(articles, dtype=np.int64),
        fingerprint=digest.digest(),
    )


def fingerprint(db: Database, dataset: str) -> bytes:
    """What `Corpus.fingerprint` would be now, computed by the server."""
    with db.connect() as connection:
        found = connection.execute(
            query("retrieval", "corpus_fingerprint"), {"dataset": dataset}
        ).one()
    return bytes(found.fingerprint)
