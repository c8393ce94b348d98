"""Slots: never more in use than there are, and nobody waits for ever."""

from __future__ import annotations

import random
import threading
from functools import partial

import numpy as np
import pytest

from lvmdb.sequences.arena import Arena, StoppedError


@pytest.mark.parametrize("slots", [1, 2, 5])
@pytest.mark.parametrize("readers", [1, 3])
def test_blocks_are_filled_ahead_and_used_in_order(slots: int, readers: int) -> None:
    arena = Arena(slots, 2)
    blocks = 60
    filled: dict[int, int] = {}
    told = threading.Condition()

    def read(first: int) -> None:
        for block in range(first, blocks, readers):
            row = arena.take(block)
            arena.vectors[row : row + 2] = block
            with told:
                filled[block] = row
                told.notify_all()

    threads = [threading.Thread(target=read, args=(first,)) for first in range(readers)]
    for thread in threads:
        thread.start()
    in_use: list[int] = []
    chance = random.Random(0)
    for block in range(blocks):
        with told:
            assert told.wait_for(partial(filled.__contains__, block), timeout=30)
            assert len(filled) - block + len(in_use) <= slots
        row = filled[block]
        assert (arena.vectors[row : row + 2] == block).all()
        in_use.append(row)
        # Blocks are given back in any order, and always before all slots are in use.
        while in_use and (len(in_use) == slots or chance.random() < 0.5):
            arena.release(in_use.pop(chance.randrange(len(in_use))))
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_a_block_far_ahead_leaves_the_slots_to_those_before_it() -> None:
    arena = Arena(2, 1)
    late = threading.Thread(target=lambda: arena.take(2))
    late.start()
    rows = [arena.take(1), arena.take(0)]
    assert sorted(rows) == [0, 1]
    late.join(0.05)
    assert late.is_alive()
    arena.release(rows[1])
    late.join(30)
    assert not late.is_alive()


def test_the_end_wakes_who_waits() -> None:
    arena = Arena(1, 1)
    arena.take(0)
    seen: list[type[BaseException]] = []

    def wait() -> None:
        try:
            arena.take(1)
        except StoppedError as error:
            seen.append(type(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    arena.stop()
    waiting.join(30)
    assert seen == [StoppedError]
    assert arena.vectors.dtype == np.float32
