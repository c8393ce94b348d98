"""pgvector behind the interface of `retrieval.engine`: on the benchmark's own table.

A search is asked as the product asks it: one connection, settings of the session, a prepared
statement whose plan is made once, binary parameters, one round trip.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from lvmdb.db.bench_table import Access, BenchTable
from lvmdb.db.engine import translated_errors
from lvmdb.db.indexes import COLUMN, HNSW, OPERATOR, IVFFlat, VectorIndex, options
from lvmdb.db.prepared import Prepared, VectorType
from lvmdb.db.server_settings import machine_memory
from lvmdb.db.types import DIMENSION
from lvmdb.errors import CorpusError
from lvmdb.retrieval.engine import ID, Engine, Ids, Vectors
from lvmdb.retrieval.order import alike_first

_SETTINGS = {"ef_search": "hnsw.ef_search", "probes": "ivfflat.probes"}

_LEAST = 64 << 20
"""Bytes of memory to build with, at least; at most a quarter of the machine's."""


class Pgvector(Engine):
    """What all of pgvector's engines share: connection, settings, statements.

    Args:
        table: filled already, with the vectors that `build` is given.
        access: number, storage and measure.
        query_arguments: what searches are asked with.
    """

    family = "pgvector"

    def __init__(
        self,
        table: BenchTable,
        access: Access,
        query_arguments: Sequence[Mapping[str, int]] = ({},),
    ) -> None:
        self.storage, self.measure = access.storage, access.measure
        self.query_arguments = query_arguments
        self.build_arguments: Mapping[str, int] = {}
        self._table, self._access = table, access
        self._arguments: Mapping[str, int] = {}
        self._threads = 1
        self._memory: int | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self._statements: dict[tuple[object, ...], Prepared] = {}

    def build(self, vectors: Vectors, ids: Ids) -> None:
        self._table.workers(self._threads - 1)

    def threads(self, count: int) -> None:
        self._threads = count

    def configure(self, arguments: Mapping[str, int]) -> None:
        self._arguments = arguments
        for name, value in arguments.items():
            self._set(_SETTINGS[name], str(value))

    def search(self, query: NDArray[np.float32], k: int) -> Ids:
        statement = self._prepared(k)
        with translated_errors():
            found = statement.column(self._type.one(query))
        return np.frombuffer(b"".join(found), dtype=ID)

    def batch_search(self, queries: Vectors, k: int) -> Ids:
        statement = self._prepared(k, batch=True)
        order = alike_first(queries)
        with translated_errors():
            result = statement(self._type.many(queries[order]))
        found = np.zeros((len(queries), k), dtype=ID)
        rows = result.ntuples
        numbers = b"".join(result.get_value(row, 0) or b"" for row in range(rows))
        ids = b"".join(result.get_value(row, 1) or b"" for row in range(rows))
        place = np.frombuffer(numbers, dtype=">i8").astype(np.int64) - 1
        # The rows of a query are together, the nearest first.
        first = np.searchsorted(place, np.arange(len(queries)))
        found[order[place], np.arange(rows) - first[place]] = np.frombuffer(ids, dtype=ID)
        return found

    def another(self) -> Engine:
        same = copy.copy(self)
        same._connection, same._statements = None, {}
        return same

    def explain(self, k: int) -> str:
        """The plan of a search, for a test that it is what the engine's name says."""
        vector = sql.Literal("[" + ",".join(["0.1"] * DIMENSION) + "]")
        query = sql.SQL("{}::{}").format(vector, sql.Identifier(self._sent))
        rows = self._session.execute(sql.SQL("EXPLAIN ") + self._statement(query, k)).fetchall()
        return "\n".join(row[0] for row in rows)

    @property
    def bytes(self) -> int:
        return self._table.size(self._access.index(self._table))

    @property
    def memory(self) -> int | None:
        return self._memory

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._statements.clear()

    def round_trip(self) -> None:
        """`select 1` on the same connection: what every query costs beside the search."""
        key = ("round trip",)
        if key not in self._statements:
            self._statements[key] = Prepared(self._session, sql.SQL("SELECT 1"), [])
        self._statements[key]()

    @property
    def _sent(self) -> str:
        """The type that a query is sent as."""
        return "halfvec" if self.storage == "halfvec" else "vector"

    @property
    def _session(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            self._connection = self._table.db.raw_connection(autocommit=True)
            self._type = VectorType.fetch(self._connection, self._sent)
            for name, value in self._session_settings().items():
                self._set(name, value)
        return self._connection

    def _session_settings(self) -> dict[str, str]:
        # Sorting a small table may be priced below asking its index.
        return {
            "plan_cache_mode": "force_generic_plan",
            "enable_sort": "off",
            "enable_seqscan": "off",
            "hnsw.iterative_scan": "off",
            "ivfflat.iterative_scan": "off",
        }

    def _set(self, name: str, value: str) -> None:
        self._session.execute("SELECT set_config(%s, %s, false)", [name, value])

    def _prepared(self, k: int, *, batch: bool = False) -> Prepared:
        key = (k, batch, *self._shape())
        if key not in self._statements:
            session = self._session
            if batch:
                statement = sql.SQL(
                    "SELECT q.number, h.cpe_id "
                    "FROM unnest($1::{}) WITH ORDINALITY AS q (query, number) "
                    "CROSS JOIN LATERAL ({}) h"
                ).format(
                    sql.Identifier(self._sent) + sql.SQL("[]"),
                    self._statement(sql.SQL("q.query"), k),
                )
                oid = self._type.array_oid
            else:
                statement = sql.SQL("SELECT cpe_id FROM ({}) h").format(
                    self._statement(sql.SQL("$1"), k)
                )
                oid = self._type.oid
            self._statements[key] = Prepared(session, statement, [oid])
        return self._statements[key]

    def _shape(self) -> tuple[object, ...]:
        """What else a statement depends on."""
        return ()

    def _statement(self, query: sql.Composable, k: int) -> sql.Composed:
        return self._access.nearest(self._table, query, k)

    def _create(self, plan: VectorIndex, vectors: int) -> None:
        """Build the index with enough memory, and note what was needed.

        Raises:
            CorpusError: the table has other rows than the vectors given.
        """
        connection = self._table.connection
        counted = sql.SQL("SELECT count(*) FROM {}").format(self._table.name)
        (rows,) = connection.execute(counted).fetchone() or (0,)
        if rows != vectors:
            raise CorpusError(f"the benchmark's table has {rows} rows, not {vectors}")
        self._table.workers(self._threads - 1)
        memory, own = plan.memory(vectors), options(plan, vectors)
        given = min(max(memory, _LEAST), machine_memory() // 4) >> 10
        connection.execute("SELECT set_config('maintenance_work_mem', %s, false)", [f"{given}kB"])
        with translated_errors():
            connection.execute(self._access.create(self._table, plan.kind, own))
        self.build_arguments, self._memory = own, memory


class Exact(Pgvector):
    """A scan of all rows; parallel, where the server and the threads allow."""

    name, kind = "pgvector exact", "exact"

    def threads(self, count: int) -> None:
        super().threads(count)
        self._set("max_parallel_workers_per_gather", str(count - 1))

    @property
    def bytes(self) -> int:
        return 0

    def _session_settings(self) -> dict[str, str]:
        return {
            "plan_cache_mode": "force_generic_plan",
            "enable_indexscan": "off",
            "max_parallel_workers_per_gather": str(self._threads - 1),
        }


class Graph(Pgvector):
    """HNSW on `vector` or `halfvec`; on `bit` with another order of what was found.

    Bits are the signs of a vector, compared by Hamming distance; as many are found as `ef_search`
    holds, and their stored vectors decide.
    """

    kind = "hnsw"

    def __init__(
        self,
        table: BenchTable,
        access: Access,
        query_arguments: Sequence[Mapping[str, int]] = ({},),
        *,
        m: int = 16,
        ef_construction: int = 64,
    ) -> None:
        super().__init__(table, access, query_arguments)
        self._plan = HNSW(access.storage, m, ef_construction)
        self.measure = "ip" if access.storage == "bit" else access.measure
        self.name = f"pgvector hnsw {access.storage} {self.measure}"

    def build(self, vectors: Vectors, ids: Ids) -> None:
        self._create(self._plan, len(vectors))

    def _shape(self) -> tuple[object, ...]:
        return (self._arguments.get("ef_search"),) if self.storage == "bit" else ()

    def _statement(self, query: sql.Composable, k: int) -> sql.Composed:
        if self.storage != "bit":
            return super()._statement(query, k)
        bits = sql.SQL("(binary_quantize({})::bit({}))").format(query, DIMENSION)
        found = super()._statement(bits, max(k, self._arguments.get("ef_search", k)))
        return sql.SQL("SELECT cpe_id FROM ({}) c ORDER BY {} {} {} LIMIT {}").format(
            found, COLUMN["vector"], OPERATOR["ip"], query, sql.Literal(k)
        )


class Lists(Pgvector):
    """IVFFlat: lists around centroids, of which a search reads `probes`."""

    kind = "ivfflat"

    def __init__(
        self,
        table: BenchTable,
        access: Access,
        query_arguments: Sequence[Mapping[str, int]] = ({},),
        *,
        lists: int = 100,
    ) -> None:
        super().__init__(table, access, query_arguments)
        self._plan = IVFFlat(access.storage, lists)
        self.name = f"pgvector ivfflat {access.storage} {access.measure}"

    def build(self, vectors: Vectors, ids: Ids) -> None:
        self._create(self._plan, len(vectors))
