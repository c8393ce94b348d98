"""`lvmdb index build`: a vector index built beside the one in use, which it then replaces.

An index is built under a name of its own and takes its place when it is whole, so that searches
have the former one until then. Readers never wait for that. Writers wait for CREATE INDEX, which
is the faster; where somebody is writing, or is about to, it is CREATE INDEX CONCURRENTLY, which
waits for them instead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

import psycopg
from psycopg.errors import DiskFull, LockNotAvailable
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb

from lvmdb.db.engine import Database, translated_errors
from lvmdb.db.indexes import NEW, OLD, VectorIndex, create, drop, fitting, index_name, rename
from lvmdb.db.queries import psycopg_sql
from lvmdb.errors import CorpusError, DatabaseError, UsageError
from lvmdb.progress import SILENT, Progress
from lvmdb.retrieval.indexes import check_workers, lock

MEMORY_LEAST, MEMORY_MOST = 64 << 20, 8 << 30
"""Bytes of working memory to build with: a graph that needs more is finished on disk, slower."""

_A_WORKER = 32 << 20
"""Bytes for each process: PostgreSQL starts no worker that would have less."""

_EVERY = 0.5
"""Seconds between two looks at how far a build is."""

_PATIENCE = "2s"
"""How long dropping the former index may keep others waiting who want to read."""


@dataclass(frozen=True)
class Built:
    """An index that was built.

    Attributes:
        name: in the database.
        vectors: how many it holds.
        seconds: how long building took.
        bytes: its size on disk.
        memory: bytes of working memory that it was estimated to need.
        given: bytes that it was given.
        workers: processes asked for beside the one that builds.
        concurrently: whether writers could go on.
        replaced: indexes whose place it took.
    """

    name: str
    vectors: int
    seconds: float
    bytes: int
    memory: int
    given: int
    workers: int
    concurrently: bool
    replaced: tuple[str, ...]


def build(
    db: Database,
    dataset: str,
    index: VectorIndex,
    *,
    concurrently: bool | None = None,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> Built:
    """Build an index over a dataset's vectors, in place of one of the same storage and metric.

    Args:
        db: the database.
        dataset: whose vectors.
        index: how.
        concurrently: whether others may write meanwhile; None finds out whether anybody does.
        workers: processes that help; None takes one less than the server lets work together.
        progress: told of vectors done.

    Raises:
        CorpusError: the dataset has no vectors.
        UsageError: it has too few for so many lists, or k-means would need too much memory.
        DatabaseError: another session builds the same index; or the server refuses.
    """
    name = index_name(dataset, index)
    if workers is not None:
        check_workers(workers)
    with translated_errors(), closing(db.raw_connection(autocommit=True)) as connection:
        connection.row_factory = namedtuple_row
        lock(connection, dataset)
        # Before the vectors are read: of rows written meanwhile it is not.
        corpus_mark = _one(connection, "corpus_mark", {"dataset": dataset}).mark
        corpus = _one(connection, "corpus_fingerprint", {"dataset": dataset})
        if not corpus.vectors:
            raise CorpusError(f"dataset '{dataset}' has no vectors to index")
        memory, given, workers = _prepare(connection, index, corpus.vectors, workers)
        if concurrently is None:
            concurrently = _one(connection, "writers").count > 0
        progress.say(
            f"building {index.kind} on {index.storage} over {corpus.vectors} vectors of {dataset}: "
            f"estimated at {_mb(memory)}, maintenance_work_mem {_mb(given)}, "
            f"{workers + 1} process{'es' if workers else ''}"
            + (", concurrently: others may write" if concurrently else "")
        )
        if memory > given:
            progress.say("more than the server is given: the graph is finished on disk, slower")
        fresh, former = fitting(name + NEW), fitting(name + OLD)
        # What somebody who was killed has left.
        _retire(connection, [fresh, former], progress)
        began = time.perf_counter()
        with (
            _watched(db, connection, corpus.vectors, progress),
            _or_nothing(db, fresh, progress),
        ):
            create(connection, fresh, dataset, index, corpus.vectors, concurrently=concurrently)
        seconds = time.perf_counter() - began
        size = _one(connection, "index_size", {"name": fresh}).bytes
        replaced = _take_place(
            connection,
            fresh,
            former,
            {
                "name": name,
                "dataset": dataset,
                "kind": index.kind,
                "storage": index.storage,
                "metric": index.metric,
                "parameters": Jsonb(index.parameters(corpus.vectors)),
                "vectors": corpus.vectors,
                "seconds": seconds,
                "bytes": size,
                "fingerprint": corpus.fingerprint,
                "mark": corpus_mark,
                "workers": workers,
                "memory": given,
            },
        )
        _retire(connection, [former, *(old for old in replaced if old != name)], progress)
    return Built(
        name, corpus.vectors, seconds, size, memory, given, workers, concurrently, replaced
    )


def _one(connection: psycopg.Connection[Any], name: str, parameters: Any = None) -> Any:
    row = connection.execute(psycopg_sql("retrieval", name), parameters).fetchone()
    assert row is not None
    return row


def _prepare(
    connection: psycopg.Connection[Any], index: VectorIndex, vectors: int, workers: int | None
) -> tuple[int, int, int]:
    """Sets what building may use; bytes estimated, bytes given, workers."""
    limits = _one(connection, "build_limits")
    if workers is None:
        workers = max(0, limits.workers - 1)
    memory = index.memory(vectors)
    most = max(MEMORY_LEAST, min(limits.memory, MEMORY_MOST))
    if index.kind == "ivfflat" and memory > most:
        raise UsageError(
            f"--nlist {index.parameters(vectors)['nlist']} would take {_mb(memory)} of memory to "
            f"build, more than the {_mb(most)} that there is: take fewer lists"
        )
    given = min(max(memory, MEMORY_LEAST, _A_WORKER * (workers + 1)), most)
    _one(connection, "build_with", {"memory": f"{given >> 10}kB", "workers": str(workers)})
    return memory, given, workers


@contextmanager
def _or_nothing(db: Database, name: str, progress: Progress) -> Iterator[None]:
    """An index that was not finished is dropped: one built concurrently would stay, not valid."""
    try:
        yield
    except BaseException as error:
        with closing(db.raw_connection(autocommit=True)) as connection:
            _retire(connection, [name], progress)
        if isinstance(error, DiskFull) and "shared memory" in str(error):
            raise DatabaseError(
                "the server has too little shared memory for processes to build together: give "
                "its container more (docker's --shm-size), or build with --workers 0"
            ) from error
        raise


@contextmanager
def _watched(
    db: Database, building: psycopg.Connection[Any], vectors: int, progress: Progress
) -> Iterator[None]:
    """Reports how far the session is, as another session sees it."""
    pid, ended, done = building.info.backend_pid, Event(), 0

    def watch() -> None:
        try:
            look()
        except DatabaseError as error:  # a connection too many, say: no reason not to build
            progress.say(f"how far the build is cannot be seen: {error}")

    def look() -> None:
        nonlocal done
        waiting = False
        with translated_errors(), closing(db.raw_connection(autocommit=True)) as connection:
            connection.row_factory = namedtuple_row
            while not ended.wait(_EVERY):
                row = connection.execute(
                    psycopg_sql("retrieval", "build_progress"), {"pid": pid}
                ).fetchone()
                if row is None:
                    continue
                if min(row.tuples_done, vectors) > done:
                    advance(min(row.tuples_done, vectors) - done)
                    done = min(row.tuples_done, vectors)
                if row.current_locker_pid and not waiting:
                    waiting = True
                    progress.say(f"waiting for session {row.current_locker_pid}: it began before")

    with progress.task("indexing", total=vectors, unit="vectors") as advance:
        watcher = Thread(target=watch, name="index progress", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
        advance(vectors - done)


def _take_place(
    connection: psycopg.Connection[Any], fresh: str, former: str, row: dict[str, Any]
) -> tuple[str, ...]:
    """The new index gets the name and the row; the names of those that it replaces."""
    with connection.transaction():
        replaced = connection.execute(psycopg_sql("retrieval", "replace_indexes"), row).fetchall()
        rename(connection, row["name"], former)
        rename(connection, fresh, row["name"])
        connection.execute(psycopg_sql("retrieval", "add_index"), row)
    return tuple(old.name for old in replaced)


def _retire(connection: psycopg.Connection[Any], names: list[str], progress: Progress) -> None:
    """Drops indexes; where somebody reads for long, without anybody having to wait for that."""
    for name in names:
        connection.execute("SELECT set_config('lock_timeout', %s, false)", [_PATIENCE])
        try:
            drop(connection, name)
        except LockNotAvailable:
            progress.say(f"waiting for who still has the table, to drop index {name}")
            connection.execute("SELECT set_config('lock_timeout', '0', false)")
            drop(connection, name, concurrently=True)
    connection.execute("SELECT set_config('lock_timeout', '0', false)")


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
