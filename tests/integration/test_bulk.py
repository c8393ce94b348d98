"""Binary COPY: what is packed by column is what PostgreSQL reads, for every type."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from lvmdb.db import bulk
from lvmdb.db.engine import Database
from lvmdb.errors import DatabaseError

TABLE = """
CREATE TABLE packed (small smallint, whole integer, big bigint, r real, d double precision,
                     words text, id uuid, data bytea, vec vector(5), none text)
"""


def test_every_type_is_read_back(db: Database) -> None:
    rows = 50
    generator = np.random.default_rng(0)
    small = generator.integers(-(2**15), 2**15, rows)
    whole = generator.integers(-(2**31), 2**31, rows)
    big = generator.integers(-(2**63), 2**63 - 1, rows)
    real = generator.standard_normal(rows).astype(np.float32)
    double = generator.standard_normal(rows)
    words = [None if n % 7 == 0 else "aé漢😀\n\t\\N'\""[: n % 11] for n in range(rows)]
    ids = [uuid.UUID(bytes=generator.bytes(16)) for _ in range(rows)]
    data = [generator.bytes(n) for n in range(rows)]
    vectors = generator.standard_normal((rows, 5)).astype(np.float32)
    with db.begin() as connection:
        connection.exec_driver_sql(TABLE)
        written = bulk.copy_rows(
            connection,
            "packed",
            {
                "small": bulk.integers(small, 2),
                "whole": bulk.integers(whole),
                "big": bulk.integers(big, 8),
                "r": bulk.reals(real),
                "d": bulk.reals(double, 8),
                "words": bulk.texts(words),
                "id": bulk.uuids(i.bytes for i in ids),
                "data": bulk.binary(data),
                "vec": bulk.vectors(vectors),
                "none": bulk.nulls(rows),
            },
        )
    assert written == rows
    with db.raw_connection() as raw:
        cursor = raw.cursor(binary=True)
        found = cursor.execute(
            "SELECT small, whole, big, r, d, words, id, data, vector_send(vec), none FROM packed "
            "ORDER BY length(data)"
        ).fetchall()
    columns = list(zip(*found, strict=True))
    expected = [small.tolist(), whole.tolist(), big.tolist(), real.tolist(), double.tolist()]
    assert [list(column) for column in columns[:5]] == expected
    assert [list(column) for column in columns[5:8]] == [words, ids, data]
    assert bulk.parsed_vectors(columns[8], 5).tobytes() == vectors.tobytes()
    assert set(columns[9]) == {None}


def test_no_rows_are_no_rows(db: Database) -> None:
    with db.begin() as connection:
        connection.exec_driver_sql(TABLE)
        assert bulk.copy_rows(connection, "packed", {"whole": bulk.integers([])}) == 0


def test_columns_of_different_lengths_write_nothing(db: Database) -> None:
    with db.begin() as connection:
        connection.exec_driver_sql(TABLE)
    columns = {"whole": bulk.integers([1, 2]), "words": bulk.texts(["a"])}
    with pytest.raises(ValueError, match="shorter"), db.begin() as connection:
        bulk.copy_rows(connection, "packed", columns)
    with db.raw_connection() as raw:
        assert raw.execute("SELECT count(*) FROM packed").fetchone() == (0,)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_postgresql_cannot_hold_writes_nothing(db: Database, text: str) -> None:
    with db.begin() as connection:
        connection.exec_driver_sql(TABLE)
    with pytest.raises((DatabaseError, UnicodeEncodeError)), db.begin() as connection:
        bulk.copy_rows(connection, "packed", {"words": bulk.texts(["fine", text])})
    with db.raw_connection() as raw:
        assert raw.execute("SELECT count(*) FROM packed").fetchone() == (0,)


def test_names_are_quoted(db: Database) -> None:
    with db.begin() as connection:
        connection.exec_driver_sql('CREATE TABLE "odd ""name" ("a column" int)')
        assert bulk.copy_rows(connection, 'odd "name', {"a column": bulk.integers([1])}) == 1
