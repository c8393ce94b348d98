"""Batches from windows that arrive block by block."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lvmdb.db.types import DIMENSION
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.sequences.windows import Articles, Ints, Pieces, Windowing, windows_of


class Assembly:
    """Windows of the blocks that are held, by their position in the epoch, until they are due.

    Args:
        vectors: `(rows, width)`, where the windows' concepts are: 768 numbers each, or 784 with
            the TMD code, which targets leave out.
        articles: of the split.
        windowing: how windows lie.
        every: a target after each concept of a context; else one after the last.
        span: positions from the first of a batch to the last of any block that it needs, at most.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        articles: Articles,
        windowing: Windowing,
        *,
        every: bool,
        span: int,
    ) -> None:
        self._vectors, self._articles, self._windowing = vectors, articles, windowing
        self._every = every
        # A ring: position p is at p modulo its length. Row -1: not here, another process has it.
        self._row = np.full(span, -1, dtype=np.int64)
        self._length, self._article, self._target_seq = (
            np.zeros(span, dtype=np.int64) for _ in range(3)
        )

    def add(self, pieces: Pieces, first_rows: Ints, positions: Ints, first_position: int) -> None:
        """Take in the windows of a block.

        Args:
            pieces: of the block.
            first_rows: `(pieces,)`, row of each one's first concept.
            positions: `(windows,)`, of its windows in the order of their places.
            first_position: windows before it were given already.
        """
        windows = windows_of(pieces, self._windowing)
        piece = np.repeat(np.arange(len(pieces)), pieces.windows)
        article, target_seq = self._articles.locate(windows.place + windows.length)
        due = positions >= first_position
        at = positions[due] % len(self._row)
        self._row[at] = (first_rows[piece] + windows.place - pieces.place[piece])[due]
        self._length[at] = windows.length[due]
        self._article[at] = self._articles.article_id[article][due]
        self._target_seq[at] = target_seq[due]

    def batch(self, first: int, end: int, *, pin_memory: bool) -> SequenceBatch:
        """The batch of the positions from `first` to before `end`: those that are here."""
        at = np.arange(first, end) % len(self._row)
        at = at[self._row[at] >= 0]
        row, length = self._row[at], self._length[at]
        self._row[at] = -1
        longest = self._windowing.longest
        if self._every:
            longest = int(length.max(initial=1))
        # Padding is on the left; what stands there is blanked.
        offset = np.arange(longest) - (longest - length)[:, None]  # (batch, time)
        present = offset >= 0
        rows = row[:, None] + np.maximum(offset, 0)
        padding = ~present if not present.all() else None
        context = self._gathered(rows, padding, pin_memory)
        if self._every:
            target = self._gathered(rows + 1, padding, pin_memory)
        else:
            target = self._gathered(row + length, None, pin_memory)
        if self._vectors.shape[1] != DIMENSION:
            target = target[..., :DIMENSION].contiguous()
        batch = SequenceBatch(
            context=context,
            mask=torch.from_numpy(present),
            target=target,
            article_id=torch.from_numpy(self._article[at]),
            target_seq=torch.from_numpy(self._target_seq[at]),
        )
        return batch.pin_memory() if pin_memory else batch

    def _gathered(self, rows: Ints, padding: NDArray[np.bool_] | None, pin: bool) -> torch.Tensor:
        """Vectors `(*rows.shape, width)` copied once, to where a GPU can fetch them if pinned."""
        shape = *rows.shape, self._vectors.shape[1]
        gathered = torch.empty(shape, dtype=torch.float32, pin_memory=pin)
        out = gathered.numpy()
        # The default mode would copy twice.
        np.take(self._vectors, rows, axis=0, out=out, mode="clip")
        if padding is not None:
            out[padding] = 0.0
        return gathered
