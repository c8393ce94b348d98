"""`lvmdb index`: vector indexes built after loading, and a row about each."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, text

from lvmdb.db.engine import Database
from lvmdb.db.indexes import HNSW, create_hnsw, drop, index_name
from lvmdb.db.queries import query
from lvmdb.db.schema.retrieval import ann_index
from lvmdb.errors import CorpusError, UnknownNameError

MEMORY_LEAST, MEMORY_MOST = 64 << 20, 8 << 30
"""Bytes of working memory to build with: an index that needs more is built in steps, slower."""


@dataclass(frozen=True)
class Built:
    """An index that was built.

    Attributes:
        name: in the database.
        vectors: how many it holds.
        seconds: how long building took.
        bytes: its size on disk.
        memory: bytes of working memory that it was estimated to need.
    """

    name: str
    vectors: int
    seconds: float
    bytes: int
    memory: int


def build(db: Database, dataset: str, index: HNSW) -> Built:
    """Build an index over a dataset's vectors, in place of one of the same storage.

    Raises:
        CorpusError: the dataset has no vectors.
    """
    with db.begin() as connection:
        corpus = connection.execute(
            query("retrieval", "corpus_fingerprint"), {"dataset": dataset}
        ).one()
        if not corpus.vectors:
            raise CorpusError(f"dataset '{dataset}' has no vectors to index")
        memory = index.memory(corpus.vectors)
        connection.execute(
            text("SELECT set_config('maintenance_work_mem', :memory, true)"),
            {"memory": f"{min(max(memory, MEMORY_LEAST), MEMORY_MOST) >> 10}kB"},
        )
        drop(connection, index_name(dataset, index))
        began = time.perf_counter()
        name = create_hnsw(connection, dataset, index)
        seconds = time.perf_counter() - began
        size: int = connection.execute(
            text("SELECT pg_relation_size(CAST(quote_ident(:name) AS regclass))"), {"name": name}
        ).scalar_one()
        connection.execute(delete(ann_index).where(ann_index.c.name == name))
        connection.execute(
            insert(ann_index).values(
                name=name,
                dataset_source=dataset,
                engine="pgvector",
                kind="hnsw",
                storage=index.storage,
                parameters=index.parameters,
                vectors=corpus.vectors,
                seconds=seconds,
                bytes=size,
                corpus_fingerprint=corpus.fingerprint,
            )
        )
    return Built(name, corpus.vectors, seconds, size, memory)


def remove(db: Database, name: str) -> None:
    """Drop an index and its row.

    Raises:
        UnknownNameError: lvmdb built no such index.
    """
    with db.begin() as connection:
        names = connection.execute(select(ann_index.c.name)).scalars().all()
        if name not in names:
            raise UnknownNameError("index", name, names)
        drop(connection, name)
        connection.execute(delete(ann_index).where(ann_index.c.name == name))


def storages(db: Database, dataset: str) -> list[str]:
    """The storages in which a dataset has an index."""
    with db.connect() as connection:
        rows = connection.execute(query("retrieval", "list_indexes")).all()
    return [row.storage for row in rows if row.dataset == dataset and row.usable]
