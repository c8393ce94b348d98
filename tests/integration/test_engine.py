"""The boundary to the database: connection strings, versions, and errors as one line."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo
from sqlalchemy import text

from lvmdb.db import engine
from lvmdb.db.engine import Database, raw
from lvmdb.errors import DatabaseError

Fresh = Callable[..., AbstractContextManager[Database]]

SECRET = "hunter2"


@pytest.mark.parametrize(
    "dsn",
    [
        "nonsense",
        "colour=blue",
        f"scott:{SECRET}@host/db",
        f"postgresql://user:{SECRET}@[::1/db",
        f"host=h password={SECRET} {SECRET}",
        f"host=h passwort={SECRET}",
        f"postgresql://user:{SECRET}@host/db?colour={SECRET}",
    ],
)
def test_what_is_no_connection_string_is_told_without_a_secret(dsn: str) -> None:
    with pytest.raises(DatabaseError, match="not a PostgreSQL connection string") as caught:
        Database(dsn)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    for dsn in (
        f"postgresql://user:{SECRET}@127.0.0.1:1/db",
        f"host={tmp_path} password={SECRET} dbname=db",
        f"postgresql://user:{SECRET}@no-such-host.invalid/db",
    ):
        database = Database(dsn)
        with pytest.raises(DatabaseError, match=r"does not answer.*check LVMDB_DSN") as caught:
            database.check()
        assert "\n" not in str(caught.value)
        assert SECRET not in f"{caught.value} {caught.value.__cause__}"
        assert SECRET not in database.shown


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CONNECT_TIMEOUT", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        database = Database(f"postgresql://user:{SECRET}@127.0.0.1:{port}/db")
        with pytest.raises(DatabaseError, match="does not answer") as caught:
            database.raw_connection()
    assert SECRET not in str(caught.value)


def test_a_database_that_is_not_there_is_told(server_dsn: str) -> None:
    database = Database(conninfo.make_conninfo(server_dsn, dbname="nowhere"))
    with pytest.raises(DatabaseError, match="nowhere"), database.connect():
        pass


def test_this_server_is_new_enough(db: Database) -> None:
    db.check()


def test_an_old_server_is_refused(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MIN_SERVER", 99)
    with pytest.raises(DatabaseError, match=r"PostgreSQL \d\d is too old: lvmdb needs 99 or newer"):
        db.check()


def test_an_old_pgvector_is_refused(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MIN_PGVECTOR", (0, 99, 0))
    told = r"pgvector 0\.\d+\.\d+ is too old: lvmdb needs 0\.99\.0 .*ALTER EXTENSION vector UPDATE"
    with pytest.raises(DatabaseError, match=told):
        db.check()


def test_an_old_pgvector_in_the_database_counts_not_the_one_on_the_disk(db: Database) -> None:
    with db.raw_connection() as connection:
        connection.execute(
            "UPDATE pg_catalog.pg_extension SET extversion = '0.5.1' WHERE extname = 'vector'"
        )
    with pytest.raises(DatabaseError, match=r"pgvector 0\.5\.1 is too old"):
        db.check()


def test_a_server_without_pgvector_is_refused(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        engine, "text", lambda statement: text(statement.replace("'vector'", "'absent'"))
    )
    with pytest.raises(DatabaseError, match=r"no pgvector extension: install pgvector 0\.8\.4"):
        db.check()


def test_versions_are_compared_as_numbers() -> None:
    assert engine.MIN_PGVECTOR < (0, 10, 0)


def test_errors_are_one_line(db: Database) -> None:
    for statement in ("SELECT *\nFROM\nnowhere", "SELECT 1/0", "SELEC", "SELECT 'x'::int"):
        with pytest.raises(DatabaseError) as caught, db.begin() as connection:
            connection.execute(text(statement))
        assert "\n" not in str(caught.value)
        assert caught.value.__cause__ is not None


def test_begin_commits_whole_or_nothing(db: Database) -> None:
    with db.begin() as connection:
        connection.execute(text("INSERT INTO encoder (name) VALUES ('kept')"))

    def fail() -> None:
        with db.begin() as connection:
            connection.execute(text("INSERT INTO encoder (name) VALUES ('lost')"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with db.connect() as connection:
        assert connection.execute(text("SELECT name FROM encoder")).scalars().all() == ["kept"]


def test_raw_is_the_same_session_and_transaction(db: Database) -> None:
    with db.begin() as connection:
        connection.execute(text("INSERT INTO encoder (name) VALUES ('mine')"))
        row = raw(connection).execute("SELECT name FROM encoder").fetchone()
        assert row == ("mine",)


def test_a_connection_has_the_programs_name_and_can_be_named_otherwise(db: Database) -> None:
    with db.raw_connection() as connection:
        assert connection.execute("SHOW application_name").fetchone() == ("lvmdb",)
    named = Database(conninfo.make_conninfo(db.dsn, application_name="other"))
    with named.raw_connection() as connection:
        assert connection.execute("SHOW application_name").fetchone() == ("other",)


def test_connections_can_be_made_from_threads(db: Database) -> None:
    answers: list[object] = []

    def ask() -> None:
        with db.raw_connection() as connection:
            answers.append(connection.execute("SELECT 1").fetchone())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [(1,)] * 4


def test_other_errors_pass_untouched(db: Database) -> None:
    with pytest.raises(KeyError), db.connect():
        raise KeyError
    with pytest.raises(DatabaseError), engine.translated_errors():
        raise psycopg.errors.DiskFull("no space left")


@pytest.mark.parametrize("asked", [KeyboardInterrupt(), SystemExit(143)], ids=repr)
def test_who_asks_to_end_is_heard_in_the_midst_of_a_statement(
    db: Database, asked: BaseException
) -> None:
    """The rollback fails then; that is no server that went away, and nothing is tried again."""

    def interrupted() -> None:
        with db.begin() as connection:
            connection.execute(text("SELECT 1"))
            raw(connection).pgconn.send_query(b"SELECT pg_sleep(0.1)")
            raise asked

    with pytest.raises(type(asked)) as caught:
        interrupted()
    assert caught.value is asked
    db.check()


def test_an_error_of_what_is_done_at_the_end_is_an_error(db: Database) -> None:
    def fail_while_ending() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            with db.connect() as connection:
                connection.execute(text("SELECT 1 / 0"))

    with pytest.raises(DatabaseError, match="division by zero"):
        fail_while_ending()
