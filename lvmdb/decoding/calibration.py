"""How near a concept must be to be taken for what a vector says, found out on held-out windows.

Every encoder spreads its vectors in its own way: a cosine of 0.8 is next to certain of one, and
what unrelated sentences have of another. So for each encoder and corpus the threshold is measured.
For each cosine of a sweep it is counted how many vectors have a nearest concept as near (the hit
rate), and of how many of those it is the right one (the accuracy). The threshold is the one of the
best accuracy among those with a hit rate above 70 %.

Three kinds of vectors are asked for, side by side:

    predictions   of a run: what generation will ask for
    truths        what the run should have predicted: the gap between the two is the model's
    held-out      the truths again, with their own concept not to be found: a text that the corpus
                  does not hold; here a hit is right if it is of the same article

Concepts of the context are never found, and none that says the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, insert

from lvmdb.corpus.articles import Vectors
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.schema.decoding import decoding_calibration
from lvmdb.decoding.decoded import Decoded
from lvmdb.decoding.held_out import Windows, held_out
from lvmdb.decoding.nearest import NearestDecoder, same_text
from lvmdb.errors import UsageError
from lvmdb.progress import SILENT, Progress
from lvmdb.retrieval.searcher import Searcher
from lvmdb.sequences.sets import SequenceSet

HIT_RATE = 0.7
"""Of a threshold that may be chosen, the hit rate is above this."""

HIGHEST, LOWEST, STEP = 0.95, 0.75, 0.01
"""Of the sweep; it goes on below where the hit rate is not reached before."""

_TIMED = 200
"""Searches whose time is taken, one by one."""

_TOGETHER = 256
"""Vectors decoded at a time."""


@dataclass(frozen=True)
class Calibrated:
    """What one threshold is worth on one kind of vectors; see `decoding_calibration`."""

    calibrated_on: str
    threshold: float
    queries: int
    hits: int
    accuracy: float | None
    same_article: float | None
    latency_p50: float
    latency_p95: float
    chosen: bool = False

    @property
    def hit_rate(self) -> float:
        """Share of the queries that are hits."""
        return self.hits / self.queries


@dataclass(frozen=True)
class _Judged:
    """The nearest concepts of some vectors `(n,)`: how near, right, of the right article."""

    cosine: NDArray[np.float64]
    right: NDArray[np.bool_] | None
    same_article: NDArray[np.bool_]
    latency: tuple[float, float]


def calibrate(
    db: Database,
    searcher: Searcher,
    sequences: SequenceSet,
    split: str = "val",
    *,
    run_id: int | None = None,
    queries: int = 1_000,
    seed: int = 0,
    step: float = STEP,
    environment: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> list[Calibrated]:
    """Measure thresholds on held-out windows, choose one, and store all of it.

    The threshold is chosen by the predictions of the run; without one, by held-out texts.

    Args:
        db: the database.
        searcher: of the set's dataset, as it will be searched.
        sequences: whose windows.
        split: which of them; not those that a run was trained on.
        run_id: a run that was evaluated on that split.
        queries: how many windows to draw, at most.
        seed: of the draw.
        step: from one threshold to the next.
        environment: stored with the rows.
        progress: told of vectors decoded.

    Raises:
        UsageError: the step is not between 0 and the width of the sweep.
        SequenceError: the split has no windows.
        RunError: the run has no predictions of it.
    """
    if not 0 < step <= HIGHEST - LOWEST + 1e-9:
        raise UsageError(f"--step is above 0 and at most {HIGHEST - LOWEST:.2f}, not {step}")
    windows = held_out(db, sequences, split, run_id=run_id, queries=queries, seed=seed)
    asked: dict[str, Vectors] = {"truths": windows.truth, "held-out": windows.truth}
    if windows.predicted is not None:
        asked = {"predictions": windows.predicted, **asked}
    decisive = next(iter(asked)) if windows.predicted is not None else "held-out"
    rows: list[Calibrated] = []
    decoder = NearestDecoder(searcher, 1)
    with progress.task("calibrating", len(asked) * len(windows.target), "vectors") as advance:
        for kind, vectors in asked.items():
            left_out = [list(ids) for ids in windows.context]
            if kind == "held-out":
                left_out = [[*ids, own] for ids, own in zip(left_out, windows.target, strict=True)]
            found: list[Decoded] = []
            for start in range(0, len(vectors), _TOGETHER):
                part = slice(start, start + _TOGETHER)
                found += decoder.decode(vectors[part], without=left_out[part])
                advance(len(vectors[part]))
            latency = _latency(decoder, vectors[:_TIMED], left_out[:_TIMED])
            rows += sweep(kind, _judged(kind, found, windows, latency), step)
    rows = chosen(rows, decisive)
    _write(db, searcher, sequences, split, run_id, rows, environment or {})
    return rows


def stored_threshold(connection: Connection, dataset: str, encoder_id: int) -> float | None:
    """The least cosine at which the nearest concept is taken; None if nobody has calibrated it."""
    found: float | None = connection.execute(
        query("decoding", "threshold"), {"dataset": dataset, "encoder_id": encoder_id}
    ).scalar_one_or_none()
    return found


def sweep(kind: str, judged: _Judged, step: float = STEP) -> list[Calibrated]:
    """What each threshold is worth, from the highest down.

    Below `LOWEST` it goes on until the hit rate is above `HIT_RATE`: predictions may never come as
    near as the sweep.
    """
    rows: list[Calibrated] = []
    threshold = HIGHEST
    while threshold > 0 and (threshold > LOWEST - 1e-9 or (rows and rows[-1].hit_rate <= HIT_RATE)):
        hit = judged.cosine >= threshold
        hits = int(hit.sum())
        rows.append(
            Calibrated(
                kind,
                threshold,
                len(hit),
                hits,
                float(judged.right[hit].mean()) if hits and judged.right is not None else None,
                float(judged.same_article[hit].mean()) if hits else None,
                *judged.latency,
            )
        )
        threshold = round(threshold - step, 6)
    return rows


def chosen(rows: Sequence[Calibrated], kind: str) -> list[Calibrated]:
    """The rows, with the best one of a kind marked: the best accuracy with a hit rate above 70 %.

    Of equals the best by article, then the lowest threshold. None is marked where none has such a
    hit rate.
    """
    able = [row for row in rows if row.calibrated_on == kind and row.hit_rate > HIT_RATE]
    if not able:
        return list(rows)
    best = max(able, key=lambda row: (row.accuracy or 0.0, row.same_article or 0.0, -row.threshold))
    return [Calibrated(**{**asdict(row), "chosen": row is best}) for row in rows]


def _judged(
    kind: str, found: Sequence[Decoded], windows: Windows, latency: tuple[float, float]
) -> _Judged:
    hits = [each.hits[0] if each.hits else None for each in found]
    right = [
        hit is not None and same_text(hit.concept_text) == same_text(text)
        for hit, text in zip(hits, windows.text, strict=True)
    ]
    same = [
        hit is not None and hit.article_id == article_id
        for hit, article_id in zip(hits, windows.article_id, strict=True)
    ]
    return _Judged(
        # Nothing found is as far as can be.
        np.array([each.cosine if each.hits else -1.0 for each in found]),
        None if kind == "held-out" else np.array(right),
        np.array(same),
        latency,
    )


def _latency(
    decoder: NearestDecoder, vectors: Vectors, left_out: Sequence[Sequence[uuid.UUID]]
) -> tuple[float, float]:
    """Median and 95th percentile of the seconds that one vector takes."""
    taken = []
    for row in range(len(vectors)):
        began = perf_counter()
        decoder.decode(vectors[row : row + 1], without=[left_out[row]])
        taken.append(perf_counter() - began)
    p50, p95 = np.percentile(taken, [50, 95])
    return float(p50), float(p95)


def _write(
    db: Database,
    searcher: Searcher,
    sequences: SequenceSet,
    split: str,
    run_id: int | None,
    rows: Sequence[Calibrated],
    environment: Mapping[str, Any],
) -> None:
    session = uuid.uuid4()
    with db.begin() as connection:
        vectors = connection.execute(
            query("decoding", "count_vectors"), {"dataset": searcher.dataset}
        ).scalar_one()
        index = searcher.index.name if searcher.index is not None else None
        connection.execute(
            insert(decoding_calibration),
            [
                {
                    **asdict(row),
                    "session_id": session,
                    "dataset_source": searcher.dataset,
                    "encoder_id": sequences.encoder_id,
                    "vectors": vectors,
                    "sequence_set_id": sequences.sequence_set_id,
                    "split": split,
                    "run_id": run_id if row.calibrated_on == "predictions" else None,
                    "environment": {**environment, "index": index},
                }
                for row in rows
            ],
        )
