"""Runs as rows: planned, started, measured, finished, cancelled, deleted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from lvmdb.db.claims import Claim, lock, worker_name
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.schema.evaluations import evaluation, prediction
from lvmdb.db.schema.runs import checkpoint, experiment_run, run_metric
from lvmdb.errors import RunError, UnknownNameError


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
    experiment_id: int | None = None,
    schedule_week: int | None = None,
    schedule_slot: int | None = None,
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
            experiment_id=experiment_id,
            schedule_week=schedule_week,
            schedule_slot=schedule_slot,
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


def start(
    claimed: Claim,
    *,
    device: str,
    kernel: str,
    parameter_count: int,
    code_version: str,
    code_dirty: bool | None,
    environment: Mapping[str, Any],
    seen_fingerprint: bytes,
    stamps: Sequence[str] = (),
) -> None:
    """Write what is about to run, where, and on which rows.

    Args:
        claimed: this process's claim on the run.
        device, kernel, parameter_count, code_version, code_dirty, environment: see the comments of
            `experiment_run`.
        seen_fingerprint: of the data as it is now.
        stamps: added to the run's, each once.

    Raises:
        RunTakenError: the run is no longer this process's.
        RunCancelledError: it was cancelled.
        DatabaseError: the data is not that which the run was made for.
    """
    values = {
        "run_id": claimed.run_id,
        "worker": worker_name(),
        "device": device,
        "kernel": kernel,
        "parameter_count": parameter_count,
        "code_version": code_version,
        "code_dirty": code_dirty,
        "environment": json.dumps(dict(environment)),
        "seen_fingerprint": seen_fingerprint,
        "stamps": list(stamps),
    }
    claimed.write(lambda connection: connection.execute(query("runs", "start"), values))
    claimed.started()


def finish(claimed: Claim, *, parameter_count: int) -> None:
    """The run succeeded.

    Raises:
        RunTakenError: it is no longer this process's.
        RunCancelledError: it was cancelled.
    """
    values = {"run_id": claimed.run_id, "parameter_count": parameter_count}
    claimed.write(lambda connection: connection.execute(query("runs", "finish"), values))


def write_metrics(connection: Connection, run_id: int, metrics: Sequence[Metric]) -> None:
    """Write many metrics at once."""
    if metrics:
        rows = [{"run_id": run_id, **vars(metric)} for metric in metrics]
        connection.execute(query("runs", "write_metric"), rows)


def forget_metrics_after(connection: Connection, run_id: int, step: int) -> None:
    """Drop the metrics of later steps than `step`."""
    connection.execute(query("runs", "forget_metrics_after"), {"run_id": run_id, "step": step})


def cancel(db: Database, run_id: int) -> None:
    """Mark a run as not to be run; a process that has it notices, and stops.

    Raises:
        RunError: it has succeeded.
    """
    with db.begin() as connection:
        mark_cancelled(connection, run_id)


def mark_cancelled(connection: Connection, run_id: int) -> str:
    """As `cancel`, in the caller's transaction; returns what the run's status was.

    Raises:
        RunError: it has succeeded.
    """
    status = lock_row(connection, run_id)
    if status == "succeeded":
        raise RunError(f"run {run_id} is succeeded and cannot be cancelled")
    _set_status(connection, run_id, "cancelled")
    return status


def lock_row(connection: Connection, run_id: int) -> str:
    """Keep others from changing a run's row until the transaction ends; returns its status.

    Raises:
        UnknownNameError: there is no such run.
    """
    columns = experiment_run.c
    locked = select(columns.status).where(columns.run_id == run_id).with_for_update()
    status = connection.execute(locked).scalar()
    return read(connection, run_id).status if status is None else str(status)


def retry(db: Database, run_id: int) -> None:
    """Make a failed or cancelled run a planned one again; it goes on from its last checkpoint.

    Raises:
        RunError: it is in another state.
    """
    with db.begin() as connection:
        status = lock_row(connection, run_id)
        if status not in ("failed", "cancelled"):
            raise RunError(f"run {run_id} is {status}: only a failed or cancelled one is retried")
        _set_status(connection, run_id, "planned")


def remove(db: Database, run_id: int) -> None:
    """Delete a run with its metrics, checkpoints, predictions and evaluations.

    Its place in a schedule stays, and says so.

    Raises:
        RunError: a process has it, or something rests on it.
    """
    with closing(db.raw_connection(autocommit=True)) as session, db.begin() as connection:
        read(connection, run_id)
        lock(db, session, run_id)
        key = {"run_id": run_id}
        if (resting := connection.execute(query("runs", "rests_on"), key).scalar()) is not None:
            raise RunError(f"run {run_id} cannot be deleted: {resting}")
        connection.execute(query("schedule", "forget_run"), key)
        for table in (prediction, evaluation, run_metric, checkpoint):
            connection.execute(delete(table).where(table.c.run_id == run_id))
        connection.execute(delete(experiment_run).where(experiment_run.c.run_id == run_id))


def _set_status(connection: Connection, run_id: int, status: str) -> None:
    connection.execute(
        update(experiment_run)
        .where(experiment_run.c.run_id == run_id)
        .values(status=status, error=None, traceback=None, finished_at=None)
    )
