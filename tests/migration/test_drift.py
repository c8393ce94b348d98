"""The tables of the program and those of the migrations are the same, in every name and check."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from sqlalchemy import CheckConstraint, Constraint
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import AddConstraint, CreateTable

from lvmdb.db import migrate
from lvmdb.db.engine import Database
from lvmdb.db.schema.tables import metadata

Corpus = Callable[..., object]


def rows(db: Database, statement: str) -> list[tuple[object, ...]]:
    with db.raw_connection() as connection:
        return connection.execute(statement.encode()).fetchall()


def test_at_head_nothing_differs(db: Database) -> None:
    assert migrate.drift(db) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("ALTER TABLE article ADD COLUMN extra text", "add|remove.*extra"),
        ("ALTER TABLE article DROP COLUMN url", "add_column: article url"),
        ("ALTER TABLE encoder ALTER COLUMN pooling TYPE varchar(9)", "modify_type.*pooling"),
        ("ALTER TABLE article ALTER COLUMN title DROP NOT NULL", "modify_nullable.*title"),
        ("CREATE TABLE stray (a int)", "remove_table: stray"),
        ("DROP TABLE benchmark", "add_table: benchmark"),
        ("DROP INDEX ix_cpe_entry_dataset_source", "add_index: ix_cpe_entry_dataset_source"),
        ("CREATE INDEX stray ON article (title)", "remove_index: stray"),
        ("COMMENT ON TABLE article IS 'other'", "add_table_comment: article"),
        ("ALTER TABLE encoder DROP CONSTRAINT uq_encoder_name", "add_constraint: uq_encoder_name"),
        (
            "ALTER TABLE article DROP CONSTRAINT fk_article_dataset_source",
            "add_fk: fk_article_dataset_source",
        ),
    ],
)
def test_a_change_by_hand_is_told(db: Database, change: str, told: str) -> None:
    with db.raw_connection() as connection:
        connection.execute(change.encode())
    differences = migrate.drift(db)
    assert differences
    assert any(re.search(told, line) for line in differences), differences


def test_what_is_made_at_run_time_is_no_drift(db: Database, corpus: Corpus) -> None:
    corpus([6])
    with db.raw_connection() as connection:
        connection.execute(
            "CREATE INDEX idx_hnsw ON cpe_entry USING hnsw "
            "((concept_vec::halfvec(768)) halfvec_ip_ops)"
        )
        connection.execute(
            "CREATE INDEX idx_plain ON cpe_entry USING hnsw (concept_vec vector_ip_ops)"
        )
        connection.execute("CREATE TABLE cpe_entry_10k AS SELECT * FROM cpe_entry LIMIT 3")
        connection.execute("CREATE INDEX stray ON cpe_entry_10k (cpe_id)")
        connection.execute("CREATE TABLE procrastinate_jobs (id int PRIMARY KEY)")
    assert migrate.drift(db) == []


def test_every_constraint_has_the_name_that_the_convention_gives(db: Database) -> None:
    found = rows(
        db,
        "SELECT conrelid::regclass::text, conname FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace AND contype IN ('p', 'u', 'f', 'c') "
        "AND conrelid::regclass::text <> 'alembic_version'",
    )
    wanted = {
        (table.name, _name(constraint))
        for table in metadata.tables.values()
        for constraint in table.constraints
    }
    assert set(found) == wanted


def test_every_index_has_the_name_that_the_convention_gives(db: Database) -> None:
    found = rows(
        db,
        "SELECT tablename, indexname FROM pg_indexes i WHERE schemaname = 'public' AND NOT EXISTS "
        "(SELECT FROM pg_constraint c WHERE c.conname = i.indexname)",
    )
    wanted = {(t.name, index.name) for t in metadata.tables.values() for index in t.indexes}
    assert set(found) == wanted


def test_the_checks_mean_the_same(db: Database) -> None:
    """Alembic compares no checks: PostgreSQL's own form of each is compared here."""
    statement = (
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE contype = 'c' AND connamespace = 'public'::regnamespace ORDER BY 1, 2"
    )
    migrated = rows(db, statement)
    with db.begin() as connection:
        for table in metadata.tables.values():
            for check in table.constraints:
                if isinstance(check, CheckConstraint):
                    name = _name(check)
                    connection.exec_driver_sql(f"ALTER TABLE {table.name} DROP CONSTRAINT {name}")
                    connection.execute(AddConstraint(check))
    assert rows(db, statement) == migrated


def test_columns_have_the_same_defaults_and_generation(db: Database) -> None:
    statement = (
        "SELECT table_name, column_name, column_default, is_identity, identity_generation, "
        "is_generated, generation_expression FROM information_schema.columns "
        "WHERE table_schema = 'public' AND table_name <> 'alembic_version' AND table_name = "
        "ANY (%s) ORDER BY 1, 2"
    )
    names = list(metadata.tables)
    with db.raw_connection() as connection:
        migrated = connection.execute(statement, [names]).fetchall()
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        connection.execute("CREATE EXTENSION vector")
    with db.begin() as sa_connection:
        for table in metadata.sorted_tables:
            sa_connection.execute(CreateTable(table))
    with db.raw_connection() as connection:
        assert connection.execute(statement, [names]).fetchall() == migrated


def test_everything_says_what_it_is_for(db: Database) -> None:
    silent = rows(
        db,
        "SELECT relname FROM pg_class c WHERE relnamespace = 'public'::regnamespace "
        "AND relkind IN ('r', 'v', 'm') AND relname <> 'alembic_version' "
        "AND coalesce(obj_description(c.oid, 'pg_class'), '') = '' "
        "UNION ALL "
        "SELECT proname FROM pg_proc p WHERE pronamespace = 'public'::regnamespace "
        "AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e') "
        "AND coalesce(obj_description(p.oid, 'pg_proc'), '') = ''",
    )
    assert silent == []


def test_concepts_are_stored_as_was_measured_best(db: Database) -> None:
    assert rows(
        db,
        "SELECT attstorage, array_to_string(reloptions, ',') FROM pg_attribute a "
        "JOIN pg_class c ON c.oid = attrelid "
        "WHERE c.relname = 'cpe_entry' AND attname = 'concept_vec'",
    ) == [("p", "toast_tuple_target=8160")]


def _name(constraint: Constraint) -> str:
    """The name under which the constraint is made, with the convention applied."""
    preparer = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]
    return str(preparer.format_constraint(constraint))
