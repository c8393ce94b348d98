"""Spans of concepts in order, straight from a server-side binary cursor.

A row is a span of an article: one value with all its vectors, decoded by numpy in one pass.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

from lvmdb.db import native
from lvmdb.db.queries import psycopg_sql
from lvmdb.db.types import DIMENSION, TMD_DIMENSION
from lvmdb.errors import SequenceError
from lvmdb.sequences.windows import Spans, grouped

FETCH_ROWS = 1_000
"""Concepts asked for at a time, 3 MB, or the one span that has more."""


def read_spans(
    connection: psycopg.Connection[Any],
    spans: Spans,
    *,
    fetch_rows: int = FETCH_ROWS,
    half: bool = False,
    tmd: bool = False,
) -> Generator[NDArray[np.floating[Any]]]:
    """The vectors `(concepts, 768)` of each span, in order, in the server's type and byte order.

    An array is a view of what was received: assign it to rows of a float32 array, which casts it
    and turns the bytes in one pass. With `tmd` it is `(concepts, 784)` float32.

    Args:
        connection: with a transaction open or about to be; the cursor lives in it.
        spans: what to read.
        fetch_rows: concepts a round trip, about.
        half: rounded to half precision on the server.
        tmd: with each concept's TMD code behind its vector; zeros where it has none.

    Raises:
        SequenceError: the database holds other concepts than were counted.
    """
    if not len(spans):
        return
    name = "stream_spans_tmd" if tmd else "stream_spans"
    if half:
        name += "_half"
    elif native.allowed(connection):
        name += "_native"
    expected = list(zip(spans.first_seq.tolist(), spans.last_seq.tolist(), strict=True))
    with server_cursor(connection, "stream_spans") as cursor:
        cursor.adapters.register_loader("bytea", _Received)
        cursor.execute(
            psycopg_sql("sequences", name),
            {
                "article_ids": spans.article_id.tolist(),
                "first_seqs": spans.first_seq.tolist(),
                "last_seqs": spans.last_seq.tolist(),
            },
        )
        place = 0
        for count in np.diff(grouped(spans.concepts, fetch_rows)).tolist():
            for row in cursor.fetchmany(count):
                first_seq, last_seq = expected[place]
                place += 1
                if row[:3] != (place, first_seq, last_seq):
                    raise changed()
                concepts = last_seq - first_seq + 1
                vectors = _parsed(row[3], concepts, DIMENSION, half)
                if tmd:
                    codes = _parsed(row[4], concepts, TMD_DIMENSION)
                    vectors = np.concatenate([vectors, codes], axis=1, dtype=np.float32)
                yield vectors
        if place != len(spans):
            raise changed()


class _Received(Loader):
    """A value where libpq put it: psycopg's own loader would copy it once more."""

    format = Format.BINARY

    def load(self, data: Buffer) -> Buffer:
        return data


@contextmanager
def server_cursor(
    connection: psycopg.Connection[Any], name: str
) -> Iterator[psycopg.ServerCursor[Any]]:
    """A binary cursor on the server, closed at the end; with the connection if that is broken."""
    cursor = connection.cursor(name=name, binary=True)
    try:
        yield cursor
    finally:
        try:
            cursor.close()
        except psycopg.OperationalError:
            # The server went away, and the cursor with it.
            connection.close()
            cursor.close()


def _parsed(
    value: Buffer | None, concepts: int, dimension: int, half: bool = False
) -> NDArray[np.floating[Any]]:
    if value is None:  # no vector at all
        raise changed()
    # Native bytes begin with the dimensions in the server's order, all others in network order.
    order = ">" if value[:2] == dimension.to_bytes(2, "big") else "<"
    number = f"{order}f{2 if half else 4}"
    row = np.dtype(
        [
            ("dimensions", f"{order}i2"),
            ("unused", f"{order}i2"),
            ("vector", number, (dimension,)),
        ]
    )
    # A vector that is NULL is missing; one of another width makes another length, or other
    # dimensions where the next is expected.
    if len(value) != concepts * row.itemsize:
        raise changed()
    parsed = np.frombuffer(value, dtype=row)
    if np.any(parsed["dimensions"] != dimension):
        raise changed()
    vectors: NDArray[np.floating[Any]] = parsed["vector"]
    return vectors


def changed() -> SequenceError:
    """What to say when the data is not what the set counted."""
    return SequenceError(
        "the database holds other concepts, or in another order, than the sequence set counted: "
        "run 'lvmdb verify', then create a new set"
    )
