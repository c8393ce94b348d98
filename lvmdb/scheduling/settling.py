"""What a try came to, written to the job and the run's row in one transaction.

Whoever changes both locks the run's row first, then the job's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from lvmdb.db import needed
from lvmdb.db.claims import worker_name
from lvmdb.db.engine import Database
from lvmdb.db.schema.runs import experiment_run
from lvmdb.scheduling import queue
from lvmdb.scheduling.policy import Ended, Ending, Fate, Limits, Verdict, decide
from lvmdb.scheduling.queue import Job


@dataclass(frozen=True)
class Settled:
    """What became of a try.

    Attributes:
        fate: of the job; None if it is no longer this worker's, and nothing was written.
        said: in a few words, as in "run 7 ...".
    """

    fate: Fate | None
    said: str


@dataclass(frozen=True)
class _Row:
    """What is asked of a run's row."""

    status: str
    architecture: str
    worker: str | None


def admit(db: Database, job: Job, worker_id: int, limits: Limits) -> str | None:
    """Look at a run that was just offered, before a process is started for it.

    What is not to be run any more leaves the queue; what rests on a run that has yet to end is put
    back.

    Returns:
        The run's architecture; None if there is nothing to run now.
    """
    with db.begin() as connection:
        row = _lock(connection, job.run_id)
        gone = row is None or row.status in ("cancelled", "planned")
        if row is not None and not gone and needed.awaited(connection, job.run_id) is None:
            return row.architecture
        if queue.hold(connection, job, worker_id):
            if gone:
                queue.finish(connection, job, "aborted")
            else:
                queue.put_back(connection, job, limits.taken_delay)
    return None


def settle(
    db: Database, job: Job, worker_id: int, ended: Ended, limits: Limits, pid: int | None = None
) -> Settled:
    """Write what a try came to.

    Args:
        db: the database.
        job: what was tried.
        worker_id: of the worker that tried it.
        ended: how that ended.
        limits: what a run may ask for.
        pid: of the process that tried it on this machine; None if there was none.
    """
    with db.begin() as connection:
        row = _lock(connection, job.run_id)
        if not queue.hold(connection, job, worker_id):
            return Settled(None, "is another worker's by now")
        by_hand = row is not None and row.status == "running" and row.worker != worker_name(pid)
        if row is not None and by_hand and queue.claimed(connection, job.run_id):
            # Somebody has taken it up since.
            ended = Ended(Ending.TAKEN, f"it is running elsewhere ({row.worker})")
        return _write(connection, decide(job, ended, limits), ended, row)


def take_back(
    db: Database, worker_id: int, held: Sequence[int], silent_for: float, limits: Limits
) -> list[tuple[Job, Settled]]:
    """Offer the runs of dead workers again; not one that a living process still has.

    Args:
        db: the database.
        worker_id: of the worker that asks.
        held: ids of its jobs.
        silent_for: seconds without a heartbeat after which a worker is dead.
        limits: what a run may ask for.
    """
    with db.begin() as connection:
        found = queue.stalled(connection, silent_for, worker_id, held)
    done: list[tuple[Job, Settled]] = []
    for job, silent in found:
        with db.begin() as connection:
            row = _lock(connection, job.run_id)
            if not queue.hold_stalled(connection, job, silent):
                continue
            if queue.claimed(connection, job.run_id):
                continue
            lost = Ended(Ending.LOST, "its worker died")
            done.append((job, _write(connection, decide(job, lost, limits), lost, row)))
    return done


def _lock(connection: Connection, run_id: int) -> _Row | None:
    columns = experiment_run.c
    row = connection.execute(
        select(columns.status, columns.architecture, columns.worker)
        .where(columns.run_id == run_id)
        .with_for_update()
    ).one_or_none()
    return None if row is None else _Row(row.status, row.architecture, row.worker)


def _write(connection: Connection, verdict: Verdict, ended: Ended, row: _Row | None) -> Settled:
    job = verdict.job
    if row is None or row.status in ("cancelled", "planned"):
        queue.finish(connection, job, "aborted")
        return Settled(Fate.END, "is gone" if row is None else f"is {row.status}")
    if ended.ending == Ending.CANCELLED and row.status == "queued":
        # Cancelled, retried and queued again, all before its process had stopped.
        queue.put_back(connection, job)
        return Settled(Fate.PUT_BACK, "was cancelled, and is queued again")
    match verdict.fate:
        case Fate.END:
            queue.finish(connection, job, "succeeded")
            return Settled(Fate.END, "succeeded")
        case Fate.PUT_BACK:
            queue.put_back(connection, job, verdict.delay)
            if ended.ending != Ending.TAKEN:
                queue.set_queued(connection, job.run_id)
            return Settled(Fate.PUT_BACK, f"is back in the queue: {ended.message}")
        case Fate.AGAIN:
            queue.defer_again(connection, job, verdict.delay)
            queue.set_queued(connection, job.run_id, verdict.message, ended.traceback)
            when = f" in {verdict.delay:.0f} s" if verdict.delay else ""
            return Settled(Fate.AGAIN, f"is tried again{when}: {verdict.message}")
        case Fate.GIVE_UP:
            queue.finish(connection, job, "failed")
            queue.set_failed(connection, job.run_id, verdict.message, ended.traceback)
            what = "was trained but not evaluated" if row.status == "succeeded" else "failed"
            return Settled(Fate.GIVE_UP, f"{what}: {verdict.message}")
