"""One order for any world: whatever the corpus, every window once, wherever one begins."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmdb.sequences.order import EpochOrder, Rotation, dealt, generator_for
from lvmdb.sequences.windows import Articles, Pieces, Windowing, article_pieces, windows_of

LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=30)
SHARDS = st.sampled_from([1, 2, 4, 8, 16])
KEY = bytes(range(32))


def draw(*numbers: int) -> np.random.Generator:
    return generator_for(KEY, *numbers)


def pieces_of(lengths: list[int], windowing: Windowing) -> Pieces:
    counts = np.array(lengths, dtype=np.int64)
    return article_pieces(Articles(np.arange(len(counts)), counts), windowing)


def epoch(
    order: EpochOrder, windowing: Windowing, rank: int, world: int, first: int = 0
) -> dict[int, int]:
    """Position in the epoch -> place of the window that one process reads for it."""
    found: dict[int, int] = {}
    blocks = order.mine(rank, world, first)
    for number in range(len(blocks)):
        positions = order.positions(blocks, number)
        places = windows_of(blocks.pieces_of(number), windowing).place
        assert positions.min() == blocks.first[number]
        assert positions.max() == blocks.last[number]
        for position, place in zip(positions.tolist(), places.tolist(), strict=True):
            if position >= first:
                assert position not in found
                found[position] = place
    return found


@given(
    LENGTHS, SHARDS, st.integers(1, 60), st.booleans(), st.sampled_from([(3, 1), (1, 2)]), st.data()
)
def test_any_world_from_any_place_reads_the_same_order(
    lengths: list[int],
    shards: int,
    buffer_size: int,
    shuffle: bool,
    window: tuple[int, int],
    data: st.DataObject,
) -> None:
    windowing = Windowing.last(*window)
    pieces = pieces_of(lengths, windowing)
    order = EpochOrder(
        pieces, shards=shards, buffer_size=buffer_size, draw=draw if shuffle else None
    )
    whole = epoch(order, windowing, 0, 1)
    # Every window once: as many positions as windows, no place twice.
    assert sorted(whole) == list(range(order.windows))
    assert sorted(whole.values()) == windows_of(pieces, windowing).place.tolist()
    if not shuffle:
        assert [whole[position] for position in sorted(whole)] == sorted(whole.values())
    first = data.draw(st.integers(0, order.windows))
    for world in (1, 2, 3, 4):
        parts = [epoch(order, windowing, rank, world, first) for rank in range(world)]
        together = {position: place for part in parts for position, place in part.items()}
        assert sum(map(len, parts)) == len(together)
        assert together == {p: place for p, place in whole.items() if p >= first}


@given(LENGTHS, SHARDS, st.integers(1, 60))
def test_blocks_come_in_the_order_in_which_they_are_needed(
    lengths: list[int], shards: int, buffer_size: int
) -> None:
    pieces = pieces_of(lengths, Windowing.last(2, 1))
    blocks = EpochOrder(pieces, shards=shards, buffer_size=buffer_size, draw=draw).mine(0, 1)
    assert (np.diff(blocks.first) > 0).all()
    # But for the last one of each shard, a block holds a shard's part of the buffer.
    least = max(1, buffer_size // shards)
    for shard in range(shards):
        held = blocks.concepts[blocks.shard == shard]
        assert (held[:-1] >= least).all()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_the_rotation_takes_one_of_each_shard_that_has_one_left(windows: list[int]) -> None:
    expected = [
        (shard, number)
        for number in range(max(windows))
        for shard in range(len(windows))
        if number < windows[shard]
    ]
    rotation = Rotation(np.array(windows, dtype=np.int64))
    for position, (shard, number) in enumerate(expected):
        assert rotation.position(shard, np.array([number])).tolist() == [position]


@settings(max_examples=50)
@given(st.lists(st.integers(1, 256), min_size=1, max_size=200), SHARDS)
def test_shards_are_dealt_about_as_many_windows(windows: list[int], shards: int) -> None:
    counts = np.array(windows, dtype=np.int64)
    shard = dealt(counts, shards)
    assert shard.min() >= 0
    assert shard.max() < shards
    sums = np.bincount(shard, weights=counts, minlength=shards)
    assert sums.max() - sums.min() <= max(windows)


def test_the_order_is_another_one_for_each_epoch() -> None:
    pieces = pieces_of([9, 12, 30, 4, 8, 8, 21], Windowing.last(2, 1))

    def read(number: int) -> dict[int, int]:
        order = EpochOrder(
            pieces, shards=4, buffer_size=40, draw=lambda *p: generator_for(KEY, number, *p)
        )
        return epoch(order, Windowing.last(2, 1), 0, 1)

    assert read(0) == read(0)
    assert read(0) != read(1)


@settings(max_examples=30)
@given(st.binary(min_size=32, max_size=32), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4))
def test_a_generator_depends_on_data_and_numbers_alone(key: bytes, numbers: list[int]) -> None:
    def drawn(key: bytes, *numbers: int) -> list[int]:
        found: list[int] = generator_for(key, *numbers).integers(0, 2**62, 4).tolist()
        return found

    assert drawn(key, *numbers) == drawn(key, *numbers)
    assert drawn(key, *numbers, 1) != drawn(key, *numbers, 2)
    assert drawn(bytes([key[0] ^ 1]) + key[1:], *numbers) != drawn(key, *numbers)


def test_neighbours_in_the_epoch_come_from_all_shards() -> None:
    """A batch is a mixture of the corpus, not of one article."""
    windowing = Windowing.last(2, 1)
    pieces = pieces_of([30] * 64, windowing)
    order = EpochOrder(pieces, shards=16, buffer_size=960, draw=draw)
    whole = epoch(order, windowing, 0, 1)
    for first in range(0, order.windows - 64, 64):
        articles = {whole[position] // 30 for position in range(first, first + 64)}
        assert len(articles) >= 16


def test_a_shard_without_a_piece_is_no_error() -> None:
    pieces = pieces_of([5], Windowing.last(2, 1))
    order = EpochOrder(pieces, shards=8, buffer_size=10, draw=draw)
    assert sorted(epoch(order, Windowing.last(2, 1), 0, 1)) == [0, 1, 2]
    assert sum(len(order.mine(rank, 4)) for rank in range(4)) == 1


def test_no_window_at_all_is_no_error() -> None:
    pieces = pieces_of([2, 1], Windowing.last(2, 1))
    for chosen in (draw, None):
        assert len(EpochOrder(pieces, shards=2, buffer_size=10, draw=chosen).mine(0, 1)) == 0
