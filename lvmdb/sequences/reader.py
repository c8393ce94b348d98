"""Concepts in order, straight from a server-side binary cursor.

Each concept is read once. A block of whole articles is decoded at a time, by one pass of numpy
over the joined bytes, and the place of every row is checked against what was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import psycopg
from numpy.typing import NDArray

from lvmdb.db.queries import psycopg_sql
from lvmdb.db.types import DIMENSION
from lvmdb.errors import SequenceError
from lvmdb.sequences.windows import Articles

FETCH_ROWS = 500
"""Rows asked for at a time: 200 to 1,000 measure alike, and a message stays near 1.5 MB."""

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
) -> Iterator[NDArray[np.float32]]:
    """The vectors `(concepts, 768)` of each group of articles, in order.

    Args:
        connection: with a transaction open or about to be; the cursor lives in it.
        articles: in the order in which they are to be read.
        groups: consecutive slices of `articles`, one block each.
        fetch_rows: rows a round trip.

    Raises:
        SequenceError: the database holds other concepts than were counted.
    """
    with connection.cursor(name="stream_concepts", binary=True) as cursor:
        cursor.itersize = fetch_rows
        cursor.execute(
            psycopg_sql("sequences", "stream_concepts"),
            {"article_ids": articles.article_id.tolist()},
        )
        spare = np.empty(0, dtype=ROW)
        for group in groups:
            concepts = articles.concepts[group]
            block = np.empty((int(concepts.sum()), DIMENSION), dtype=np.float32)
            place = np.repeat(np.arange(group.start, group.stop) + 1, concepts)
            first = np.cumsum(concepts) - concepts
            seq = np.arange(len(block)) - np.repeat(first, concepts)
            filled = 0
            while filled < len(block):
                rows = spare if len(spare) else _parsed(cursor.fetchmany(fetch_rows))
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
        if len(spare) or cursor.fetchone() is not None:
            raise changed()


def _parsed(rows: list[tuple[bytes]]) -> NDArray[np.void]:
    try:
        parsed = np.frombuffer(b"".join([row[0] for row in rows]), dtype=ROW)
    except (TypeError, ValueError) as error:  # a vector that is NULL, or of another width
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
