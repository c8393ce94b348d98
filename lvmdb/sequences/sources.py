"""Where a stream's vectors come from: readers that fill slots from SQL, or memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Protocol

import numpy as np
import psycopg
from numpy.typing import NDArray

from lvmdb.ahead import ahead
from lvmdb.db import snapshots
from lvmdb.db.engine import Database
from lvmdb.db.types import DIMENSION, TMD_DIMENSION
from lvmdb.errors import SequenceError
from lvmdb.sequences.arena import Arena
from lvmdb.sequences.order import Blocks
from lvmdb.sequences.reader import read_spans
from lvmdb.sequences.windows import Articles, Ints, Pieces, spans_of


class Source(Protocol):
    """Vectors of blocks, in their order.

    Attributes:
        vectors: `(rows, 768)` float32; `(rows, 784)` with TMD codes.
    """

    vectors: NDArray[np.float32]

    def receive(self, block: int) -> Ints:
        """Wait for the next block; returns the row of each of its pieces' first concept."""

    def release(self, block: int) -> None:
        """The block's rows are not needed any more."""


class Streamed:
    """Blocks from SQL, decoded straight into the slots of an arena by a thread for each connection.

    Args:
        connections: each in a transaction that sees the same state.
        articles, blocks: what to read, and in what order.
        in_use: blocks that are needed at a time, at most.
        fetch_rows, half, tmd: of the readers.
    """

    def __init__(
        self,
        connections: Sequence[psycopg.Connection[Any]],
        articles: Articles,
        blocks: Blocks,
        *,
        in_use: int,
        fetch_rows: int,
        half: bool,
        tmd: bool,
    ) -> None:
        self._articles, self._blocks = articles, blocks
        self._fetch_rows, self._half, self._tmd = fetch_rows, half, tmd
        count = len(connections)
        # A reader that has decoded a round trip asks for the next: it may not wait for its turn.
        ready = -(-fetch_rows * len(blocks) // max(1, int(blocks.concepts.sum())))
        slots = min(in_use + (ready + 1) * count, len(blocks))
        self._arena = Arena(slots, int(blocks.concepts.max(initial=0)), _width(tmd))
        self.vectors = self._arena.vectors
        self._rows: dict[int, int] = {}
        self._readers = [
            ahead(
                self._filled(connection, range(first, len(blocks), count)),
                name="lvmdb-read",
                depth=ready,
            )
            for first, connection in enumerate(connections)
        ]

    def receive(self, block: int) -> Ints:
        """See `Source`."""
        row = next(self._readers[block % len(self._readers)])
        self._rows[block] = row
        concepts = self._blocks.pieces_of(block).concepts
        first_rows: Ints = row + np.cumsum(concepts) - concepts
        return first_rows

    def release(self, block: int) -> None:
        """See `Source`."""
        self._arena.release(self._rows.pop(block))

    def close(self) -> None:
        """End the readers; before their connections."""
        self._arena.stop()
        for reader in self._readers:
            reader.close()

    def _filled(self, connection: psycopg.Connection[Any], numbers: range) -> Generator[int]:
        """One connection's blocks, in order: the first row of the slot that holds each."""
        mine = self._blocks.take(np.array(numbers, dtype=np.int64))
        spans = spans_of(mine.pieces, self._articles)
        read = read_spans(
            connection, spans, fetch_rows=self._fetch_rows, half=self._half, tmd=self._tmd
        )
        with closing(read):
            for number, concepts in zip(numbers, mine.concepts.tolist(), strict=True):
                row = self._arena.take(number)
                _fill(self.vectors[row : row + concepts], read)
                yield row


class Cached:
    """All pieces of this process, read once and held in memory.

    Args:
        pieces: those that are held, in order of their places.
        vectors: `(concepts, width)`, the pieces' one after the other.
    """

    def __init__(self, pieces: Pieces, vectors: NDArray[np.float32]) -> None:
        self.vectors = vectors
        self._place = pieces.place
        self._row = np.cumsum(pieces.concepts) - pieces.concepts

    @classmethod
    def read(
        cls,
        connection: psycopg.Connection[Any],
        articles: Articles,
        blocks: Blocks,
        *,
        most_bytes: int,
        what: str,
        fetch_rows: int,
        half: bool,
        tmd: bool,
    ) -> Cached:
        """Read all pieces of the blocks.

        Raises:
            SequenceError: they take more than `most_bytes`; the message says of `what`.
        """
        width = _width(tmd)
        needed = int(blocks.concepts.sum()) * width * 4
        if needed > most_bytes:
            raise SequenceError(
                f"--cache: {what} takes {needed / 1e6:,.0f} MB of memory a process, the cache may "
                f"hold {most_bytes / 1e6:,.0f} MB: give more, or leave the cache out"
            )
        pieces = blocks.pieces.take(np.argsort(blocks.pieces.place))
        vectors = np.empty((int(pieces.concepts.sum()), width), dtype=np.float32)
        spans = spans_of(pieces, articles)
        read = read_spans(connection, spans, fetch_rows=fetch_rows, half=half, tmd=tmd)
        with closing(read):
            _fill(vectors, read)
        return cls(pieces, vectors)

    def of(self, blocks: Blocks) -> CachedBlocks:
        """The source of an epoch's blocks."""
        return CachedBlocks(self.vectors, blocks, self._place, self._row)


class CachedBlocks:
    """An epoch's blocks out of memory: nothing moves but numbers."""

    def __init__(
        self, vectors: NDArray[np.float32], blocks: Blocks, place: Ints, row: Ints
    ) -> None:
        self.vectors = vectors
        self._blocks, self._place, self._row = blocks, place, row

    def receive(self, block: int) -> Ints:
        """See `Source`."""
        held = np.searchsorted(self._place, self._blocks.pieces_of(block).place)
        rows: Ints = self._row[held]
        return rows

    def release(self, block: int) -> None:
        """See `Source`."""


@contextmanager
def readers(
    db: Database, count: int, snapshot: str | None
) -> Iterator[list[psycopg.Connection[Any]]]:
    """So many connections that see one state of the database."""
    with ExitStack() as stack:
        first = stack.enter_context(snapshots.reading(db, snapshot))
        connections = [first]
        if count > 1:
            shared = snapshot or snapshots.export(first)
            connections += [
                stack.enter_context(snapshots.reading(db, shared)) for _ in range(count - 1)
            ]
        yield connections


def _width(tmd: bool) -> int:
    return DIMENSION + TMD_DIMENSION if tmd else DIMENSION


def _fill(rows: NDArray[np.float32], read: Iterator[NDArray[np.floating[Any]]]) -> None:
    """Fill the rows with the next spans: cast, byte order and place in one pass."""
    filled = 0
    while filled < len(rows):
        vectors = next(read)
        rows[filled : filled + len(vectors)] = vectors
        filled += len(vectors)
