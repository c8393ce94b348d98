"""The order of an epoch: one for any number of processes and readers, and open at any place.

Pieces are dealt to a fixed number of virtual shards. Each shard visits its own in an order drawn
for the epoch, some at a time (a *block*), and the windows of a block in an order drawn for the
block. The epoch takes one window from each shard in turn. A process of a world of `n` reads every
`n`-th shard: what it leaves out are others' windows, and what the world reads together is the same
for every `n`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lvmdb.sequences.windows import Ints, Pieces, grouped

Draw = Callable[..., np.random.Generator]
"""A random generator that is a function of the numbers given."""

PIECES_OF_SHARD, WINDOWS_OF_BLOCK = 0, 1
"""What an order is drawn for: first of the numbers given to `Draw`."""


def generator_for(fingerprint: bytes, *numbers: int) -> np.random.Generator:
    """A random generator that depends on the data's fingerprint and these numbers alone."""
    words = [int.from_bytes(fingerprint[i : i + 4], "big") for i in range(0, 16, 4)]
    return np.random.default_rng(
        np.random.SeedSequence([*words, *(n & (2**64 - 1) for n in numbers)])
    )


class Rotation:
    """Which window comes when: one of each shard in turn, the shards that have none left out.

    Args:
        windows: `(shards,)`, how many each has.
    """

    def __init__(self, windows: Ints) -> None:
        self._windows = windows
        self._sorted = np.sort(windows)
        self._sums = np.concatenate([[0], np.cumsum(self._sorted)])

    def position(self, shard: int, number: Ints) -> Ints:
        """Place in the epoch of a shard's windows with these numbers, from 0."""
        done = np.searchsorted(self._sorted, number, side="right")
        rounds: Ints = self._sums[done] + (len(self._sorted) - done) * number
        before = np.sort(self._windows[:shard])
        return rounds + shard - np.searchsorted(before, number, side="right")


@dataclass(frozen=True)
class Blocks:
    """The blocks of an epoch, in the order in which they are needed.

    Attributes:
        pieces: those of all blocks, block by block.
        first_piece: `(blocks + 1,)`: block `b` has the pieces from `first_piece[b]` on, up to
            `first_piece[b + 1]`.
        shard: `(blocks,)`.
        number: `(blocks,)`, of a block in its shard.
        first_window: `(blocks,)`, number in its shard of a block's first window.
        windows, concepts: `(blocks,)`, how many it has.
        first, last: `(blocks,)`, positions in the epoch of its first and last window.
    """

    pieces: Pieces
    first_piece: Ints
    shard: Ints
    number: Ints
    first_window: Ints
    windows: Ints
    concepts: Ints
    first: Ints
    last: Ints

    def __len__(self) -> int:
        return len(self.shard)

    def pieces_of(self, block: int) -> Pieces:
        """The pieces of one block."""
        return self.pieces.take(np.arange(self.first_piece[block], self.first_piece[block + 1]))

    def take(self, chosen: Ints) -> Blocks:
        """Some of the blocks, in order, with their pieces."""
        sizes = np.diff(self.first_piece)[chosen]
        first_piece = np.concatenate([[0], np.cumsum(sizes)])
        places = np.arange(first_piece[-1]) - np.repeat(first_piece[:-1], sizes)
        return Blocks(
            self.pieces.take(np.repeat(self.first_piece[chosen], sizes) + places),
            first_piece,
            *(
                values[chosen]
                for values in (self.shard, self.number, self.first_window, self.windows)
            ),
            *(values[chosen] for values in (self.concepts, self.first, self.last)),
        )


class EpochOrder:
    """The order of an epoch.

    Args:
        pieces: of the split, in the set's order.
        shards: number of virtual shards, when shuffled.
        buffer_size: concepts in the blocks of all shards together, about.
        draw: gives the epoch's random generators; None keeps the set's order.
    """

    def __init__(self, pieces: Pieces, *, shards: int, buffer_size: int, draw: Draw | None) -> None:
        self._draw = draw
        self.windows = int(pieces.windows.sum())
        kept = np.flatnonzero(pieces.windows)
        if draw is None:
            members = [kept]
        else:
            shard = dealt(pieces.windows[kept], shards)
            by_shard = kept[np.argsort(shard, kind="stable")]
            ends = np.cumsum(np.bincount(shard, minlength=shards))
            members = [
                own[draw(PIECES_OF_SHARD, number).permutation(len(own))]
                for number, own in enumerate(np.split(by_shard, ends[:-1]))
            ]
        self.rotation = Rotation(np.array([pieces.windows[own].sum() for own in members]))
        found = [
            _blocks(pieces.take(own), number, self.rotation, max(1, buffer_size // shards))
            for number, own in enumerate(members)
        ]
        joined = _joined(found)
        self.blocks = joined.take(np.argsort(joined.first, kind="stable"))

    def mine(self, rank: int, world_size: int, first_position: int = 0) -> Blocks:
        """The blocks that one process reads, from a position of the epoch on."""
        # Without shards to share out, in the set's order, blocks take turns.
        turn = np.arange(len(self.blocks)) if self._draw is None else self.blocks.shard
        wanted = (turn % world_size == rank) & (self.blocks.last >= first_position)
        return self.blocks.take(np.flatnonzero(wanted))

    def positions(self, blocks: Blocks, block: int) -> Ints:
        """Position in the epoch of each window of a block; the windows by their places."""
        number = np.arange(blocks.windows[block])
        if self._draw is not None:
            drawn = self._draw(
                WINDOWS_OF_BLOCK, int(blocks.shard[block]), int(blocks.number[block])
            )
            number = drawn.permutation(number)
        shard = int(blocks.shard[block])
        return self.rotation.position(shard, blocks.first_window[block] + number)


def dealt(windows: Ints, shards: int) -> Ints:
    """A shard for each piece, so that all have about as many windows.

    The largest go first, one to each shard, the next ones backwards, and so on, as teams are
    chosen; equals in the set's order.
    """
    order = np.argsort(-windows, kind="stable")
    turn = np.arange(len(windows)) % (2 * shards)
    shard = np.empty(len(windows), dtype=np.int64)
    shard[order] = np.where(turn < shards, turn, 2 * shards - 1 - turn)
    return shard


def most_at_once(first: Ints, last: Ints) -> int:
    """How many of the ranges `first` to `last`, ends included, hold a number, at most."""
    if not len(first):
        return 0
    starts, ends = np.sort(first), np.sort(last)
    begun = np.searchsorted(starts, starts, side="right")
    ended = np.searchsorted(ends, starts, side="left")
    return int((begun - ended).max())


def _blocks(pieces: Pieces, shard: int, rotation: Rotation, least: int) -> Blocks:
    """Consecutive pieces of a shard in blocks of at least so many concepts."""
    first_piece = grouped(pieces.concepts, least)
    count = len(first_piece) - 1
    windows_before = np.concatenate([[0], np.cumsum(pieces.windows)])[first_piece]
    concepts_before = np.concatenate([[0], np.cumsum(pieces.concepts)])[first_piece]
    first_window, windows = windows_before[:-1], np.diff(windows_before)
    return Blocks(
        pieces,
        first_piece,
        np.full(count, shard, dtype=np.int64),
        np.arange(count),
        first_window,
        windows,
        np.diff(concepts_before),
        rotation.position(shard, first_window),
        rotation.position(shard, first_window + windows - 1),
    )


def _joined(parts: list[Blocks]) -> Blocks:
    pieces = Pieces(
        np.concatenate([part.pieces.place for part in parts]),
        np.concatenate([part.pieces.concepts for part in parts]),
        np.concatenate([part.pieces.windows for part in parts]),
    )
    sizes = np.concatenate([np.diff(part.first_piece) for part in parts])
    return Blocks(
        pieces,
        np.concatenate([[0], np.cumsum(sizes)]),
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("shard", "number", "first_window", "windows", "concepts", "first", "last")
        ),
    )
