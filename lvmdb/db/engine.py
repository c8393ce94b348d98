"""Connections, and the one place where the database's errors become lvmdb's."""

from __future__ import annotations

import os
import re
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import psycopg
from psycopg import conninfo
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from lvmdb.db.pooling import asked_to_end, pooled_engine
from lvmdb.errors import ConnectionLostError, DatabaseError
from lvmdb.settings import redact

MIN_SERVER = 16
MIN_PGVECTOR = (0, 8, 4)
CONNECT_TIMEOUT = 10
"""Seconds to wait for a server to answer."""

KEEPALIVES = {
    "keepalives_idle": "60",
    "keepalives_interval": "15",
    "keepalives_count": "4",
    "tcp_user_timeout": "120000",
}
"""libpq's: a host that vanished is noticed after two minutes, not after two hours; nor after a
quarter of one where something was just sent to it."""

_GOING_AWAY = ("08", "57P")
"""SQLSTATEs of a connection that broke, and of a server that shuts down, crashes or starts."""


class Database:
    """A PostgreSQL server with pgvector, by its connection string.

    Everything leaves through `connect` or `begin`, where psycopg's errors are translated:

        with db.begin() as connection:          # one transaction
            connection.execute(query("runs", "claim"), {"run_id": 7})

    Their sessions are kept for the next call, but nothing that was done to them is: settings, locks
    and temporary tables last as long as the block. What `raw_connection` opens is the caller's own.

    Threads may share it. The kept sessions are closed by `close`, with the object, or when the
    program ends.
    """

    def __init__(self, dsn: str) -> None:
        """Nothing is opened yet.

        Raises:
            DatabaseError: `dsn` is not a connection string.
        """
        try:
            parameters = conninfo.conninfo_to_dict(dsn)
        except psycopg.Error:
            # Neither the string nor libpq's words about it: a password may be anywhere in them.
            raise DatabaseError(
                "not a PostgreSQL connection string: write postgresql://USER@HOST/DATABASE, or "
                "'host=HOST dbname=DATABASE'"
            ) from None
        parameters.setdefault("connect_timeout", str(CONNECT_TIMEOUT))
        parameters.setdefault("application_name", "lvmdb")
        for name, value in KEEPALIVES.items():
            parameters.setdefault(name, value)
        self.dsn = conninfo.make_conninfo("", **parameters)
        self._pooled = pooled_engine(partial(psycopg.connect, self.dsn))
        self._process = os.getpid()
        weakref.finalize(self, _dispose, self._pooled, self._process)

    def close(self) -> None:
        """Close the sessions that are kept and not in use; later calls open new ones."""
        self._engine.dispose()

    def raw_connection(self, *, autocommit: bool = False) -> psycopg.Connection[Any]:
        """A new psycopg connection, for cursors and COPY; the caller closes it.

        Raises:
            ConnectionLostError: the server does not answer.
        """
        with translated_errors():
            return psycopg.connect(self.dsn, autocommit=autocommit)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection whose transactions the caller commits; errors are translated."""
        with translated_errors(), self._engine.connect() as connection:
            yield connection

    def open(self) -> Connection:
        """A connection that the caller closes, and whose errors he has translated.

        Raises:
            ConnectionLostError: the server does not answer.
        """
        with translated_errors():
            return self._engine.connect()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A connection in one transaction, committed at the end; errors are translated."""
        with translated_errors(), self._engine.begin() as connection:
            yield connection

    @property
    def _engine(self) -> Engine:
        """The engine, whose sessions this process has opened itself."""
        if self._process != os.getpid():
            # A fork: the sessions are its parent's, and must not hear of it.
            self._pooled.dispose(close=False)
            self._process = os.getpid()
            weakref.finalize(self, _dispose, self._pooled, self._process)
        return self._pooled

    @property
    def shown(self) -> str:
        """The connection string without its password."""
        return redact(self.dsn)

    def without_password(self) -> tuple[str, str | None]:
        """The connection string for a program's arguments, which anyone sees; the password."""
        parameters = conninfo.conninfo_to_dict(self.dsn)
        password = parameters.pop("password", None)
        return conninfo.make_conninfo("", **parameters), None if password is None else str(password)

    def check(self) -> None:
        """Refuse a server that is too old or has no pgvector.

        Raises:
            DatabaseError: PostgreSQL before 16, or pgvector missing or before 0.8.4.
        """
        with self.connect() as connection:
            server = connection.execute(text("SHOW server_version_num")).scalar_one()
            if int(server) < MIN_SERVER * 10_000:
                raise DatabaseError(
                    f"PostgreSQL {int(server) // 10_000} is too old: "
                    f"lvmdb needs {MIN_SERVER} or newer"
                )
            row = connection.execute(
                text(
                    "SELECT coalesce(installed_version, default_version) "
                    "FROM pg_available_extensions WHERE name = 'vector'"
                )
            ).one_or_none()
        needed = ".".join(map(str, MIN_PGVECTOR))
        if row is None:
            raise DatabaseError(
                f"the server has no pgvector extension: install pgvector {needed} or newer"
            )
        if tuple(map(int, re.findall(r"\d+", row[0])[:3])) < MIN_PGVECTOR:
            raise DatabaseError(
                f"pgvector {row[0]} is too old: lvmdb needs {needed} or newer; after installing "
                "it, run ALTER EXTENSION vector UPDATE"
            )


def raw(connection: Connection) -> psycopg.Connection[Any]:
    """The psycopg connection under a SQLAlchemy one: the same session and transaction.

    The server's settings end with the block; psycopg's own (adapters, row factory, isolation level)
    would stay with a session that is kept, and belong on a cursor or on a `raw_connection`.
    """
    return cast("psycopg.Connection[Any]", connection.connection.driver_connection)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn psycopg's and SQLAlchemy's errors into `DatabaseError`, one line each.

    A Ctrl-C, or whatever else asks the program to end, stays what it is: it may have come in the
    midst of a statement, so that the rollback that follows it fails, and would be taken for a
    server that went away.
    """
    before = sys.exception()
    try:
        yield
    except (DBAPIError, psycopg.Error) as error:
        if (stop := asked_to_end(error, before)) is not None:
            raise stop from None
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, psycopg.Error):
            raise _translated(cause) from error
        raise


def _dispose(engine: Engine, process: int) -> None:
    """Close what the engine keeps, but not in a fork of the process that opened it."""
    if process == os.getpid():
        engine.dispose()


_ANSWERED_TWICE = re.compile(r"received \d+ results from command")
"""What psycopg says where an answer was followed by the server's word that the session ends."""


def is_about_the_data(error: DatabaseError) -> bool:
    """Whether the server refused what was to be written, and would refuse it again."""
    cause = error.__cause__
    if isinstance(cause, DBAPIError):
        cause = cause.orig
    return isinstance(cause, psycopg.IntegrityError | psycopg.DataError)


def _translated(error: psycopg.Error) -> DatabaseError:
    diagnosis = error.diag
    message = diagnosis.message_primary or str(error).strip() or type(error).__name__
    message = " ".join(message.split())
    hint = diagnosis.message_hint
    if isinstance(error, psycopg.errors.DiskFull):
        hint = "the server's disk is full: free space and run the same command again"
    lost = False
    if isinstance(error, psycopg.InternalError) and _ANSWERED_TWICE.match(message):
        lost = True
    elif isinstance(error, psycopg.OperationalError) and diagnosis.sqlstate is None:
        lost = True
        message = f"the database does not answer: {message}"
        hint = "check LVMDB_DSN or --dsn; without them lvmdb starts a server of its own"
    elif (diagnosis.sqlstate or "").startswith(_GOING_AWAY):
        lost = True
    kind = ConnectionLostError if lost else DatabaseError
    return kind(f"{message} ({hint})" if hint else message)
