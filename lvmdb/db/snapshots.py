"""One state of the database for many connections: one exports its snapshot, others import it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.errors import InvalidParameterValue, UndefinedObject

from lvmdb.db.engine import Database, translated_errors
from lvmdb.errors import ConnectionLostError


@contextmanager
def reading(db: Database, snapshot: str | None = None) -> Iterator[psycopg.Connection[Any]]:
    """A connection in one read-only transaction, which sees one state of the database.

    Args:
        db: the database.
        snapshot: the state that `export` gave of another such connection, which must still be open;
            None sees the state of now.

    Raises:
        ConnectionLostError: the snapshot is no longer there.
    """
    with translated_errors(), closing(db.raw_connection()) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        if snapshot is not None:
            importing = sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot))
            try:
                connection.execute(importing)
            except (UndefinedObject, InvalidParameterValue) as error:
                # It lasts as long as the connection that exported it.
                raise ConnectionLostError(
                    f"the exported snapshot {snapshot} is gone, and the connection that held it"
                ) from error
        yield connection


def export(connection: psycopg.Connection[Any]) -> str:
    """The name of the state that a connection of `reading` sees, for others to import."""
    row = connection.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None
    return str(row[0])
