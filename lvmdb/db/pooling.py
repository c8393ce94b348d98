"""Sessions that are kept for the next who wants one, who finds them as if they were new.

A session is a process of the server, which costs ten milliseconds to start and as much again to
learn the tables; most of what asks for one asks a question of less than one.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, PoolResetState

KEPT = 2
"""Sessions that a process keeps open; what it needs beyond them is opened and closed each time."""

LONGEST_LIFE = 300
"""Seconds after which a session is not used again: what an administrator sets for new ones, and a
server that has another address, is noticed; what a session has learnt of many tables is freed."""

# Of a session that it gives up, whoever used it hears by the error itself.
logging.getLogger("sqlalchemy.pool").addHandler(logging.NullHandler())


def pooled_engine(connect: Callable[[], psycopg.Connection[Any]]) -> Engine:
    """SQLAlchemy's engine over sessions that are kept; as many as are asked for can be open.

    Each is asked for a sign of life before it is used again: one that a restart of the server, or
    its administrator, has ended is replaced, and who asked for it never knows.

    Args:
        connect: opens a session; must not hold on to whoever will dispose of the engine.
    """
    engine = create_engine(
        "postgresql+psycopg://",
        creator=connect,
        pool_size=KEPT,
        max_overflow=-1,
        pool_use_lifo=True,
        pool_pre_ping=True,
        pool_recycle=LONGEST_LIFE,
        pool_reset_on_return=None,
        use_native_hstore=False,
    )
    event.listen(engine, "reset", _make_as_new)
    event.listen(engine, "checkout", _in_transactions)
    return engine


def _make_as_new(
    connection: psycopg.Connection[Any], entry: ConnectionPoolEntry, state: PoolResetState
) -> None:
    """End whatever the session has: its transaction, locks, settings, temporary tables, cursors."""
    if state.terminate_only:
        return
    before = sys.exception()
    try:
        connection.rollback()
        connection.autocommit = True
        connection.execute("DISCARD ALL", prepare=False)
        # Its prepared statements are gone, which psycopg does not notice each time.
        connection._prepared.clear()
    except psycopg.Error as error:
        # It was broken already, or in the midst of a statement: nobody is to have it again.
        entry.invalidate()
        if (stop := asked_to_end(error, before)) is not None:
            raise stop from None


def _in_transactions(
    connection: psycopg.Connection[Any], entry: ConnectionPoolEntry, proxy: PoolProxiedConnection
) -> None:
    """End the autocommit that a session is kept in.

    So it is asked for a sign of life without changing that: a Ctrl-C meanwhile would else be
    replaced by psycopg's refusal to change it back.
    """
    connection.autocommit = False


def asked_to_end(error: BaseException, before: BaseException | None) -> BaseException | None:
    """The Ctrl-C, or the like, while which was handled an error came; not one from `before`."""
    found = error.__context__
    while found is not None and found is not before:
        if not isinstance(found, Exception):
            return found
        found = found.__context__
    return None
