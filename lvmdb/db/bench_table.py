"""A benchmark's own table: rows as in `cpe_entry`, in a schema of its own, dropped at the end.

Indexes built here leave the user's alone, and his planner's choices. Columns, row width, PLAIN
storage and fill are those of `cpe_entry`, so that an index is as costly to follow as there.

Several indexes on one column would be the planner's to choose from. So each is partial, with a
predicate of its own that is true of every row (`seq <> -N`) and that the statement for that index
repeats: no other predicate implies it, and PostgreSQL drops it from a plan that uses the index.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from lvmdb.db.bulk import integers, packed_rows, texts, uuids, vectors
from lvmdb.db.engine import Database, translated_errors
from lvmdb.db.indexes import COLUMN, OPERATOR

SCHEMA = "lvmdb_bench"


@dataclass(frozen=True)
class Access:
    """One index, and the statements that only this index can serve.

    Attributes:
        number: from 1, unique within the table.
        storage: `vector`, `halfvec` or `bit`.
        measure: `ip`, `cosine` or, of bits, `hamming`.
    """

    number: int
    storage: str
    measure: str

    def nearest(self, table: BenchTable, query: sql.Composable, k: int) -> sql.Composed:
        """`(cpe_id, concept_vec)` of the k nearest rows of a query, nearest first."""
        return sql.SQL(
            "SELECT cpe_id, concept_vec FROM {} WHERE {} ORDER BY {} {} {} LIMIT {}"
        ).format(
            table.name,
            self._predicate(table),
            COLUMN[self.storage],
            OPERATOR[self.measure],
            query,
            sql.Literal(k),
        )

    def create(self, table: BenchTable, method: str, options: dict[str, int]) -> sql.Composed:
        """The statement that builds the index."""
        settings = [sql.SQL("{} = {}").format(sql.Identifier(n), v) for n, v in options.items()]
        return sql.SQL("CREATE INDEX {} ON {} USING {} ({} {}) WITH ({}) WHERE {}").format(
            sql.Identifier(self.index(table)),
            table.name,
            sql.Identifier(method),
            COLUMN[self.storage],
            sql.Identifier(f"{self.storage}_{self.measure}_ops"),
            sql.SQL(", ").join(settings),
            self._predicate(table),
        )

    def index(self, table: BenchTable) -> str:
        """The index's name."""
        return f"{table.table}_{self.number}"

    def _predicate(self, table: BenchTable) -> sql.Composed:
        return sql.SQL("dataset_source = {} AND seq <> {}").format(
            sql.Literal(table.dataset), sql.Literal(-self.number)
        )


@dataclass(frozen=True)
class BenchTable:
    """The table, and a connection that shows it is in use.

    Attributes:
        db: where it is.
        table: its name in the schema.
        dataset: what `dataset_source` says in every row.
        connection: its owner's, in autocommit.
    """

    db: Database
    table: str
    dataset: str
    connection: psycopg.Connection[Any]

    @property
    def name(self) -> sql.Identifier:
        """The table, quoted, with its schema."""
        return sql.Identifier(SCHEMA, self.table)

    def copy_dataset(self, left_out: Sequence[int]) -> int:
        """Fill it with a dataset's concepts in corpus order, but those of some articles."""
        return self.connection.execute(
            sql.SQL(
                "INSERT INTO {} SELECT e.* FROM cpe_entry e JOIN article a USING (article_id) "
                "WHERE e.dataset_source = %s AND e.concept_vec IS NOT NULL "
                "AND e.article_id <> ALL (%s::bigint[]) ORDER BY a.ordinal, e.seq"
            ).format(self.name),
            [self.dataset, list(left_out)],
        ).rowcount

    def copy_rows(
        self, blocks: Iterable[tuple[Sequence[bytes], Sequence[str], NDArray[np.float32]]]
    ) -> int:
        """Fill it with rows that were made: ids, texts and vectors, block by block."""
        return packed_rows(
            self.connection,
            self.name,
            (
                {
                    "cpe_id": uuids(ids),
                    "article_id": integers([0] * len(ids), 8),
                    "seq": integers(range(len(ids))),
                    "concept_text": texts(words),
                    "dataset_source": texts([self.dataset] * len(ids)),
                    "concept_vec": vectors(block),
                }
                for ids, words, block in blocks
            ),
        )

    def settle(self) -> None:
        """Statistics and visibility, as a table has them that was there for a while."""
        self.connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(self.name))

    def workers(self, count: int) -> None:
        """How many processes beside the leader build an index or scan the table."""
        self.connection.execute(
            sql.SQL("ALTER TABLE {} SET (parallel_workers = {})").format(self.name, count)
        )
        for name in ("max_parallel_maintenance_workers", "max_parallel_workers_per_gather"):
            self.connection.execute("SELECT set_config(%s, %s, false)", [name, str(count)])

    def size(self, index: str | None = None) -> int:
        """Bytes of one index, or of the rows."""
        what = self.name if index is None else sql.Identifier(SCHEMA, index)
        row = self.connection.execute(
            "SELECT pg_relation_size(%s::regclass)", [what.as_string(self.connection)]
        ).fetchone()
        assert row is not None
        return int(row[0])


@contextmanager
def bench_table(db: Database, dataset: str) -> Iterator[BenchTable]:
    """An empty table, dropped at the end, also after an error or Ctrl-C.

    A process that was killed cannot drop its own: the next one does.

    Raises:
        DatabaseError: the user may not create a schema in this database.
    """
    table = f"concept_{secrets.token_hex(4)}"
    with translated_errors(), db.raw_connection(autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
        _drop_left_over(connection)
        made = BenchTable(db, table, dataset, connection)
        connection.execute("SELECT pg_advisory_lock(%s)", [_key(table)])
        try:
            connection.execute(
                sql.SQL(
                    "CREATE TABLE {} (LIKE cpe_entry INCLUDING STORAGE INCLUDING DEFAULTS) "
                    "WITH (toast_tuple_target = 8160)"
                ).format(made.name)
            )
            yield made
        finally:
            # The connection may be in the middle of what was interrupted.
            with db.raw_connection(autocommit=True) as other:
                connection.close()
                _drop(other, table)


def _drop_left_over(connection: psycopg.Connection[Any]) -> None:
    """Drop the tables of processes that are gone: their locks went with them."""
    rows = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s", [SCHEMA]
    ).fetchall()
    for (table,) in rows:
        key = _key(table)
        free = connection.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone()
        if free and free[0]:
            connection.execute(
                sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(SCHEMA, table))
            )
            connection.execute("SELECT pg_advisory_unlock(%s)", [key])


def _drop(connection: psycopg.Connection[Any], table: str) -> None:
    """Drop a table, and the schema with the last one."""
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(SCHEMA, table)))
    try:
        connection.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(SCHEMA)))
    except psycopg.errors.DependentObjectsStillExist:
        pass  # of another benchmark
    except psycopg.errors.InvalidSchemaName:
        pass  # another one was first


def _key(table: str) -> int:
    """Of an advisory lock: 8 bytes that begin with `lvmb`, and the table's own 4."""
    own = bytes.fromhex(table.rpartition("_")[2])
    key: int = struct.unpack(">q", b"lvmb" + own)[0]
    return key
