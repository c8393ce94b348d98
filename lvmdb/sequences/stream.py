"""Batches for training, streamed from SQL: the fast executor of the view `training_sequence`.

Articles come in the epoch's order and concepts in theirs; the windows of a block of articles
are visited in an order drawn for that block. All of it is a function of (sequence set, split,
seed, epoch, batch size, buffer size). Memory holds at most three blocks, whatever the corpus.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import psycopg
import torch
from numpy.typing import NDArray

from lvmdb.ahead import ahead
from lvmdb.db.engine import Database, translated_errors
from lvmdb.db.queries import query
from lvmdb.db.types import DIMENSION, SPLITS
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.sequences.reader import FETCH_ROWS, changed, read_blocks
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.windows import (
    Articles,
    Windows,
    article_windows,
    blocks_of_articles,
    corpus_split_range,
    corpus_windows,
    generator_for,
    windows_per_article,
)

BUFFER_SIZE = 4096
"""Windows in a block, among which the order of visiting is drawn."""


@dataclass(frozen=True)
class StreamOptions:
    """How a split is read.

    Attributes:
        batch_size: windows in a global batch, all ranks together; the last one of an epoch may
            hold fewer.
        shuffle: visit articles and windows in an order drawn for the epoch; else corpus order.
        seed, epoch: what the order is drawn from.
        first_batch: global batch to begin with.
        rank, world_size: which part of each global batch is given.
        buffer_size: windows in a block.
        pin_memory: batches in page-locked memory, for a GPU.
        fetch_rows: rows a round trip.
    """

    batch_size: int = 64
    shuffle: bool = False
    seed: int = 0
    epoch: int = 0
    first_batch: int = 0
    rank: int = 0
    world_size: int = 1
    buffer_size: int = BUFFER_SIZE
    pin_memory: bool = False
    fetch_rows: int = FETCH_ROWS


@dataclass(frozen=True)
class Block:
    """Vectors `(concepts, 768)` and the windows over them, in the order of visiting."""

    vectors: NDArray[np.float32]
    windows: Windows


class SequenceStream:
    """The batches of one split; iterate as often as needed, each time the same batches.

    Args:
        db: the database.
        sequences: a frozen set.
        split: `train`, `val` or `test`.
        options: batch size, order, buffer.
    """

    def __init__(
        self, db: Database, sequences: SequenceSet, split: str, options: StreamOptions
    ) -> None:
        self.sequences = sequences
        self.split = split
        self.options = options
        self.windows = sequences.window_count(split)
        self._db = db
        self._fingerprint = sequences.frozen_fingerprint

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-self.windows // self.options.batch_size)

    def at(self, epoch: int, first_batch: int = 0) -> SequenceStream:
        """The same stream in an epoch's order, from a global batch on."""
        options = replace(self.options, epoch=epoch, first_batch=first_batch)
        return SequenceStream(self._db, self.sequences, self.split, options)

    def __iter__(self) -> Iterator[SequenceBatch]:
        chosen = self.options
        for batch in islice(self._whole(), chosen.first_batch, None):
            yield batch._map(lambda t: t[chosen.rank :: chosen.world_size])

    def _whole(self) -> Iterator[SequenceBatch]:
        """Batches, in order.

        Raises:
            SequenceError: the database holds other concepts than were frozen.
            DatabaseError: the server went away.
        """
        rest: list[_Slice] = []
        held = given = 0
        with closing(ahead(self.blocks(), name="lvmdb-stream")) as blocks:
            for block in blocks:
                given += len(block.windows)
                start = 0
                while start < len(block.windows):
                    end = min(start + self.options.batch_size - held, len(block.windows))
                    rest.append(_Slice(block, start, end))
                    held += end - start
                    start = end
                    if held == self.options.batch_size:
                        yield self._batch(rest)
                        rest, held = [], 0
                # What is left over is copied, so that no block outlives its turn.
                rest = [part.detached(self.sequences.context_len) for part in rest]
        if rest:
            yield self._batch(rest)
        if given != self.windows:
            raise changed()

    def blocks(self) -> Generator[Block]:
        """The blocks that the batches are cut from, read in the calling thread."""
        with translated_errors(), closing(self._db.raw_connection()) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            if self.sequences.scope == "corpus":
                yield from self._corpus_blocks(connection, self._articles())
            else:
                yield from self._article_blocks(connection, self._articles())

    def _article_blocks(
        self, connection: psycopg.Connection[Any], articles: Articles
    ) -> Iterator[Block]:
        context_len, stride = self.sequences.context_len, self.sequences.stride
        counts = windows_per_article(articles.concepts, context_len, stride)
        # An article without a window has nothing to read.
        articles = Articles(articles.article_id[counts > 0], articles.concepts[counts > 0])
        if self.options.shuffle:
            articles = articles.permuted(self._generator(0))
        counts = windows_per_article(articles.concepts, context_len, stride)
        groups = blocks_of_articles(counts, self.options.buffer_size)
        fetch_rows = self.options.fetch_rows
        with closing(read_blocks(connection, articles, groups, fetch_rows)) as blocks:
            for number, (group, vectors) in enumerate(zip(groups, blocks, strict=True)):
                members = Articles(articles.article_id[group], articles.concepts[group])
                windows = article_windows(members, context_len, stride)
                yield Block(vectors, self._in_order(windows, number))

    def _corpus_blocks(
        self, connection: psycopg.Connection[Any], articles: Articles
    ) -> Iterator[Block]:
        counts = [self.sequences.window_count(split) for split in SPLITS]
        chosen = corpus_split_range(counts, SPLITS.index(self.split))
        groups = blocks_of_articles(articles.concepts, self.options.buffer_size)
        carried = np.empty((0, DIMENSION), dtype=np.float32)
        place = 0
        fetch_rows = self.options.fetch_rows
        with closing(read_blocks(connection, articles, groups, fetch_rows)) as blocks:
            for number, (group, vectors) in enumerate(zip(groups, blocks, strict=True)):
                windows = corpus_windows(
                    Articles(articles.article_id[group], articles.concepts[group]),
                    self.sequences.context_len,
                    self.sequences.stride,
                    first_place=place,
                    carried=len(carried),
                    window_range=chosen,
                )
                joined = np.concatenate([carried, vectors])
                place += max(len(joined) - self.sequences.context_len, 0)
                carried = joined[-self.sequences.context_len :]
                yield Block(joined, self._in_order(windows, number))

    def _articles(self) -> Articles:
        with self._db.connect() as connection:
            rows = connection.execute(
                query("sequences", "articles"),
                {"sequence_set_id": self.sequences.sequence_set_id, "split": self.split},
            ).all()
        table = np.array([tuple(row) for row in rows], dtype=np.int64).reshape(-1, 2)
        return Articles(table[:, 0], table[:, 1])

    def _in_order(self, windows: Windows, block: int) -> Windows:
        if not self.options.shuffle:
            return windows
        return windows.take(self._generator(1 + block).permutation(len(windows)))

    def _generator(self, purpose: int) -> np.random.Generator:
        return generator_for(
            self._fingerprint,
            *(self.options.seed, self.options.epoch, SPLITS.index(self.split), purpose),
        )

    def _batch(self, parts: list[_Slice]) -> SequenceBatch:
        context_len = self.sequences.context_len
        gathered = [part.gather(context_len) for part in parts]
        context, target, article_id, target_seq = (
            torch.from_numpy(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
            for arrays in zip(*gathered, strict=True)
        )
        batch = SequenceBatch(
            context=context,
            mask=torch.ones(context.shape[:2], dtype=torch.bool),
            target=target,
            article_id=article_id,
            target_seq=target_seq,
        )
        return batch.pin_memory() if self.options.pin_memory else batch


@dataclass(frozen=True)
class _Slice:
    """Some windows of a block, in order."""

    block: Block
    start: int
    end: int

    def gather(self, context_len: int) -> tuple[NDArray[Any], ...]:
        """Contexts, targets, article ids and target seqs."""
        windows = self.block.windows.take(np.arange(self.start, self.end))
        rows = windows.start[:, None] + np.arange(context_len)
        return (
            self.block.vectors[rows],
            self.block.vectors[windows.start + context_len],
            windows.article_id,
            windows.target_seq,
        )

    def detached(self, context_len: int) -> _Slice:
        """The same windows over a copy of just their vectors."""
        windows = self.block.windows.take(np.arange(self.start, self.end))
        rows = windows.start[:, None] + np.arange(context_len + 1)
        start = np.arange(len(windows)) * (context_len + 1)
        own = Windows(start, windows.article_id, windows.target_seq)
        return _Slice(Block(self.block.vectors[rows.ravel()], own), 0, len(windows))
