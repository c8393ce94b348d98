"""Concepts in order, straight from a server-side binary cursor.

Each concept is read once. A block of whole articles is decoded at a time, by one pass of numpy
over the joined bytes, and the place of every row is checked against what was asked for. The server
makes the next rows while these are decoded.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

import numpy as np
import psycopg
from numpy.typing import NDArray

from lvmdb.ahead import ahead
from lvmdb.db.queries import psycopg_sql
from lvmdb.db.types import DIMENSION
from lvmdb.errors import SequenceError
from lvmdb.sequences.windows import Articles

FETCH_ROWS = 1_000
"""Rows asked for at a time, 3 MB: of 200 to 1,000 the most measures best."""

ROW = np.dtype(
    [
        ("place", ">i8"),
        ("seq", ">i4"),
        ("dimensions", ">i2"),
        ("unused", ">i2"),
        ("vector", ">f4", (DIMENSION,)),
    ]
)
"""A row as the statement `stream_concepts` sends it: place, seq, and what `vector_send` gives."""


def read_blocks(
    connection: psycopg.Connection[tuple[bytes]],
    articles: Articles,
    groups: list[slice],
    fetch_rows: int = FETCH_ROWS,
) -> Generator[NDArray[np.float32]]:
    """The vectors `(concepts, 768)` of each group of articles, in order.

    Close it before the connection: a thread of its own reads from that.

    Args:
        connection: with a transaction open or about to be; the cursor lives in it.
        articles: in the order in which they are to be read.
        groups: consecutive slices of `articles`, one block each.
        fetch_rows: rows a round trip.

    Raises:
        SequenceError: the database holds other concepts than were counted.
    """
    with closing(ahead(_fetched(connection, articles, fetch_rows), name="lvmdb-fetch")) as fetched:
        spare = np.empty(0, dtype=ROW)
        for group in groups:
            concepts = articles.concepts[group]
            block = np.empty((int(concepts.sum()), DIMENSION), dtype=np.float32)
            place = np.repeat(np.arange(group.start, group.stop) + 1, concepts)
            first = np.cumsum(concepts) - concepts
            seq = np.arange(len(block)) - np.repeat(first, concepts)
            filled = 0
            while filled < len(block):
                rows = spare if len(spare) else _parsed(next(fetched, b""))
                rows, spare = rows[: len(block) - filled], rows[len(block) - filled :]
                end = filled + len(rows)
                if not (
                    len(rows)
                    and np.array_equal(rows["place"], place[filled:end])
                    and np.array_equal(rows["seq"], seq[filled:end])
                ):
                    raise changed()
                # Byte order and place in one pass.
                block[filled:end] = rows["vector"]
                filled = end
            yield block
        if len(spare) or next(fetched, None) is not None:
            raise changed()


def _fetched(
    connection: psycopg.Connection[tuple[bytes]], articles: Articles, fetch_rows: int
) -> Generator[bytes]:
    """The rows as they were sent, joined, a round trip at a time."""
    with connection.cursor(name="stream_concepts", binary=True) as cursor:
        cursor.itersize = fetch_rows
        cursor.execute(
            psycopg_sql("sequences", "stream_concepts"),
            {"article_ids": articles.article_id.tolist()},
        )
        while rows := cursor.fetchmany(fetch_rows):
            try:
                yield b"".join([row[0] for row in rows])
            except TypeError as error:  # a vector that is NULL
                raise changed() from error


def _parsed(joined: bytes) -> NDArray[np.void]:
    try:
        parsed = np.frombuffer(joined, dtype=ROW)
    except ValueError as error:  # a vector of another width
        raise changed() from error
    if np.any(parsed["dimensions"] != DIMENSION):
        raise changed()
    return parsed


def changed() -> SequenceError:
    """What to say when the data is not what the set counted."""
    return SequenceError(
        "the database holds other concepts, or in another order, than the sequence set counted: "
        "run 'lvmdb verify', then create a new set"
    )
