"""Many rows at once: PostgreSQL's binary COPY, packed column by column.

A column is packed for a whole block of rows in numpy or in one comprehension; nothing is
converted value by value on its way to the server. While the server stores one block, the next is
packed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from sqlalchemy import Connection

from lvmdb.db.engine import raw

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_NULL = struct.pack(">i", -1)

Column = Sequence[bytes]
"""The packed values of one column: each with its length before it."""


def copy_rows(
    connection: Connection,
    table: str,
    columns: Mapping[str, Column],
    more: Iterable[Mapping[str, Column]] = (),
) -> int:
    """Write rows by one binary COPY in the connection's transaction; returns how many.

    Args:
        connection: where to write; nothing is committed here.
        table: name of the table.
        columns: packed values by column name, all of one length.
        more: further rows, of the same columns. Blocks of some hundred kilobytes keep the server
            busy while the next one is made.
    """
    return packed_rows(raw(connection), sql.Identifier(table), chain((columns,), more))


def packed_rows(
    connection: psycopg.Connection[Any],
    table: sql.Identifier,
    blocks: Iterable[Mapping[str, Column]],
) -> int:
    """`copy_rows` on psycopg's connection, into a table of any schema; at least one block."""
    remaining = iter(blocks)
    first = next(remaining)
    fields = struct.pack(">h", len(first))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        table, sql.SQL(", ").join(map(sql.Identifier, first))
    )
    rows = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(_SIGNATURE)
        for block in chain((first,), remaining):
            values = [block[name] for name in first]
            packed = zip(repeat(fields, len(values[0])), *values, strict=True)
            copy.write(b"".join(chain.from_iterable(packed)))
            rows += len(values[0])
        copy.write(_TRAILER)
    return rows


def integers(values: Iterable[int] | NDArray[Any], size: int = 4) -> Column:
    """A smallint (`size` 2), integer (4) or bigint (8) column."""
    array = np.asarray(values if isinstance(values, np.ndarray) else list(values))
    return _fixed(array, f">i{size}")


def optional_integers(values: Iterable[int | None], size: int = 4) -> Column:
    """The same, where None is NULL."""
    code = {2: ">ih", 4: ">ii", 8: ">iq"}[size]
    return [_NULL if v is None else struct.pack(code, size, v) for v in values]


def reals(values: NDArray[Any], size: int = 4) -> Column:
    """A real (`size` 4) or double precision (8) column."""
    return _fixed(values, f">f{size}")


def texts(values: Iterable[str | None]) -> Column:
    """A text column; None is NULL."""
    return [_NULL if v is None else _with_length(v.encode()) for v in values]


def uuids(values: Iterable[bytes]) -> Column:
    """A uuid column, from 16 bytes each."""
    length = struct.pack(">i", 16)
    return [length + value for value in values]


def binary(values: Iterable[bytes]) -> Column:
    """A bytea column."""
    return [_with_length(value) for value in values]


def vectors(values: NDArray[np.float32]) -> Column:
    """A vector column, from `(rows, dimensions)`."""
    rows, dimensions = values.shape
    layout = np.dtype(
        [("length", ">i4"), ("dim", ">i2"), ("unused", ">i2"), ("v", ">f4", (dimensions,))]
    )
    packed = np.empty(rows, dtype=layout)
    packed["length"] = layout.itemsize - 4
    packed["dim"] = dimensions
    packed["unused"] = 0
    packed["v"] = values
    return _rows_of(packed)


def nulls(rows: int) -> Column:
    """A column of NULLs."""
    return [_NULL] * rows


def parsed_vectors(sent: Sequence[bytes], dimensions: int) -> NDArray[np.float32]:
    """Vectors `(len(sent), dimensions)` from what `vector_send` gave, in one pass.

    Raises:
        ValueError: the bytes are not of so many vectors of this width.
    """
    layout = np.dtype([("dim", ">i2"), ("unused", ">i2"), ("v", ">f4", (dimensions,))])
    parsed = np.frombuffer(b"".join(sent), dtype=layout)
    if len(parsed) != len(sent):
        raise ValueError(f"the vectors are not all of {dimensions} dimensions")
    return parsed["v"].astype(np.float32)


def _fixed(values: NDArray[Any], kind: str) -> Column:
    layout = np.dtype([("length", ">i4"), ("value", kind)])
    packed = np.empty(len(values), dtype=layout)
    packed["length"] = layout.itemsize - 4
    packed["value"] = values
    return _rows_of(packed)


def _rows_of(packed: NDArray[Any]) -> Column:
    rows: list[bytes] = packed.view(f"V{packed.dtype.itemsize}").tolist()
    return rows


def _with_length(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value
