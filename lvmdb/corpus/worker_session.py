"""The session by which a process is in an ingest job: its lock, its heartbeats, its questions."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lvmdb.db.engine import Database, translated_errors
from lvmdb.db.queries import psycopg_sql
from lvmdb.errors import LvmdbError

LOCK_CLASS = 0x6C7669
"""First key of the advisory locks of processes ("lvi" in ASCII); the second is the worker's id. The
view `live_ingest_worker` has it too."""

HEARTBEAT_EVERY = 10.0
"""Seconds between two heartbeats; the view believes in a process for nine times as long."""


class WorkerSession:
    """A session that holds the lock of one worker, until it is closed or its process dies.

    May be used by several threads.

    Attributes:
        worker_id: of the worker; nobody has had it before.
    """

    def __init__(self, db: Database) -> None:
        self._asking = threading.Lock()
        self._session = db.raw_connection(autocommit=True)
        try:
            row = self.ask("next_worker")
            assert row is not None, "a sequence always has a next value"
            self.worker_id = int(row[0])
            self.ask("lock_worker", lock_class=LOCK_CLASS, worker_id=self.worker_id)
        except BaseException:
            self._session.close()
            raise

    def ask(self, name: str, **parameters: Any) -> tuple[Any, ...] | None:
        """The first row that a statement of `sql/ingest.sql` gives, if it gives any.

        Raises:
            DatabaseError: the server does not answer, or refuses.
        """
        with self._asking, translated_errors():
            cursor = self._session.execute(psycopg_sql("ingest", name), parameters)
            row: tuple[Any, ...] | None = cursor.fetchone() if cursor.description else None
            return row

    @contextmanager
    def heartbeats(self) -> Iterator[None]:
        """Send them while the block lasts."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(HEARTBEAT_EVERY):
                # Whoever works will meet the error itself, and report it.
                with contextlib.suppress(LvmdbError):
                    self.ask("beat", worker_id=self.worker_id)

        beating = threading.Thread(target=beat, name="lvmdb-heartbeat", daemon=True)
        beating.start()
        try:
            yield
        finally:
            stop.set()
            beating.join()

    def close(self) -> None:
        """Give the lock back."""
        self._session.close()
