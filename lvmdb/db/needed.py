"""Runs that others rest on: the parent of a fork, the members of an ensemble.

One that is in the queue or runs is waited for. One whose row says that it runs, and whose process
is gone, is not: it was trained by hand and killed, and nobody but its owner takes it up again.
"""

from __future__ import annotations

from sqlalchemy import Connection

from lvmdb.db.claims import LOCK_CLASS
from lvmdb.db.queries import query
from lvmdb.errors import RunError, RunWaitsError

SILENT_AFTER = 60.0
"""Seconds without a heartbeat after which the process of a run without a lock is gone."""


def abandoned(connection: Connection) -> set[int]:
    """Runs that say that they run, while no process has them and no job would offer them again."""
    values = {"lock_class": LOCK_CLASS, "silent_for": SILENT_AFTER}
    found = set(connection.execute(query("runs", "without_process"), values).scalars())
    if found and connection.execute(query("queue", "is_there")).scalar_one():
        found -= set(connection.execute(query("queue", "live_runs")).scalars())
    return found


def awaited(connection: Connection, run_id: int) -> int | None:
    """The first run, if any, that this one rests on and that has yet to end by itself.

    A fork that has begun, and whatever has succeeded, waits for nothing.
    """
    found = connection.execute(query("runs", "rests_on_unended"), {"run_id": run_id}).scalars()
    waits = sorted(set(found))
    gone = abandoned(connection) if waits else set()
    return next((each for each in waits if each not in gone), None)


def not_ready(connection: Connection, run_id: int, status: str, what: str) -> RunError:
    """The error of whatever rests on a run that has not succeeded.

    Args:
        connection: to the database.
        run_id, status: of the run that is needed.
        what: needs it, in words that a status ends, as "run 9 starts from run 7, which is".

    Returns:
        A `RunWaitsError` if the run will end without anybody's doing.
    """
    command = f"'lvmdb train --run-id {run_id}'"
    if status == "running" and run_id in abandoned(connection):
        return RunError(f"{what} running by its row, but its process is gone: {command} goes on")
    kind = RunWaitsError if status in ("queued", "running") else RunError
    return kind(f"{what} {status}: {command} comes first")
