"""A split's windows: whether there are any, what a run predicts for each, which its truth is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvmdb.db.engine import Database
from lvmdb.db.runs import Run
from lvmdb.errors import SequenceError
from lvmdb.evaluation.pool import SAME_VECTOR, Pool
from lvmdb.evaluation.predictor import Predictor
from lvmdb.metrics.vectors import cosine
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences import sets
from lvmdb.sequences.reader import changed
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.stream import SequenceStream, StreamOptions

BATCH = 256


def sequences_of(db: Database, run: Run, split: str) -> SequenceSet:
    """The sequence set of a run.

    Raises:
        SequenceError: the split has no windows.
    """
    with db.connect() as connection:
        sequences = sets.get_by_id(connection, run.sequence_set_id)
    if not sequences.window_count(split):
        raise SequenceError(f"sequence set '{sequences.name}' has no {split} windows")
    return sequences


def predicted_windows(
    db: Database,
    run: Run,
    sequences: SequenceSet,
    split: str,
    predictor: Predictor,
    progress: Progress = SILENT,
) -> dict[str, NDArray[Any]]:
    """Arrays by name: `prediction` and `target` `(n, 768)`, `article_id` and `target_seq` `(n,)`.

    Args:
        db: the database.
        run: whose predictor it is.
        sequences, split: whose windows.
        predictor: from batches to vectors.
        progress: told of windows predicted.
    """
    options = StreamOptions(batch_size=BATCH, tmd=predictor.tmd)
    stream = SequenceStream(db, sequences, split, options)
    parts: list[tuple[NDArray[Any], ...]] = []
    with progress.task(f"run {run.run_id} predicts", stream.windows, "windows") as advance:
        for batch in stream:
            predicted = predictor.predict(batch).numpy()
            arrays = (batch.target, batch.article_id, batch.target_seq)
            parts.append((predicted, *(array.numpy() for array in arrays)))
            advance(len(batch))
    names = ("prediction", "target", "article_id", "target_seq")
    return {
        name: np.concatenate(arrays)
        for name, arrays in zip(names, zip(*parts, strict=True), strict=True)
    }


def truth_rows(pool: Pool, windows: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """The rows `(n,)` of a pool that are the truths of windows.

    Args:
        pool: of the set's dataset.
        windows: as `predicted_windows` gives them.

    Raises:
        CorpusError: a truth is no longer in the dataset.
        SequenceError: the data changed.
    """
    rows = pool.rows(windows["article_id"], windows["target_seq"])
    # Order, text and vector of one row: what was predicted is what it is held against.
    if np.any(cosine(windows["target"], pool.vectors[rows]) < SAME_VECTOR):
        raise changed()
    return rows
