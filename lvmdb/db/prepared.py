"""Statements that are asked often: prepared once, binary both ways, one round trip each.

psycopg's cursors look a statement up, adapt its parameters and load its rows anew at each call; for
a query of a millisecond that is a tenth of it. This goes through `psycopg.pq`, psycopg's own
documented wrapper of libpq, and leaves the values as bytes: vectors are turned by numpy, ids are
16 bytes anyway. A vector sent as text would cost the client and the server more than the search.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import pq, sql
from psycopg.types import TypeInfo

from lvmdb.errors import DatabaseError

_BINARY = pq.Format.BINARY
_NUMBERS = {"vector": ">f4", "halfvec": ">f2"}
_names = itertools.count()


@dataclass(frozen=True)
class VectorType:
    """One of pgvector's types, and how its values are sent.

    Attributes:
        name: `vector` or `halfvec`.
        oid, array_oid: what the server calls it and arrays of it.
    """

    name: str
    oid: int
    array_oid: int

    @classmethod
    def fetch(cls, connection: psycopg.Connection[Any], name: str) -> VectorType:
        """The type as this database knows it.

        Raises:
            DatabaseError: it does not, so pgvector is missing.
        """
        found = TypeInfo.fetch(connection, name)
        if found is None:
            raise DatabaseError(f"the database has no type {name}: run 'lvmdb migrate'")
        return cls(name, found.oid, found.array_oid)

    def one(self, vector: NDArray[np.float32]) -> bytes:
        """A vector `(d,)` as the server receives it."""
        return struct.pack(">hh", len(vector), 0) + vector.astype(_NUMBERS[self.name]).tobytes()

    def many(self, vectors: NDArray[np.float32]) -> bytes:
        """Vectors `(n, d)` as one array."""
        rows, dimensions = vectors.shape
        numbers: Any = (_NUMBERS[self.name], (dimensions,))
        layout = np.dtype([("length", ">i4"), ("dim", ">i2"), ("unused", ">i2"), ("v", *numbers)])
        packed = np.zeros(rows, dtype=layout)
        packed["length"] = layout.itemsize - 4
        packed["dim"] = dimensions
        packed["v"] = vectors
        # Number of axes, whether there are NULLs, type; length and first index of the one axis.
        return struct.pack(">iiIii", 1, 0, self.oid, rows, 1) + packed.tobytes()


class Prepared:
    """A statement prepared on a connection, for as long as that is open.

    Calls are for a connection in autocommit: nothing here begins a transaction.

    Args:
        connection: where.
        statement: its parameters are `$1`, `$2` ...
        types: of the parameters, by oid.
    """

    def __init__(
        self, connection: psycopg.Connection[Any], statement: sql.Composable, types: Sequence[int]
    ) -> None:
        self._connection = connection
        self._name = b"lvmdb_%d" % next(_names)
        self._formats = [_BINARY] * len(types)
        text = statement.as_string(connection).encode()
        self._check(connection.pgconn.prepare(self._name, text, types), pq.ExecStatus.COMMAND_OK)

    def __call__(self, *values: bytes) -> pq.abc.PGresult:
        """The rows, in binary: `result.get_value(row, column)`.

        Raises:
            psycopg.Error: the server refused, or is gone; see `db.engine.translated_errors`.
        """
        result = self._connection.pgconn.exec_prepared(self._name, values, self._formats, _BINARY)
        return self._check(result, pq.ExecStatus.TUPLES_OK)

    def column(self, *values: bytes) -> list[bytes]:
        """The first column of all rows."""
        result = self(*values)
        # Typed as if it could be NULL, which no column asked for here is.
        return [result.get_value(row, 0) or b"" for row in range(result.ntuples)]

    @staticmethod
    def _check(result: pq.abc.PGresult, expected: pq.ExecStatus) -> pq.abc.PGresult:
        if result.status != expected:
            raise psycopg.errors.error_from_result(result)
        return result
