"""Windows that no run was trained on, with what a run predicted for them, as they are decoded."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.types import DIMENSION
from lvmdb.errors import RunError, SequenceError
from lvmdb.sequences.sets import SequenceSet


@dataclass(frozen=True)
class Windows:
    """Held-out windows.

    Attributes:
        target: ids of the truths.
        context: ids of what was read before each.
        article_id: of each truth.
        text: of each truth.
        truth: `(n, 768)`.
        predicted: `(n, 768)`; None without a run.
    """

    target: Sequence[uuid.UUID]
    context: Sequence[Sequence[uuid.UUID]]
    article_id: Sequence[int]
    text: Sequence[str]
    truth: Vectors
    predicted: Vectors | None


def held_out(
    db: Database,
    sequences: SequenceSet,
    split: str,
    *,
    run_id: int | None = None,
    queries: int = 1_000,
    seed: int = 0,
) -> Windows:
    """Windows of a split, drawn the same at each call.

    Raises:
        SequenceError: the split has none.
        RunError: the run has not predicted them.
    """
    given = {
        "sequence_set_id": sequences.sequence_set_id,
        "split": split,
        "run_id": run_id,
        "most": queries,
        "seed": seed,
    }
    with db.connect() as connection:
        rows = connection.execute(query("decoding", "held_out_windows"), given).all()
    if not rows:
        raise SequenceError(f"sequence set '{sequences.name}' has no {split} windows")
    predicted = None
    if run_id is not None:
        rows = [row for row in rows if row.predicted is not None]
        if not rows:
            raise RunError(
                f"run {run_id} has no predictions of {split} windows of '{sequences.name}': "
                f"'lvmdb evaluate --run-id {run_id} --split {split}' comes first"
            )
        predicted = parsed_vectors([row.predicted for row in rows], DIMENSION)
        # A prediction of nothing has no direction, and is nobody's neighbour.
        able = np.linalg.norm(predicted, axis=1) > 0
        rows = [row for row, can in zip(rows, able, strict=True) if can]
        predicted = predicted[able]
    return Windows(
        target=[row.target_cpe_id for row in rows],
        context=[row.context_cpe_ids for row in rows],
        article_id=[row.article_id for row in rows],
        text=[row.concept_text for row in rows],
        truth=parsed_vectors([row.truth for row in rows], DIMENSION),
        predicted=predicted,
    )
