"""The physical comparison of `lvmdb bench stream`: the same vectors in an array or an NPY file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from lvmdb.db.types import DIMENSION
from lvmdb.errors import InputError
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.sequences.peers import Blocks, Split
from lvmdb.sequences.windows import Articles, Ints, Windowing, split_pieces, windows_of

Floats = NDArray[np.float32]

BLOCK = 1_000
"""Vectors that are copied at a time."""


@contextmanager
def npy_file(read: Callable[[], Blocks], rows: int) -> Iterator[Path]:
    """A temporary NPY file `(rows, 768)` of what `read` gives; gone at the end.

    Raises:
        InputError: it cannot be written.
    """
    with TemporaryDirectory(prefix="lvmdb-bench-") as folder:
        path = Path(folder) / "vectors.npy"
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, DIMENSION)}
        try:
            with path.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for block in read():
                    file.write(np.ascontiguousarray(block, dtype="<f4").data)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from error
        yield path


def copied(vectors: Floats) -> Blocks:
    """All vectors, copied block by block into one buffer."""
    buffer = np.empty((BLOCK, DIMENSION), dtype=np.float32)
    for first in range(0, len(vectors), BLOCK):
        part = vectors[first : first + BLOCK]
        block = buffer[: len(part)]
        block[:] = part
        yield block


def window_places(split: Split) -> tuple[Ints, Ints, Ints]:
    """Of each window: the row of its context's first concept, its target's article and seq."""
    articles = Articles(*split.articles.T)
    windowing = Windowing.last(split.sequences.context_len, split.sequences.stride)
    windows = windows_of(split_pieces(split.sequences, split.name, articles, windowing), windowing)
    number, target_seq = articles.locate(windows.place + windows.length)
    return windows.place, articles.article_id[number], target_seq


def batches(
    vectors: Floats, split: Split, batch_size: int, generator: np.random.Generator
) -> Iterable[SequenceBatch]:
    """All windows in a drawn order, gathered batch by batch: what the stream gives from SQL."""
    context_len = split.sequences.context_len
    start, article_id, target_seq = window_places(split)
    order = generator.permutation(len(start))
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        rows = start[chosen, None] + np.arange(context_len)
        yield SequenceBatch(
            context=torch.from_numpy(vectors[rows]),
            mask=torch.ones(rows.shape, dtype=torch.bool),
            target=torch.from_numpy(vectors[start[chosen] + context_len]),
            article_id=torch.from_numpy(article_id[chosen]),
            target_seq=torch.from_numpy(target_seq[chosen]),
        )
