"""Sessions that are kept: each is as good as new, alive, and of this process alone."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import psycopg
import pytest
from sqlalchemy import Connection, text

from lvmdb.db import pooling
from lvmdb.db.engine import Database, raw
from lvmdb.errors import ConnectionLostError

PID = text("SELECT pg_backend_pid()")

STATE = text(
    """
    SELECT current_setting('work_mem') AS setting,
           nullif(current_setting('lvmdb.own', true), '') AS own_setting,
           current_user::text AS role,
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
           ) AS locks,
           to_regclass('staged') AS temporary_table,
           (SELECT count(*) FROM pg_prepared_statements) AS prepared,
           (SELECT count(*) FROM pg_cursors) AS cursors,
           (SELECT count(*) FROM pg_listening_channels()) AS channels,
           current_setting('transaction_isolation') AS isolation,
           current_setting('application_name') AS program
    """
)

SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND backend_type = 'client backend'"
)


def pid(db: Database) -> int:
    """Of the session that whoever asks now is given."""
    with db.connect() as connection:
        return int(connection.execute(PID).scalar_one())


def end(db: Database, *pids: int) -> None:
    """End these sessions as an administrator does."""
    with db.raw_connection(autocommit=True) as other:
        for number in pids:
            assert other.execute("SELECT pg_terminate_backend(%s, 5000)", [number]).fetchone() == (
                True,
            )


def sessions(db: Database) -> int:
    """How many there are at this database, beside the one that asks."""
    with db.raw_connection() as connection:
        row = connection.execute(SESSIONS).fetchone()
        assert row is not None
        return int(row[0])


def _leave_much(connection: Connection) -> None:
    for statement in (
        "SELECT pg_advisory_lock(7, 7)",
        "SET work_mem = '5MB'",
        "SET lvmdb.own = 'mine'",
        "SET application_name = 'other'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET ROLE pg_read_all_data",
        "RESET ROLE",
        "SET SESSION AUTHORIZATION pg_read_all_data",
        "RESET SESSION AUTHORIZATION",
        "CREATE TEMPORARY TABLE staged (a integer)",
        "PREPARE a_statement AS SELECT 1",
        "LISTEN a_channel",
        "DECLARE a_cursor CURSOR WITH HOLD FOR SELECT 1",
        "SET ROLE pg_read_all_data",
    ):
        connection.execute(text(statement))


@pytest.mark.parametrize("ends", ["committed", "rolled back", "failed", "in a transaction"])
def test_a_session_is_given_to_the_next_as_if_it_were_new(db: Database, ends: str) -> None:
    with db.connect() as connection:
        new = connection.execute(STATE).one()
        first = connection.execute(PID).scalar_one()

    def leave() -> None:
        with db.connect() as connection:
            _leave_much(connection)
            if ends != "in a transaction":
                connection.commit()
            if ends == "rolled back":
                connection.rollback()
            if ends == "failed":
                connection.execute(text("SELECT 1 / 0"))

    if ends == "failed":
        with pytest.raises(Exception, match="division by zero"):
            leave()
    else:
        leave()
    with db.connect() as connection:
        assert connection.execute(STATE).one() == new
        assert connection.execute(PID).scalar_one() == first


def test_what_psycopg_prepares_by_itself_is_prepared_anew(db: Database) -> None:
    seen = set()
    for _ in range(3):
        with db.begin() as connection:
            for number in range(8):
                answer = connection.execute(text("SELECT :a + 1"), {"a": number}).scalar_one()
                assert answer == number + 1
            assert connection.execute(STATE).one().prepared == 1
            seen.add(connection.execute(PID).scalar_one())
    assert len(seen) == 1


def test_what_others_change_of_a_table_is_seen(db: Database) -> None:
    """As by a new session: no plan of a statement outlives its block."""
    statement = text("SELECT * FROM changing")
    with db.begin() as connection:
        connection.execute(text("CREATE TABLE changing AS SELECT 1 AS a"))
    for columns in range(1, 4):
        with db.begin() as connection:
            for _ in range(8):
                assert len(connection.execute(statement).one()) == columns
        with db.raw_connection() as other:
            other.execute(f"ALTER TABLE changing ADD COLUMN more_{columns} integer")


def test_a_session_that_was_ended_is_replaced_unnoticed(db: Database) -> None:
    before = pid(db)
    for _ in range(5):
        end(db, before)
        after = pid(db)
        assert after != before
        before = after


def test_all_that_were_ended_are_replaced(db: Database) -> None:
    with ExitStack() as stack:
        several = [stack.enter_context(db.connect()) for _ in range(pooling.KEPT)]
        pids = {int(connection.execute(PID).scalar_one()) for connection in several}
    end(db, *pids)
    with ExitStack() as stack:
        several = [stack.enter_context(db.connect()) for _ in range(pooling.KEPT)]
        assert not {connection.execute(PID).scalar_one() for connection in several} & pids


def test_a_session_that_ends_in_the_midst_is_lost_and_not_kept(db: Database) -> None:
    def lose(ask: Callable[[Connection], object]) -> None:
        with db.connect() as connection:
            end(db, connection.execute(PID).scalar_one())
            ask(connection)

    asks: list[Callable[[Connection], object]] = [
        lambda connection: connection.execute(text("SELECT 1")),
        lambda connection: raw(connection).execute("SELECT 1"),
        lambda connection: connection.commit(),
    ]
    for ask in asks:
        with pytest.raises(ConnectionLostError):
            lose(ask)
        assert pid(db) > 0


def test_a_session_in_the_midst_of_an_answer_is_not_kept(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    busy = pid(db)
    with db.connect() as connection:
        raw(connection).pgconn.send_query(b"SELECT generate_series(1, 100000)")
    assert pid(db) != busy
    assert caplog.records == []


def test_an_interruption_stays_one(db: Database) -> None:
    """Ctrl-C while a kept session is asked for a sign of life: neither it nor the next suffers."""
    before = pid(db)

    def interrupt(self: psycopg.Cursor[object], *_: object) -> None:
        self.connection.pgconn.send_query(b"SELECT 1")
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pid(db)
    assert pid(db) != before


def test_more_are_opened_than_are_kept(db: Database) -> None:
    with ExitStack() as stack:
        for _ in range(pooling.KEPT + 3):
            stack.enter_context(db.connect()).execute(PID)
        assert sessions(db) == pooling.KEPT + 3
    _wait_for(lambda: sessions(db) == pooling.KEPT)


def test_an_old_session_is_used_no_more(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "LONGEST_LIFE", 0)
    hurried = Database(db.dsn)
    assert pid(hurried) != pid(hurried)


def test_what_is_kept_is_closed_on_request_and_with_its_owner(db: Database) -> None:
    owner = Database(db.dsn)
    pid(owner)
    assert sessions(db) == 1
    owner.close()
    _wait_for(lambda: sessions(db) == 0)
    pid(owner)
    assert sessions(db) == 1
    del owner
    _wait_for(lambda: sessions(db) == 0)


def test_a_fork_has_sessions_of_its_own(db: Database) -> None:
    parent = pid(db)
    context = multiprocessing.get_context("fork")
    theirs = context.SimpleQueue()

    def work() -> None:
        theirs.put(pid(db))
        theirs.put(pid(db))
        db.close()
        theirs.put(os.getpid())

    process = context.Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    first, second, forked = theirs.get(), theirs.get(), theirs.get()
    assert first == second != parent
    assert forked != os.getpid()
    assert pid(db) == parent


def test_a_fork_that_only_ends_leaves_its_parent_its_sessions(db: Database) -> None:
    parent = pid(db)
    if (forked := os.fork()) == 0:
        try:
            del db
        finally:
            os._exit(0)
    assert os.waitpid(forked, 0)[1] == 0
    assert pid(db) == parent


def test_a_connection_that_is_detached_is_not_kept(db: Database) -> None:
    with db.connect() as connection:
        connection.detach()
        own = connection.execute(PID).scalar_one()
    assert pid(db) != own
    _wait_for(lambda: sessions(db) == 1)


def test_ctrl_c_is_never_lost_nor_taken_for_an_error(db: Database) -> None:
    """Whatever it meets: a question, its answer, the sign of life, what makes a session as new."""
    moments = random.Random(5)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for _ in range(25):
            with pytest.raises(KeyboardInterrupt):
                _ask_until_interrupted(db, moments.uniform(0, 0.01))
            assert pid(db) > 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert sessions(db) <= pooling.KEPT


def _ask_until_interrupted(db: Database, seconds: float) -> None:
    def interrupt() -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with db.begin() as connection:
            connection.execute(PID)


def _wait_for(condition: Callable[[], bool]) -> None:
    """A session that is told to end takes the server a moment."""
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it does not become true")


def test_ctrl_c_while_a_session_is_given_back_is_ctrl_c(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails in its wake does not take its place; what fails by itself is no Ctrl-C."""
    ctrl_c = True

    def execute(self: psycopg.Connection[object], *_: object, **__: object) -> None:
        try:
            if ctrl_c:
                raise KeyboardInterrupt
        finally:
            raise psycopg.OperationalError("another command is already in progress")

    for stop in (pytest.raises(KeyboardInterrupt), ExitStack()):
        with stop, db.connect() as connection:
            connection.execute(PID)
            monkeypatch.setattr(psycopg.Connection, "execute", execute)
        monkeypatch.undo()
        ctrl_c = False
    with db.connect() as connection:
        assert connection.execute(PID).scalar_one()
