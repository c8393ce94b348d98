"""Statements of tests, on the sessions that the program keeps: a new one costs more than most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lvmdb.db.engine import Database, raw


def ask(
    db: Database, statement: str, parameters: Sequence[object] | None = None
) -> list[tuple[Any, ...]]:
    """The rows that a statement gives; what it changes is committed.

    Raises:
        psycopg.Error: as psycopg raises it.
    """
    with db.open() as connection:
        session = raw(connection)
        cursor = session.execute(statement.encode(), parameters)
        rows = cursor.fetchall() if cursor.description else []
        session.commit()
        return rows
