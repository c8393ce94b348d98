"""Names under which runs are promoted: `production` is whichever run was promoted last."""

from __future__ import annotations

from sqlalchemy import Connection, select

from lvmdb.db import runs
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.schema.schedules import run_alias
from lvmdb.db.types import checked_name
from lvmdb.errors import RunError, UnknownNameError

DEFAULT = "production"


def promote(db: Database, run_id: int, alias: str = DEFAULT) -> int | None:
    """Let an alias stand for a run.

    Args:
        db: the database.
        run_id: a run that has succeeded.
        alias: made if it is not there.

    Returns:
        The run that it stood for before; None if there was no such alias.

    Raises:
        UnknownNameError: there is no such run.
        RunError: it has not succeeded.
        UsageError: the alias is no name.
    """
    checked_name("promoted run", alias)
    with db.begin() as connection:
        connection.execute(query("runs", "lock_alias"), {"name": alias})
        run = runs.read(connection, run_id)
        if run.status != "succeeded":
            raise RunError(f"run {run_id} is {run.status}: only one that has succeeded is promoted")
        before = _find(connection, alias)
        connection.execute(query("runs", "promote"), {"name": alias, "run_id": run_id})
    return before


def promoted(connection: Connection, alias: str = DEFAULT) -> int:
    """The run that an alias stands for now.

    Raises:
        UnknownNameError: there is no such alias.
    """
    found = _find(connection, alias)
    if found is None:
        known = connection.execute(select(run_alias.c.name)).scalars().all()
        hint = None if known else "'lvmdb runs promote' makes one"
        raise UnknownNameError("promoted run", alias, known, hint=hint)
    return found


def _find(connection: Connection, alias: str) -> int | None:
    return connection.execute(
        select(run_alias.c.run_id).where(run_alias.c.name == alias)
    ).scalar_one_or_none()
