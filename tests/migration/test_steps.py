"""Up, down and up again; at once from two sides; as SQL; and what a wrong revision answers."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from lvmdb.db import migrate, revisions
from lvmdb.db.engine import Database
from lvmdb.db.files import project_folder
from lvmdb.errors import DatabaseError, RevisionError, UnknownNameError

SchemaOf = Callable[[Database], list[str]]


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(project_folder("migrations")))
    return ScriptDirectory.from_config(config)


def revision_of(db: Database) -> str | None:
    with db.connect() as connection:
        return revisions.current_revision(connection)


def set_revision(db: Database, revision: str) -> None:
    with db.raw_connection() as connection:
        connection.execute("UPDATE alembic_version SET version_num = %s", [revision])


def test_the_revisions_are_one_line_with_one_head() -> None:
    assert scripts().get_heads() == [revisions.head()]
    chained = [script.revision for script in scripts().walk_revisions()][::-1]
    assert chained == revisions.known() == [f"{n:04}" for n in range(1, len(chained) + 1)]


def test_files_are_named_by_number_and_what_they_do() -> None:
    for script in scripts().walk_revisions():
        assert re.fullmatch(rf"{script.revision}_[a-z]+(_[a-z]+)+\.py", Path(script.path).name)
        assert script.doc


def test_each_step_goes_up_down_and_up_again(empty: Database, schema_of: SchemaOf) -> None:
    before = schema_of(empty)
    for revision in revisions.known():
        start = revision_of(empty)
        assert migrate.upgrade(empty, revision) == (start, revision)
        up = schema_of(empty)
        assert migrate.upgrade(empty, start or "base") == (revision, start)
        # Alembic's own table stays.
        assert [line for line in schema_of(empty) if "alembic_version" not in line] == [
            line for line in before if "alembic_version" not in line
        ]
        migrate.upgrade(empty, revision)
        assert schema_of(empty) == up
        before = up


def test_base_leaves_nothing_but_the_extension(db: Database, schema_of: SchemaOf) -> None:
    assert migrate.upgrade(db, "base") == (revisions.head(), None)
    assert all("alembic_version" in line for line in schema_of(db))
    with db.raw_connection() as connection:
        assert connection.execute("SELECT count(*) FROM pg_extension WHERE extname = 'vector'")
    assert migrate.upgrade(db) == (None, revisions.head())


def test_head_twice_changes_nothing(db: Database, schema_of: SchemaOf) -> None:
    before = schema_of(db)
    assert migrate.upgrade(db) == (revisions.head(), revisions.head())
    assert schema_of(db) == before


def test_three_at_once_end_in_one_schema(
    empty: Database, db: Database, schema_of: SchemaOf
) -> None:
    program = "import sys; from lvmdb.db import engine, migrate; "
    program += "migrate.upgrade(engine.Database(sys.argv[1]))"
    command = [sys.executable, "-c", program, empty.dsn]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert schema_of(empty) == schema_of(db)


def test_who_waits_too_long_for_another_migration_is_told(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", "100ms")
    with empty.raw_connection(autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [migrate.LOCK_KEY])
        began = time.monotonic()
        with pytest.raises(DatabaseError, match="lock timeout"):
            migrate.upgrade(empty)
        assert time.monotonic() - began < 10
    assert migrate.upgrade(empty)[1] == revisions.head()


def test_a_failing_migration_leaves_the_step_before(empty: Database, schema_of: SchemaOf) -> None:
    migrate.upgrade(empty, "0002")
    with empty.raw_connection() as connection:
        connection.execute("CREATE TABLE evaluation (a int)")
    before = schema_of(empty)
    with pytest.raises(DatabaseError, match="evaluation"):
        migrate.upgrade(empty)
    assert schema_of(empty) == before
    assert revision_of(empty) == "0002"
    with empty.raw_connection() as connection:
        connection.execute("DROP TABLE evaluation")
    assert migrate.upgrade(empty) == ("0002", revisions.head())


def test_the_sql_makes_the_same_schema(empty: Database, db: Database, schema_of: SchemaOf) -> None:
    with empty.raw_connection(autocommit=True) as connection:
        connection.execute(migrate.upgrade_sql().encode())
    assert schema_of(empty) == schema_of(db)
    assert revision_of(empty) == revisions.head()


def test_the_sql_ends_where_it_is_told_to(empty: Database) -> None:
    assert migrate.upgrade_sql("base").strip() == ""
    with empty.raw_connection(autocommit=True) as connection:
        connection.execute(migrate.upgrade_sql("0002").encode())
    assert revision_of(empty) == "0002"


def test_unknown_revisions_are_named_with_those_that_exist(db: Database) -> None:
    for wrong in ("9998", "nonsense", "../x", ""):
        with pytest.raises(UnknownNameError, match="unknown revision"):
            migrate.upgrade(db, wrong)
        with pytest.raises(UnknownNameError, match="0001"):
            migrate.upgrade_sql(wrong)


def test_a_database_of_a_newer_program_is_left_alone(db: Database, schema_of: SchemaOf) -> None:
    set_revision(db, "9999")
    before = schema_of(db)
    for call in (migrate.upgrade, revisions.require_head, migrate.drift):
        with pytest.raises(RevisionError, match=r"9999.*upgrade lvmdb"):
            call(db)
    assert schema_of(db) == before


def test_an_older_database_is_refused_until_migrated(db: Database) -> None:
    revisions.require_head(db)
    migrate.upgrade(db, "0003")
    with pytest.raises(RevisionError, match=r"at revision 0003.*run 'lvmdb migrate'"):
        revisions.require_head(db)


def test_an_empty_database_is_refused_until_migrated(empty: Database) -> None:
    with pytest.raises(RevisionError, match="no lvmdb tables yet: run 'lvmdb migrate'"):
        revisions.require_head(empty)


def test_no_setting_of_the_migration_is_left_in_the_session(empty: Database) -> None:
    with empty.connect() as connection:
        migrate.upgrade(empty)
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "0"
        held = (
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        assert connection.exec_driver_sql(held).scalar_one() == 0
