"""Concepts in order, straight from a server-side binary cursor.

Each concept is read once. A block of whole articles is decoded at a time, by one pass of numpy
over the joined bytes, and the place of every row is checked against what was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import psycopg
from numpy.typing import NDArray

from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.queries import psycopg_sql
from lvmdb.db.types import DIMENSION
from lvmdb.errors import SequenceError
from lvmdb.sequences.windows import Articles

FETCH_ROWS = 500
"""Rows asked for at a time: 256 to 1,000 measure alike, and a message stays near 1.5 MB."""


def read_blocks(
    connection: psycopg.Connection[tuple[int, int, bytes]],
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
        spare: list[tuple[int, int, bytes]] = []
        for group in groups:
            concepts = articles.concepts[group]
            block = np.empty((int(concepts.sum()), DIMENSION), dtype=np.float32)
            place = np.repeat(np.arange(group.start, group.stop) + 1, concepts)
            first = np.cumsum(concepts) - concepts
            seq = np.arange(len(block)) - np.repeat(first, concepts)
            filled = 0
            while filled < len(block):
                rows = spare or cursor.fetchmany(fetch_rows)
                if not rows:
                    raise changed()
                rows, spare = rows[: len(block) - filled], rows[len(block) - filled :]
                places, seqs, sent = zip(*rows, strict=True)
                end = filled + len(rows)
                if not (
                    np.array_equal(places, place[filled:end])
                    and np.array_equal(seqs, seq[filled:end])
                ):
                    raise changed()
                block[filled:end] = parsed_vectors(sent, DIMENSION)
                filled = end
            yield block
        if spare or cursor.fetchone() is not None:
            raise changed()


def changed() -> SequenceError:
    """What to say when the data is not what the set counted."""
    return SequenceError(
        "the database holds other concepts, or in another order, than the sequence set counted: "
        "run 'lvmdb verify', then create a new set"
    )
