"""A run to oneself: the lock of a session, its heartbeats, and the failure that it leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from typing import Any

import psycopg
from sqlalchemy import Connection, select

from lvmdb.db.engine import Database, translated_errors
from lvmdb.db.patience import patiently
from lvmdb.db.queries import psycopg_sql, query
from lvmdb.db.schema.runs import experiment_run
from lvmdb.errors import ConnectionLostError, LvmdbError, RunCancelledError, RunTakenError
from lvmdb.progress import SILENT, Progress

LOCK_CLASS = 0x6C766D
"""First key of the advisory locks of runs ("lvm" in ASCII); the second is the run's id."""

HEARTBEAT_EVERY = 10.0
"""Seconds between two heartbeats."""

CLAIM_PATIENCE = 5.0
"""Seconds to wait for the session of a process that was just killed to end."""

_recorded = ContextVar("recorded", default=True)
"""Whether `failure_recorded` records."""


class Claim:
    """A run that this process has to itself: a lock that one session of the server holds.

    A server that goes away ends the session. The lock is taken again when it is back, unless
    another process had the run in between.

    A run may be cancelled while it is claimed: then nothing more is written of it.

    Attributes:
        run_id: of the run.
        pid: of the session, at the server.
        sessions: how many there were; each but the first means that the server had gone away.
    """

    def __init__(self, db: Database, run_id: int) -> None:
        """Take the run.

        Raises:
            RunTakenError: another process has it.
        """
        self.run_id = run_id
        self._db = db
        self._taking = threading.Lock()
        self._cancelled = False
        self.sessions = 0
        self._take()
        # What the row says of who runs it, until `started` says that it is this process.
        self._found: tuple[str, str | None] | None = self._row()

    def started(self) -> None:
        """From now on the row names this process; any other means that the run was lost."""
        self._found = None

    def keep(self) -> None:
        """Send a heartbeat; where the session has ended, take the run again.

        Raises:
            ConnectionLostError: the server is away.
            RunTakenError: another process has the run, or had it in the meantime.
            RunCancelledError: the run was cancelled.
        """
        parameters = {"run_id": self.run_id}
        with self._taking:
            try:
                with translated_errors():
                    beat = self._session.execute(psycopg_sql("runs", "heartbeat"), parameters)
                    row = beat.fetchone()
            except ConnectionLostError:
                self._session.close()
                self._take()
                self._check_nobody_had_it()
                row = None
        self._cancelled |= row is not None and row[0] == "cancelled"
        self.refuse_if_cancelled()

    def refuse_if_cancelled(self) -> None:
        """End the work, if a heartbeat has found the run cancelled; asks no server.

        Raises:
            RunCancelledError: the run was cancelled.
        """
        if self._cancelled:
            raise RunCancelledError(
                f"run {self.run_id} was cancelled while it ran: 'lvmdb runs retry {self.run_id}' "
                "plans it again, from its last checkpoint"
            )

    def write(self, action: Callable[[Connection], object], progress: Progress = SILENT) -> None:
        """Do `action` in one transaction, while the run is this process's; outlive a restart.

        Args:
            action: writes; it may have to run again, in a new transaction.
            progress: told when the server is waited for.

        Raises:
            ConnectionLostError: the server stayed away.
            RunTakenError: another process has the run, or had it in the meantime.
            RunCancelledError: the run was cancelled.
        """

        def once() -> None:
            self.keep()
            with self._db.begin() as connection:
                self._check(connection)
                action(connection)

        patiently(once, progress)

    def close(self) -> None:
        """Give the run back."""
        self._session.close()

    def _take(self) -> None:
        session = self._db.raw_connection(autocommit=True)
        try:
            lock(self._db, session, self.run_id)
        except BaseException:
            session.close()
            raise
        self._session, self.pid = session, session.info.backend_pid
        self.sessions += 1

    def _row(self) -> tuple[str, str | None] | None:
        columns = experiment_run.c
        with self._db.connect() as connection:
            row = connection.execute(
                select(columns.status, columns.worker).where(columns.run_id == self.run_id)
            ).one_or_none()
        return None if row is None else (row.status, row.worker)

    def _check_nobody_had_it(self) -> None:
        row = self._row()
        if row is not None and row[0] == "cancelled":
            self._cancelled = True
            return
        # `succeeded` if the server went away before it could say that it had written so.
        ours = [(status, worker_name()) for status in ("running", "succeeded")]
        if row not in [*ours, self._found] or row is None:
            self._session.close()
            had = "it is gone" if row is None else f"it is {row[0]}, last run by {row[1]}"
            raise RunTakenError(
                f"run {self.run_id} is no longer this process's: the server ended its session, "
                f"and {had}; 'lvmdb train --run-id {self.run_id}' goes on from the last checkpoint"
            )

    def _check(self, connection: Connection) -> None:
        held = connection.execute(
            query("runs", "still_claimed"),
            {"pid": self.pid, "lock_class": LOCK_CLASS, "run_id": self.run_id},
        ).scalar_one()
        if not held:
            raise ConnectionLostError(f"the session that had run {self.run_id} has ended")
        # Who cancels now waits until the transaction has ended.
        columns = experiment_run.c
        status = connection.execute(
            select(columns.status).where(columns.run_id == self.run_id).with_for_update()
        ).scalar()
        self._cancelled |= status == "cancelled"
        self.refuse_if_cancelled()


@contextmanager
def claim(db: Database, run_id: int) -> Iterator[Claim]:
    """Have a run to oneself while the block lasts, and send its heartbeats.

    The claim is a lock of the session: when the process dies, so does it.

    Raises:
        RunTakenError: another process has the run.
    """
    with closing(Claim(db, run_id)) as claimed:
        stop = threading.Event()
        beating = threading.Thread(
            target=_beat, args=(claimed, stop), name="lvmdb-heartbeat", daemon=True
        )
        beating.start()
        try:
            yield claimed
        finally:
            stop.set()
            beating.join()


@contextmanager
def failure_recorded(
    db: Database,
    run_id: int,
    *,
    worker: str | None = None,
    reports: Callable[[], bool] = lambda: True,
) -> Iterator[None]:
    """Write an error in the block to the run as its failure, and raise it again.

    Ctrl-C is one, and so is SIGTERM, with which supervisors and containers stop a program.

    Args:
        db: the database.
        run_id: of the run.
        worker: what the row must still name, or another process has the run; None for any.
        reports: asked on an error: whether this process is the one that records it.
    """
    with _at_termination(lambda number, _: sys.exit(128 + number)):
        try:
            yield
        except BaseException as error:
            # Who stops a group of processes may well ask twice.
            with _at_termination(signal.SIG_IGN):
                if _recorded.get() and reports():
                    _record_failure(db, run_id, error, worker)
            raise


@contextmanager
def failures_left_to_others() -> Iterator[None]:
    """In the block `failure_recorded` records nothing: who started this process records it."""
    before = _recorded.set(False)
    try:
        yield
    finally:
        _recorded.reset(before)


def worker_name(pid: int | None = None) -> str:
    """Host and process, this one by default, for people."""
    return f"{socket.gethostname()}:{pid or os.getpid()}"


def lock(db: Database, connection: psycopg.Connection[Any], run_id: int) -> None:
    """Take a run's lock for a session.

    Raises:
        RunTakenError: another session keeps it.
    """
    deadline = time.monotonic() + CLAIM_PATIENCE
    parameters = {"lock_class": LOCK_CLASS, "run_id": run_id}
    while True:
        row = connection.execute(psycopg_sql("runs", "claim"), parameters).fetchone()
        if row is not None and row[0]:
            return
        if time.monotonic() > deadline:
            where = experiment_run.c.run_id == run_id
            with db.connect() as rows:
                worker = rows.execute(select(experiment_run.c.worker).where(where)).scalar()
            raise RunTakenError(f"run {run_id} is running elsewhere ({worker}): wait for it to end")
        time.sleep(0.1)


@contextmanager
def _at_termination(handler: signal.Handlers | Callable[[int, Any], object]) -> Iterator[None]:
    """Handle SIGTERM so in the block; only a main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _beat(claimed: Claim, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_EVERY):
        # A server that is away may come back; a lost run is for the training loop to report.
        with contextlib.suppress(LvmdbError):
            claimed.keep()


def _record_failure(db: Database, run_id: int, error: BaseException, worker: str | None) -> None:
    interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
    message = "interrupted" if interrupted else str(error) or type(error).__name__
    trace = "".join(traceback.format_exception(error))
    # Without a server there is nowhere to write it; the error itself is what the user must see.
    with contextlib.suppress(LvmdbError), db.begin() as connection:
        connection.execute(
            query("runs", "fail"),
            {"run_id": run_id, "error": message, "traceback": trace, "worker": worker},
        )
