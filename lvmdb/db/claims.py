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
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import Connection, select

from lvmdb.db.engine import Database
from lvmdb.db.queries import psycopg_sql, query
from lvmdb.db.schema.runs import experiment_run
from lvmdb.errors import LvmdbError, RunError

LOCK_CLASS = 0x6C766D
"""First key of the advisory locks of runs ("lvm" in ASCII); the second is the run's id."""

HEARTBEAT_EVERY = 10.0
"""Seconds between two heartbeats."""

CLAIM_PATIENCE = 5.0
"""Seconds to wait for the session of a process that was just killed to end."""


@dataclass(frozen=True)
class Claim:
    """A run that this process has to itself, while the session `pid` of the server lives."""

    run_id: int
    pid: int

    def check(self, connection: Connection) -> None:
        """Refuse to write for a run that another process may have by now.

        Raises:
            RunError: the session that had claimed the run has ended.
        """
        held = connection.execute(
            query("runs", "still_claimed"),
            {"pid": self.pid, "lock_class": LOCK_CLASS, "run_id": self.run_id},
        ).scalar_one()
        if not held:
            raise RunError(
                f"run {self.run_id} is no longer this process's: the server ended its session; "
                f"'lvmdb train --run-id {self.run_id}' goes on from the last checkpoint"
            )


@contextmanager
def claim(db: Database, run_id: int) -> Iterator[Claim]:
    """Have a run to oneself while the block lasts, and send its heartbeats.

    The claim is a lock of the session: when the process dies, so does it.

    Raises:
        RunError: another process has the run.
    """
    with closing(db.raw_connection(autocommit=True)) as connection:
        lock(db, connection, run_id)
        stop = threading.Event()
        beating = threading.Thread(
            target=_beat, args=(connection, run_id, stop), name="lvmdb-heartbeat", daemon=True
        )
        beating.start()
        try:
            yield Claim(run_id, connection.info.backend_pid)
        finally:
            stop.set()
            beating.join()


@contextmanager
def failure_recorded(db: Database, run_id: int) -> Iterator[None]:
    """Write an error in the block to the run as its failure, and raise it again.

    Ctrl-C is one, and so is SIGTERM, with which supervisors and containers stop a program.
    """
    try:
        with _termination_raised():
            yield
    except BaseException as error:
        _record_failure(db, run_id, error)
        raise


def worker_name() -> str:
    """Host and process, for people."""
    return f"{socket.gethostname()}:{os.getpid()}"


def lock(db: Database, connection: psycopg.Connection[Any], run_id: int) -> None:
    """Take a run's lock for a session.

    Raises:
        RunError: another session keeps it.
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
            raise RunError(f"run {run_id} is running elsewhere ({worker}): wait for it to end")
        time.sleep(0.1)


@contextmanager
def _termination_raised() -> Iterator[None]:
    """Raise `SystemExit` in the block at SIGTERM; only a main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _beat(connection: psycopg.Connection[Any], run_id: int, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_EVERY):
        # A lost session is for the training loop to report, when it next writes.
        with contextlib.suppress(psycopg.Error):
            connection.execute(psycopg_sql("runs", "heartbeat"), {"run_id": run_id})


def _record_failure(db: Database, run_id: int, error: BaseException) -> None:
    interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
    message = "interrupted" if interrupted else str(error) or type(error).__name__
    trace = "".join(traceback.format_exception(error))
    # Without a server there is nowhere to write it; the error itself is what the user must see.
    with contextlib.suppress(LvmdbError), db.begin() as connection:
        connection.execute(
            query("runs", "fail"), {"run_id": run_id, "error": message, "traceback": trace}
        )
