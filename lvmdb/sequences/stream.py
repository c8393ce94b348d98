"""Batches for training, streamed from SQL: the fast executor of the view `training_sequence`.

The order of the global batches is a function of (sequence set, split, objective, seed, epoch,
batch size, buffer size): the same for any number of processes and connections, and open at any
batch (`order`). Memory holds a few blocks, whatever the corpus (`arena`). A server that goes away
is waited for, and the stream goes on at its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import psycopg
from numpy.typing import NDArray

from lvmdb.ahead import ahead
from lvmdb.db.engine import Database
from lvmdb.db.patience import patiently
from lvmdb.db.queries import psycopg_sql
from lvmdb.db.types import SPLITS
from lvmdb.errors import ConnectionLostError, SequenceError, UnknownNameError
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences import sets
from lvmdb.sequences.assembly import Assembly
from lvmdb.sequences.batch import OBJECTIVES, SequenceBatch
from lvmdb.sequences.order import Blocks, EpochOrder, generator_for, most_at_once
from lvmdb.sequences.reader import FETCH_ROWS, changed
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.sources import Cached, Source, Streamed, readers
from lvmdb.sequences.windows import (
    CONCEPTS,
    Articles,
    Pieces,
    Windowing,
    article_pieces,
    split_pieces,
)

BUFFER_SIZE = 4096
"""Concepts among which windows are shuffled, in the buffers of all shards together."""

Verify = Callable[[], object]
"""Raises a `SequenceError` where the data is not what it was."""

FRUITLESS = 3
"""A connection that is lost so many times, without a batch in between, is an error."""


@dataclass(frozen=True)
class StreamOptions:
    """How a split is read.

    Attributes:
        batch_size: windows (of the objective `every`: sequences) in a global batch, all processes
            together; the last one of an epoch holds what is left.
        shuffle: visit articles and windows in an order drawn for the epoch; else corpus order.
        seed, epoch: what the order is drawn from.
        first_batch: global batch to begin with.
        buffer_size: concepts in the shuffle buffers, all shards together, about; each shard has
            one piece at least.
        objective: `last`, the windows of the view; or `every`, sequences of whole articles.
        sequence_len: concepts of a sequence, at most (`every` only).
        rank, world_size: this process and how many there are; each gets its part of every global
            batch, which may be empty.
        readers: connections that read; they change nothing but the speed.
        snapshot: the state of the database to read, exported by another connection.
        half: vectors are rounded to half precision on the way: half the bytes.
        tmd: contexts are `(batch, time, 784)`: behind each concept its TMD code, zeros where it has
            none.
        cache_bytes: hold this process's vectors in memory, if they take no more; 0 holds none.
        pin_memory: batches in page-locked memory, for a GPU.
        fetch_rows: concepts a round trip, about.
    """

    batch_size: int = 64
    shuffle: bool = False
    seed: int = 0
    epoch: int = 0
    first_batch: int = 0
    buffer_size: int = BUFFER_SIZE
    objective: str = "last"
    sequence_len: int = 64
    rank: int = 0
    world_size: int = 1
    readers: int = 1
    snapshot: str | None = None
    half: bool = False
    tmd: bool = False
    cache_bytes: int = 0
    pin_memory: bool = False
    fetch_rows: int = FETCH_ROWS


class SequenceStream:
    """The batches of one split; iterate as often as needed, each time the same batches.

    Args:
        db: the database.
        sequences: a frozen set.
        split: `train`, `val` or `test`.
        options: batch size, order, objective, processes, readers.
        progress: told when the server is waited for.
        verify: holds the data against what it was, after the server went away; by default the set's
            own fingerprint.

    Raises:
        SequenceError: the set is a draft, or has fewer shards than there are processes, or the
            objective `every` meets windows that run across articles.
    """

    def __init__(
        self,
        db: Database,
        sequences: SequenceSet,
        split: str,
        options: StreamOptions,
        progress: Progress = SILENT,
        verify: Verify | None = None,
    ) -> None:
        self.sequences = sequences
        self.split = split
        self.options = options
        self._db = db
        self._progress = progress
        self._verify = verify or partial(sets.verify, db, sequences)
        self._fingerprint = sequences.frozen_fingerprint
        self._held: list[Cached] = []  # shared with the streams of other epochs
        if options.world_size > sequences.shards:
            raise SequenceError(
                f"sequence set '{sequences.name}' has {sequences.shards} shards, too few for "
                f"{options.world_size} processes: start fewer, or create a set with --shards"
            )
        if options.objective not in OBJECTIVES:
            raise UnknownNameError("objective", options.objective, OBJECTIVES)
        if options.objective == "every":
            if sequences.scope != "article":
                raise SequenceError(
                    f"objective=every reads whole articles, and the windows of sequence set "
                    f"'{sequences.name}' run across them: create a set with --scope article"
                )
            self._windowing = Windowing.every(options.sequence_len)
        else:
            self._windowing = Windowing.last(sequences.context_len, sequences.stride)

    @cached_property
    def windows(self) -> int:
        """Windows (of the objective `every`: sequences) of an epoch, all processes together."""
        if self.options.objective == "last":
            return self.sequences.window_count(self.split)

        def count() -> int:
            with readers(self._db, 1, None) as (connection,):
                articles = self._articles(connection)
            return int(self._windowing.count(articles.concepts).sum())

        return patiently(count, self._progress)

    def __len__(self) -> int:
        """Global batches of an epoch."""
        return -(-self.windows // self.options.batch_size)

    def at(self, epoch: int, first_batch: int = 0, *, snapshot: str | None = None) -> Self:
        """The same stream in an epoch's order, from a global batch on."""
        options = replace(self.options, epoch=epoch, first_batch=first_batch, snapshot=snapshot)
        stream = type(self)(
            self._db, self.sequences, self.split, options, self._progress, self._verify
        )
        stream._held = self._held
        stream.windows = self.windows  # not counted again
        return stream

    def __iter__(self) -> Iterator[SequenceBatch]:
        """This process's part of each global batch, in order, from `first_batch` on.

        Raises:
            SequenceError: the database holds other concepts than were frozen, or the vectors are
                more than the cache may hold.
            ConnectionLostError: the server went away and did not come back.
        """
        position, fruitless, snapshot = self.options.first_batch, 0, self.options.snapshot
        while position < len(self):
            try:
                batches = ahead(self._batches(position, snapshot), name="lvmdb-stream")
                with closing(batches):
                    for batch in batches:
                        position, fruitless = position + 1, 0
                        yield batch
            except ConnectionLostError:
                fruitless += 1
                if fruitless == FRUITLESS:
                    raise
                # What it shows now may be another state: the same only if the content is.
                patiently(self._verify, self._progress)
                snapshot = None

    def vectors(self) -> Generator[NDArray[np.float32]]:
        """The concepts `(rows, 768)` of the split's articles, in corpus order, each one once; with
        TMD codes `(rows, 784)`.

        An array is used again after the next step.
        """
        with readers(self._db, self.options.readers, self.options.snapshot) as connections:
            articles = self._articles(connections[0])
            order = self._order(article_pieces(articles, CONCEPTS), shuffle=False)
            blocks = order.mine(0, 1)
            with self._streamed(connections, articles, blocks, 1) as source:
                for block in range(len(blocks)):
                    row = int(source.receive(block)[0])
                    yield source.vectors[row : row + int(blocks.concepts[block])]
                    source.release(block)

    def _batches(self, first_batch: int, snapshot: str | None) -> Generator[SequenceBatch]:
        size, windows = self.options.batch_size, self.windows
        first_position = first_batch * size
        with readers(self._db, self.options.readers, snapshot) as connections:
            articles = self._articles(connections[0])
            pieces = split_pieces(self.sequences, self.split, articles, self._windowing)
            order = self._order(pieces, shuffle=self.options.shuffle)
            if order.windows != windows:
                raise changed()
            rank, world_size = self.options.rank, self.options.world_size
            blocks = order.mine(rank, world_size, first_position)
            # Batches of the first and the last window of each block.
            needed = np.maximum(blocks.first, first_position) // size
            done = blocks.last // size
            span = size + int((blocks.last - blocks.first).max(initial=0))
            with self._source(
                connections, articles, order, blocks, most_at_once(needed, done)
            ) as source:
                assembly = Assembly(
                    source.vectors,
                    articles,
                    self._windowing,
                    every=self.options.objective == "every",
                    span=span,
                )
                received = 0
                in_use: dict[int, list[int]] = {}
                for batch in range(first_batch, -(-windows // size)):
                    while received < len(blocks) and needed[received] <= batch:
                        assembly.add(
                            blocks.pieces_of(received),
                            source.receive(received),
                            order.positions(blocks, received),
                            first_position,
                        )
                        in_use.setdefault(int(done[received]), []).append(received)
                        received += 1
                    end = min((batch + 1) * size, windows)
                    yield assembly.batch(batch * size, end, pin_memory=self.options.pin_memory)
                    for block in in_use.pop(batch, []):
                        source.release(block)

    def _articles(self, connection: psycopg.Connection[Any]) -> Articles:
        rows = connection.execute(
            psycopg_sql("sequences", "articles"),
            {"sequence_set_id": self.sequences.sequence_set_id, "split": self.split},
        ).fetchall()
        table = np.array(rows, dtype=np.int64).reshape(-1, 2)
        return Articles(table[:, 0], table[:, 1])

    def _order(self, pieces: Pieces, *, shuffle: bool) -> EpochOrder:
        return EpochOrder(
            pieces,
            shards=self.sequences.shards,
            buffer_size=self.options.buffer_size,
            draw=self._generator if shuffle else None,
        )

    def _generator(self, *purpose: int) -> np.random.Generator:
        drawn_for = self.options.seed, self.options.epoch, SPLITS.index(self.split)
        return generator_for(self._fingerprint, *drawn_for, *purpose)

    def _streamed(
        self,
        connections: list[psycopg.Connection[Any]],
        articles: Articles,
        blocks: Blocks,
        in_use: int,
    ) -> closing[Streamed]:
        options = self.options
        return closing(
            Streamed(
                connections,
                articles,
                blocks,
                in_use=in_use,
                fetch_rows=options.fetch_rows,
                half=options.half,
                tmd=options.tmd,
            )
        )

    def _source(
        self,
        connections: list[psycopg.Connection[Any]],
        articles: Articles,
        order: EpochOrder,
        blocks: Blocks,
        in_use: int,
    ) -> AbstractContextManager[Source]:
        options = self.options
        if not options.cache_bytes:
            return self._streamed(connections, articles, blocks, in_use)
        if not self._held:
            held = Cached.read(
                connections[0],
                articles,
                order.mine(options.rank, options.world_size),
                most_bytes=options.cache_bytes,
                what=f"the {self.split} split of sequence set '{self.sequences.name}'",
                fetch_rows=options.fetch_rows,
                half=options.half,
                tmd=options.tmd,
            )
            self._held.append(held)
        return nullcontext(self._held[0].of(blocks))
