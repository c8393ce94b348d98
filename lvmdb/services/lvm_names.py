"""What promoted names stand for now, and whether runs that are held are still what they were."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg

from lvmdb.db.engine import Database, translated_errors
from lvmdb.db.queries import psycopg_sql
from lvmdb.errors import ConnectionLostError
from lvmdb.services.parts import DATABASE_SECONDS

FRESH = 1.0
"""Seconds for which the database's last word on names counts."""

PATIENT = 0.5
"""Seconds to wait for the database where what it said last would do."""


@dataclass(frozen=True)
class Seen:
    """What the database said.

    Attributes:
        runs: by promoted name.
        sha256: of the weights of those runs that were asked about; one that is not there is gone.
    """

    runs: Mapping[str, int]
    sha256: Mapping[int, bytes]


class Names:
    """What promoted names stand for, over a connection of its own, asked at most once a second.

    Args:
        db: the database.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lvmdb-names")
        self._opened: psycopg.Connection[Any] | None = None
        self._asked: Future[Seen] | None = None
        self._at = float("-inf")
        self._last: Seen | None = None

    async def seen(self, held: Mapping[int, object]) -> Seen | None:
        """What the database said last; None if it never said anything, and does not now.

        Args:
            held: runs whose weights are asked about.

        Raises:
            DatabaseError: it refuses.
        """
        if time.monotonic() - self._at < FRESH:
            return self._last
        if self._asked is None:
            self._asked = self._thread.submit(self._ask, list(held))
        asked = self._asked
        try:
            async with asyncio.timeout(DATABASE_SECONDS if self._last is None else PATIENT):
                found: Seen | None = await asyncio.shield(asyncio.wrap_future(asked))
        except (TimeoutError, ConnectionLostError):
            found = self._last
        finally:
            if asked is self._asked:
                self._at = time.monotonic()
                self._asked = None if asked.done() else asked
        self._last = found
        return found

    def close(self) -> None:
        """Ask no more."""
        self._thread.submit(self._drop)
        self._thread.shutdown(wait=False)

    def _ask(self, held: list[int]) -> Seen:
        try:
            with translated_errors():
                if self._opened is None:
                    self._opened = self._db.raw_connection(autocommit=True)
                rows = self._opened.execute(
                    psycopg_sql("runs", "served").encode(), {"run_ids": held}
                ).fetchall()
        except BaseException:
            self._drop()
            raise
        there = {run_id: bytes(sha256) for name, run_id, sha256 in rows if name is None}
        return Seen(
            runs={name: run_id for name, run_id, _ in rows if name is not None},
            sha256={run_id: there.get(run_id, b"") for run_id in held},
        )

    def _drop(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None
