"""The queue of runs: procrastinate's tables and SQL functions, on connections of ours.

Each change of a job stands in the same transaction as that of the run's row, so that no run is
`queued` without a job. Procrastinate orders the jobs, hands each to one worker (`FOR UPDATE SKIP
LOCKED`), and keeps the workers' heartbeats and the history of each job (`procrastinate_events`).
Its own worker is not used: that one writes the end of a job in a transaction of its own.

The queue decides who is offered a run; the run's advisory lock (`db.claims`) decides who has it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection

from lvmdb.db import runs
from lvmdb.db.claims import LOCK_CLASS
from lvmdb.db.engine import Database, raw
from lvmdb.db.queries import query
from lvmdb.errors import RunError

MAKING_KEY = 0x6C766D71
"""Key of the advisory lock under which the tables are made: "lvmq" in ASCII."""


@dataclass(frozen=True)
class Job:
    """A run that the queue has offered.

    Attributes:
        job_id: of the job, in `procrastinate_jobs`.
        run_id: of the run.
        priority: the highest is offered first; of equals, the one that has waited longest.
        failures: tries of the run that ended in an error.
        lost: workers that died with it.
        alone: it ran out of memory, so that nothing may run beside it.
    """

    job_id: int
    run_id: int
    priority: int = 0
    failures: int = 0
    lost: int = 0
    alone: bool = False


def ensure(db: Database) -> None:
    """Make the queue's tables, if they are not there."""
    with db.begin() as connection:
        _make(connection)


def enqueue(connection: Connection, run_id: int, *, priority: int | None = None) -> None:
    """Queue a run that is planned or has failed; one that is queued or runs stays so.

    Args:
        connection: the job stands and falls with its transaction.
        run_id: of the run.
        priority: the highest is offered first; also of one that waits already. None: 0, or what
            it has.

    Raises:
        UnknownNameError: there is no such run.
        RunError: it has succeeded, or was cancelled.
    """
    _make(connection)
    status = runs.lock_row(connection, run_id)
    if status == "succeeded":
        raise RunError(f"run {run_id} has succeeded: there is nothing to queue")
    if status == "cancelled":
        raise RunError(f"run {run_id} was cancelled: 'lvmdb runs retry {run_id}' plans it again")
    if status == "running" and claimed(connection, run_id):
        return
    live = _execute(connection, "live_job", run_id=run_id).scalar_one()
    if status in ("planned", "failed") or not live:
        set_queued(connection, run_id)
    if not live:
        _defer(connection, Job(0, run_id, priority or 0), 0.0)
    elif priority is not None:
        _execute(connection, "set_priority", run_id=run_id, priority=priority)


def cancel(db: Database, run_id: int) -> str:
    """Mark a run as not to be run, and take its job away; a process that has it stops.

    Returns:
        What its status was.

    Raises:
        UnknownNameError: there is no such run.
        RunError: it has succeeded.
    """
    with db.begin() as connection:
        before = runs.mark_cancelled(connection, run_id)
        if _execute(connection, "is_there").scalar_one():
            _execute(connection, "take_away", run_id=run_id)
    return before


def claimed(connection: Connection, run_id: int) -> bool:
    """Whether a living process has the run."""
    found = _execute(connection, "claimed", lock_class=LOCK_CLASS, run_id=run_id)
    return bool(found.scalar_one())


def live_runs(connection: Connection) -> set[int]:
    """Runs that wait or are at a worker: also those that have succeeded and are being evaluated."""
    if not _execute(connection, "is_there").scalar_one():
        return set()
    return set(_execute(connection, "live_runs").scalars())


def take(connection: Connection, worker_id: int) -> Job | None:
    """The run that comes next, offered to this worker; None if none waits."""
    row = _execute(connection, "take", worker_id=worker_id).one()
    return None if row.id is None else _job(row)


def hold(connection: Connection, job: Job, worker_id: int) -> bool:
    """Whether a job is still this worker's; if so, nobody takes it until the transaction ends."""
    held = _execute(connection, "hold", job_id=job.job_id, worker_id=worker_id)
    return held.one_or_none() is not None


def finish(connection: Connection, job: Job, status: str) -> None:
    """A job ends: `succeeded`, `failed` or `aborted`."""
    _execute(connection, "finish", job_id=job.job_id, status=status)


def put_back(connection: Connection, job: Job, delay: float = 0.0) -> None:
    """The same job is offered again, after so many seconds; this counts as nothing."""
    _execute(connection, "put_back", job_id=job.job_id, delay=delay)


def defer_again(connection: Connection, job: Job, delay: float) -> None:
    """A try ends, and the next waits, with the counts of `job`, for so many seconds."""
    finish(connection, job, "failed")
    _defer(connection, job, delay)


def set_queued(
    connection: Connection, run_id: int, error: str | None = None, traceback: str | None = None
) -> None:
    """The run's row says that it waits, and what ended the last try; not if it was cancelled."""
    _execute(connection, "set_queued", run_id=run_id, error=error, traceback=traceback)


def set_failed(connection: Connection, run_id: int, error: str, traceback: str | None) -> None:
    """The run's row says why it is given up; not if it was cancelled.

    One that has succeeded, and whose evaluation failed, keeps its status.
    """
    _execute(connection, "set_failed", run_id=run_id, error=error, traceback=traceback)


def stalled(
    connection: Connection, silent_for: float, worker_id: int, held: Sequence[int]
) -> list[tuple[Job, int | None]]:
    """Jobs that nobody works on, with the workers that they were given to.

    Args:
        connection: to the database.
        silent_for: seconds without a heartbeat after which a worker is dead.
        worker_id: of the worker that asks.
        held: ids of the jobs that it knows of; others of its own are found, too.
    """
    rows = _execute(
        connection, "stalled", silent_for=silent_for, worker_id=worker_id, held=list(held)
    )
    return [(_job(row), row.worker_id) for row in rows]


def hold_stalled(connection: Connection, job: Job, worker_id: int | None) -> bool:
    """As `hold`, of a job that was found to be stalled."""
    held = _execute(connection, "hold_stalled", job_id=job.job_id, worker_id=worker_id)
    return held.one_or_none() is not None


def register(connection: Connection, gone_after: float) -> int:
    """A new worker's id; workers that have been silent for so many seconds are forgotten."""
    _execute(connection, "forget_workers", silent_for=gone_after)
    return int(_execute(connection, "register").scalar_one())


def beat(connection: Connection, worker_id: int) -> bool:
    """Send a worker's heartbeat; False if it has been forgotten."""
    _execute(connection, "beat", worker_id=worker_id)
    return bool(_execute(connection, "registered", worker_id=worker_id).scalar_one())


def unregister(connection: Connection, worker_id: int) -> None:
    """A worker ends; jobs that it still has count as stalled at once."""
    _execute(connection, "unregister", worker_id=worker_id)


def _make(connection: Connection) -> None:
    if _execute(connection, "is_there").scalar_one():
        return
    # Its schema is for a database that has none: who waited here looks again.
    _execute(connection, "lock_making", key=MAKING_KEY)
    if _execute(connection, "is_there").scalar_one():
        return
    from procrastinate.schema import SchemaManager

    raw(connection).execute(SchemaManager.get_schema())


def _defer(connection: Connection, job: Job, delay: float) -> None:
    counts = asdict(job)
    del counts["job_id"], counts["priority"]
    _execute(
        connection,
        "defer",
        priority=job.priority,
        run_id=job.run_id,
        args=json.dumps(counts),
        delay=delay,
    )


def _job(row: Any) -> Job:
    return Job(row.id, priority=row.priority, **row.args)


def _execute(connection: Connection, name: str, **parameters: object) -> Any:
    return connection.execute(query("queue", name), parameters)
