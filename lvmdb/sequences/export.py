"""Sequence sets and concepts as NPZ files, for use elsewhere.

Arrays are written block by block into the archive, so that memory does not grow with the corpus;
a file appears under its name only when it is whole.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database, raw
from lvmdb.db.queries import psycopg_sql
from lvmdb.db.types import DIMENSION, SPLITS
from lvmdb.errors import InputError
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.stream import SequenceStream, StreamOptions

Array = NDArray[Any]
BATCH = 1024


def export_sequences(
    db: Database, sequences: SequenceSet, path: Path, *, progress: Progress = SILENT
) -> dict[str, int]:
    """Write contexts, targets and masks of each split, in corpus order.

    Keys are `train_contexts` `(windows, context, 768)` float32, `train_targets`
    `(windows, 768)` float32, `train_masks` `(windows, context)` int64, and likewise for `val` and
    `test`.

    Returns:
        The number of windows by split.

    Raises:
        InputError: the file cannot be written.
    """
    length = sequences.context_len
    parts: list[tuple[str, tuple[int, ...], str, Callable[[SequenceBatch], Array]]] = [
        ("contexts", (length, DIMENSION), "<f4", lambda b: b.context.numpy()),
        ("targets", (DIMENSION,), "<f4", lambda b: b.target.numpy()),
        ("masks", (length,), "<i8", lambda b: b.mask.numpy().astype("<i8")),
    ]
    counts = {split: sequences.window_count(split) for split in SPLITS}
    with (
        _archive(path) as archive,
        progress.task("exporting", len(parts) * sum(counts.values()), "windows") as advance,
    ):
        for split, windows in counts.items():
            stream = SequenceStream(db, sequences, split, StreamOptions(batch_size=BATCH))
            for key, shape, kind, take in parts:
                with _member(archive, f"{split}_{key}", (windows, *shape), kind) as write:
                    for batch in stream if windows else ():
                        write(take(batch))
                        advance(len(batch))
    return counts


def export_concepts(db: Database, dataset: str, path: Path) -> int:
    """Write `cpe_ids`, `concept_texts`, `vectors` and `tmd_codes` of a dataset, in corpus order.

    A missing code is the empty string; a dataset without vectors cannot be exported.

    Returns:
        The number of concepts.

    Raises:
        InputError: a concept has no vector, or the file cannot be written.
    """
    ids: list[str] = []
    texts: list[str] = []
    codes: list[str] = []
    blocks: list[Array] = []
    with db.connect() as connection, raw(connection).cursor("export", binary=True) as cursor:
        cursor.execute(psycopg_sql("corpus", "concepts_in_order"), {"dataset": dataset})
        while rows := cursor.fetchmany(BATCH):
            if any(row[2] is None for row in rows):
                raise InputError(
                    f"dataset '{dataset}' has concepts without a vector: ingest it with --encoder"
                )
            ids += [str(row[0]) for row in rows]
            texts += [row[1] for row in rows]
            codes += [row[3] or "" for row in rows]
            blocks.append(parsed_vectors([row[2] for row in rows], DIMENSION))
    if not ids:
        raise InputError(f"dataset '{dataset}' has no concepts to export")
    arrays: dict[str, Array] = {
        "cpe_ids": np.array(ids),
        "concept_texts": np.array(texts),
        "vectors": np.concatenate(blocks),
        "tmd_codes": np.array(codes),
    }
    with _archive(path) as archive:
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return len(ids)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as out, zipfile.ZipFile(out, "w") as archive:
            yield archive
        # mkstemp's files are closed to others; an export is an ordinary file.
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def _member(
    archive: zipfile.ZipFile, key: str, shape: tuple[int, ...], kind: str
) -> Iterator[Callable[[Array], None]]:
    """One array of an archive, written in blocks along its first axis."""
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)

        def write(block: Array) -> None:
            member.write(np.ascontiguousarray(block).tobytes())

        yield write
