"""What a run predicts for every window of a split, in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvmdb.db.engine import Database
from lvmdb.db.runs import Run
from lvmdb.evaluation.predictor import Predictor
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.stream import SequenceStream, StreamOptions

BATCH = 256


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
