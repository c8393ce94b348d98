"""One connection that searches: its settings, its prepared statements, and what they give."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import pq, sql

from lvmdb.db.engine import Database, translated_errors
from lvmdb.db.prepared import Prepared, VectorType
from lvmdb.errors import ConnectionLostError, DatabaseError

Nearest = list[tuple[uuid.UUID, float]]

SETTINGS = {
    # The planner may price reading and sorting a small dataset below asking its vector index.
    "enable_sort": "off",
    # A plan without the vector is as good as one with it, and is made once.
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}
"""What a connection that searches is set to."""

_PREPARED = 100
"""Statements that a connection keeps: one for each k, mostly one."""

_COSINE = struct.Struct(">d")


class Session:
    """A connection for one thread. One that broke is opened again by the next call; the call that
    meets it broken raises `ConnectionLostError`."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._opened: psycopg.Connection[Any] | None = None
        self._type = VectorType("vector", 0, 0)
        self._set: dict[str, int | str] = {}
        self._prepared: dict[tuple[Any, ...], Prepared] = {}

    def close(self) -> None:
        """Give the connection back; a further call opens another."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def set(self, name: str, value: int | str) -> None:
        """Set what is not set yet."""
        if self._set.get(name) == value and self._opened and not self._opened.closed:
            return
        with self.connected() as connection:
            _set(connection, {name: str(value)})
            self._set[name] = value

    def nearest(
        self,
        vector: NDArray[np.float32],
        compose: Callable[[], sql.Composed],
        key: tuple[Any, ...] | None,
    ) -> Nearest:
        """Ids and cosines of what is nearest to a vector `(768,)`.

        Args:
            vector: of unit norm.
            compose: makes the statement, of `db.nearest.nearest`.
            key: of a statement that will be asked again; None asks it once.
        """
        with self.connected() as connection:
            sent = self._type.one(vector)
            if key is None:
                result = self._once(connection, compose(), sent)
            else:
                result = self._kept(connection, compose, key, self._type.oid)(sent)
            return [
                (
                    uuid.UUID(bytes=bytes(result.get_value(row, 0) or b"")),
                    _COSINE.unpack(result.get_value(row, 1) or b"")[0],
                )
                for row in range(result.ntuples)
            ]

    def nearest_of_many(
        self,
        vectors: NDArray[np.float32],
        compose: Callable[[], sql.Composed],
        key: tuple[Any, ...],
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.float32]]:
        """Which vector of `(n, 768)`, `(r,)` from 0; the bytes of the ids, `(r, 16)`; cosines
        `(r,)`; in any order."""
        with self.connected() as connection:
            sent = self._type.many(vectors)
            rows = self._kept(connection, compose, key, self._type.array_oid).column(sent)
        layout = np.dtype([("n", ">i8"), ("cosine", ">f8"), ("cpe_id", np.uint8, (16,))])
        found = np.frombuffer(b"".join(rows), dtype=layout)
        return (
            found["n"].astype(np.int64) - 1,
            found["cpe_id"],
            found["cosine"].astype(np.float32),
        )

    def rows(
        self,
        statement: str | sql.Composed,
        parameters: Mapping[str, Any] | None = None,
        *,
        again: bool = False,
    ) -> list[tuple[Any, ...]]:
        """What a statement gives; the server keeps the plan of one that is asked again."""
        with self.connected() as connection:
            asked = statement if isinstance(statement, sql.Composed) else statement.encode()
            return connection.execute(asked, parameters, prepare=again).fetchall()

    @contextmanager
    def connected(self) -> Iterator[psycopg.Connection[Any]]:
        """The connection; whatever becomes of it is told as what it is."""
        try:
            with translated_errors():
                yield self._connection()
        except DatabaseError as error:
            lost = self._opened is not None and self._opened.closed
            if lost and not isinstance(error, ConnectionLostError):
                raise ConnectionLostError(f"the database does not answer: {error}") from error
            raise

    def _connection(self) -> psycopg.Connection[Any]:
        if self._opened is None or self._opened.closed:
            connection = self._db.raw_connection(autocommit=True)
            try:
                self._type = VectorType.fetch(connection, "vector")
                _set(connection, SETTINGS)
            except BaseException:
                connection.close()
                raise
            self._opened, self._set, self._prepared = connection, {}, {}
        return self._opened

    def _kept(
        self,
        connection: psycopg.Connection[Any],
        compose: Callable[[], sql.Composed],
        key: tuple[Any, ...],
        oid: int,
    ) -> Prepared:
        if key not in self._prepared:
            if len(self._prepared) >= _PREPARED:
                connection.execute("DEALLOCATE ALL", prepare=False)
                self._prepared.clear()
            self._prepared[key] = Prepared(connection, compose(), [oid])
        return self._prepared[key]

    def _once(
        self, connection: psycopg.Connection[Any], statement: sql.Composed, sent: bytes
    ) -> pq.abc.PGresult:
        binary = pq.Format.BINARY
        result = connection.pgconn.exec_params(
            statement.as_bytes(connection), [sent], [self._type.oid], [binary], binary
        )
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise psycopg.errors.error_from_result(result)
        return result


def _set(connection: psycopg.Connection[Any], settings: dict[str, str]) -> None:
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value), prepare=False)
