"""Runs as rows: made, claimed, measured, finished or failed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import Connection, delete, insert, select, update

from lvmdb.db.engine import Database
from lvmdb.db.queries import psycopg_sql, query
from lvmdb.db.schema.runs import checkpoint, evaluation, experiment_run, prediction, run_metric
from lvmdb.errors import LvmdbError, RunError, UnknownNameError

LOCK_CLASS = 0x6C766D
"""First key of the advisory locks of runs ("lvm" in ASCII); the second is the run's id."""

HEARTBEAT_EVERY = 10.0
"""Seconds between two heartbeats."""

CLAIM_PATIENCE = 5.0
"""Seconds to wait for the session of a process that was just killed to end."""


@dataclass(frozen=True)
class Run:
    """A run as the database has it; see the comments of `experiment_run`."""

    run_id: int
    kind: str
    architecture: str
    hyperparameters: Mapping[str, Any]
    loss: str | None
    sequence_set_id: int
    sequence_fingerprint: bytes
    seed: int
    status: str
    stamps: tuple[str, ...]
    worker: str | None
    error: str | None
    parent_run_id: int | None


@dataclass(frozen=True)
class Metric:
    """One number that training measured; `step` counts batches from the start of the run."""

    name: str
    split: str
    step: int
    epoch: int
    value: float


def create(
    connection: Connection,
    *,
    kind: str,
    architecture: str,
    hyperparameters: Mapping[str, Any],
    loss: str | None,
    sequence_set_id: int,
    sequence_fingerprint: bytes,
    seed: int,
    stamps: Sequence[str] = (),
    parent_run_id: int | None = None,
) -> int:
    """A planned run; returns its id."""
    run_id: int = connection.execute(
        insert(experiment_run)
        .values(
            kind=kind,
            architecture=architecture,
            hyperparameters=dict(hyperparameters),
            loss=loss,
            sequence_set_id=sequence_set_id,
            sequence_fingerprint=sequence_fingerprint,
            seed=seed,
            stamps=list(stamps),
            parent_run_id=parent_run_id,
        )
        .returning(experiment_run.c.run_id)
    ).scalar_one()
    return run_id


def find_same(
    connection: Connection,
    *,
    architecture: str,
    hyperparameters: Mapping[str, Any],
    loss: str | None,
    sequence_set_id: int,
    seed: int,
) -> int | None:
    """The id of a run of the same configuration, data and seed, if there is one."""
    row = connection.execute(
        query("runs", "same_run"),
        {
            "architecture": architecture,
            "hyperparameters": json.dumps(dict(hyperparameters)),
            "loss": loss,
            "sequence_set_id": sequence_set_id,
            "seed": seed,
        },
    ).one_or_none()
    return None if row is None else int(row.run_id)


def get(db: Database, run_id: int) -> Run:
    """The run of this id.

    Raises:
        UnknownNameError: there is none.
    """
    with db.connect() as connection:
        return read(connection, run_id)


def read(connection: Connection, run_id: int) -> Run:
    """As `get`, on a connection that is open already."""
    where = experiment_run.c.run_id == run_id
    row = connection.execute(select(experiment_run).where(where)).mappings().one_or_none()
    if row is None:
        hint = "'lvmdb runs list' shows those that exist"
        raise UnknownNameError("run", run_id, hint=hint)
    return Run(
        run_id=row["run_id"],
        kind=row["kind"],
        architecture=row["architecture"],
        hyperparameters=row["hyperparameters"],
        loss=row["loss"],
        sequence_set_id=row["sequence_set_id"],
        sequence_fingerprint=bytes(row["sequence_fingerprint"]),
        seed=row["seed"],
        status=row["status"],
        stamps=tuple(row["stamps"]),
        worker=row["worker"],
        error=row["error"],
        parent_run_id=row["parent_run_id"],
    )


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
        _lock(db, connection, run_id)
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


def start(
    db: Database,
    run_id: int,
    *,
    device: str,
    kernel: str,
    parameter_count: int,
    code_version: str,
    code_dirty: bool | None,
    environment: Mapping[str, Any],
) -> None:
    """Write what is about to run, and where."""
    with db.begin() as connection:
        connection.execute(
            query("runs", "start"),
            {
                "run_id": run_id,
                "worker": worker_name(),
                "device": device,
                "kernel": kernel,
                "parameter_count": parameter_count,
                "code_version": code_version,
                "code_dirty": code_dirty,
                "environment": json.dumps(dict(environment)),
            },
        )


def finish(db: Database, claimed: Claim, *, parameter_count: int) -> None:
    """The run succeeded.

    Raises:
        RunError: it is no longer this process's.
    """
    with db.begin() as connection:
        claimed.check(connection)
        connection.execute(
            query("runs", "finish"),
            {"run_id": claimed.run_id, "parameter_count": parameter_count},
        )


def write_metrics(connection: Connection, run_id: int, metrics: Sequence[Metric]) -> None:
    """Write many metrics at once."""
    if metrics:
        rows = [{"run_id": run_id, **vars(metric)} for metric in metrics]
        connection.execute(query("runs", "write_metric"), rows)


def forget_metrics_after(connection: Connection, run_id: int, epoch: int) -> None:
    """Drop the metrics of later epochs than `epoch`."""
    connection.execute(query("runs", "forget_metrics_after"), {"run_id": run_id, "epoch": epoch})


def cancel(db: Database, run_id: int) -> None:
    """Mark a run that has not begun, or has failed, as not to be run.

    Raises:
        RunError: it is running, or has succeeded.
    """
    with db.begin() as connection:
        run = read(connection, run_id)
        if run.status in ("running", "succeeded"):
            raise RunError(f"run {run_id} is {run.status} and cannot be cancelled")
        _set_status(connection, run_id, "cancelled")


def retry(db: Database, run_id: int) -> None:
    """Make a failed or cancelled run a planned one again; it goes on from its last checkpoint.

    Raises:
        RunError: it is in another state.
    """
    with db.begin() as connection:
        run = read(connection, run_id)
        if run.status not in ("failed", "cancelled"):
            raise RunError(
                f"run {run_id} is {run.status}: only a failed or cancelled one is retried"
            )
        _set_status(connection, run_id, "planned")


def remove(db: Database, run_id: int) -> None:
    """Delete a run with its metrics, checkpoints, predictions and evaluations.

    Raises:
        RunError: a process has it.
        DatabaseError: other runs rest on it.
    """
    with closing(db.raw_connection(autocommit=True)) as session, db.begin() as connection:
        read(connection, run_id)
        _lock(db, session, run_id)
        for table in (prediction, evaluation, run_metric, checkpoint):
            connection.execute(delete(table).where(table.c.run_id == run_id))
        connection.execute(delete(experiment_run).where(experiment_run.c.run_id == run_id))


def worker_name() -> str:
    """Host and process, for people."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _set_status(connection: Connection, run_id: int, status: str) -> None:
    connection.execute(
        update(experiment_run)
        .where(experiment_run.c.run_id == run_id)
        .values(status=status, error=None, traceback=None, finished_at=None)
    )


def _lock(db: Database, connection: psycopg.Connection[Any], run_id: int) -> None:
    deadline = time.monotonic() + CLAIM_PATIENCE
    parameters = {"lock_class": LOCK_CLASS, "run_id": run_id}
    while True:
        row = connection.execute(psycopg_sql("runs", "claim"), parameters).fetchone()
        if row is not None and row[0]:
            return
        if time.monotonic() > deadline:
            run = get(db, run_id)
            raise RunError(f"run {run_id} is running elsewhere ({run.worker}): wait for it to end")
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
