"""The memory of a stream: slots for blocks of vectors, filled by readers and used again."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from lvmdb.db.types import DIMENSION


class StoppedError(Exception):
    """The stream has ended while a reader waited for a slot."""


class Arena:
    """A fixed number of slots of a fixed size, in one array.

    A reader may fill block `n` as soon as fewer than all slots could be held by the blocks before
    it. With at least as many slots as blocks are in use at a time, the block that is needed next
    always finds one, however far ahead other readers are: nobody waits for ever.

    Args:
        slots: number of blocks that are held at a time.
        rows: vectors of the largest block.
        width: numbers of a vector.

    Attributes:
        vectors: `(slots * rows, width)`.
    """

    def __init__(self, slots: int, rows: int, width: int = DIMENSION) -> None:
        self.vectors: NDArray[np.float32] = np.empty((slots * rows, width), dtype=np.float32)
        self._rows = rows
        self._slots = slots
        self._free = [slot * rows for slot in range(slots)]
        self._released = 0
        self._stopped = False
        self._changed = threading.Condition()

    def take(self, block: int) -> int:
        """The first row of a free slot, for the block with this number in the order of need.

        Raises:
            StoppedError: the stream ended.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or block < self._released + self._slots)
            if self._stopped:
                raise StoppedError
            return self._free.pop()

    def release(self, row: int) -> None:
        """Give the slot back whose first row this is."""
        with self._changed:
            self._free.append(row)
            self._released += 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
