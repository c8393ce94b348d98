"""`lvmdb index ranks`: where the truths of a run's predictions rank, exactly and by an index.

Exactly means as evaluation counts it, on the vectors that the database has now: one product of
matrices, ties and duplicates and the context treated alike. Beside it stands what somebody sees who
asks the index for the nearest of each prediction.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvmdb.db import runs
from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database, raw
from lvmdb.db.queries import psycopg_sql
from lvmdb.db.types import DIMENSION
from lvmdb.errors import RunError
from lvmdb.evaluation.pool import ContextRows, Pool, load_pool
from lvmdb.metrics.ranking import (
    TOLERANCE,
    Ranks,
    duplicate_groups,
    rank_in_pool,
    recall_at,
    reciprocal_rank_at,
)
from lvmdb.metrics.vectors import normalise
from lvmdb.retrieval.found import MOST
from lvmdb.retrieval.searcher import Searcher
from lvmdb.sequences import sets

KS = (1, 5, 10)
DEPTH = 100
"""How many nearest the index is asked for, the context not counted."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class RankedRun:
    """The ranks of a run's truths.

    Attributes:
        exact: by every candidate.
        index: among what the index found; None where there is no index.
        found: `(n,)` whether the truth was among that.
        stored: whether the exact ranks are those stored with the predictions.
        seconds: by what was timed: reading predictions, reading the pool, exact ranks, the index.
        index_name: of the index.
    """

    exact: Ranks
    index: Ranks | None
    found: NDArray[np.bool_] | None
    stored: bool
    seconds: dict[str, float]
    index_name: str | None

    def rows(self) -> list[dict[str, Any]]:
        """Recall and reciprocal rank of the truths, by each way."""
        ways: list[tuple[str, Ranks, NDArray[np.bool_] | None]] = [("exact", self.exact, None)]
        if self.index is not None:
            ways.append((self.index_name or "index", self.index, self.found))
        rows = []
        for way, ranks, found in ways:
            counts = np.ones(len(ranks)) if found is None else found.astype(np.float64)
            row: dict[str, Any] = {"by": way, "predictions": len(ranks)}
            for k in KS:
                row[f"recall@{k}"] = round(float((recall_at(ranks, k) * counts).mean()), 4)
            row["mrr@10"] = round(float((reciprocal_rank_at(ranks, 10) * counts).mean()), 4)
            row["not_found"] = 0 if found is None else int(np.count_nonzero(~found))
            same = (ranks.greater == self.exact.greater) & (counts > 0)
            row["same_rank"] = round(float(same.mean()), 4)
            row["seconds"] = round(self.seconds["exact" if found is None else "index"], 3)
            rows.append(row)
        return rows


def rank_run(
    db: Database, run_id: int, split: str, *, index: bool = True, depth: int = DEPTH
) -> RankedRun:
    """Rank the truths of all predictions of a split.

    Args:
        db: the database.
        run_id: whose predictions.
        split: which.
        index: whether to ask the dataset's index as well.
        depth: how many nearest to ask it for.

    Raises:
        UnknownNameError: there is no such run.
        RunError: it has no predictions of that split.
        CorpusError: the dataset has no index; or a concept is no longer there.
    """
    run = runs.get(db, run_id)
    with db.connect() as connection:
        sequences = sets.get_by_id(connection, run.sequence_set_id)
    searcher = Searcher(db, sequences.dataset_source) if index else None
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def took(what: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[what] = now - clock
        clock = now

    rows = _predictions(db, run_id, split)
    if not rows:
        raise RunError(
            f"run {run_id} has no predictions of the {split} split: run 'lvmdb evaluate --run-id "
            f"{run_id} --split {split}'"
        )
    predicted = parsed_vectors([row[2] for row in rows], DIMENSION)
    took("predictions")
    pool = load_pool(db, sequences.dataset_source)
    took("pool")
    articles = np.array([row[0] for row in rows], dtype=np.int64)
    truth = pool.rows(articles, np.array([row[1] for row in rows], dtype=np.int64))
    with db.connect() as connection:
        context = ContextRows(connection, sequences, pool).of(truth)
    groups = duplicate_groups(pool.vectors)
    exact = rank_in_pool(predicted, pool.vectors, truth, context, duplicate_group=groups)
    took("ranks")
    seconds["exact"] = sum(seconds.values())
    stored = np.array([row[3:6] for row in rows], dtype=np.int64)
    same = bool(np.array_equal(stored, _counts(exact)))
    if searcher is None:
        return RankedRun(exact, None, None, same, seconds, None)
    with searcher:
        clock = time.perf_counter()
        ranks, found = _through(searcher, pool, predicted, truth, context, groups, depth)
        took("index")
        assert searcher.index is not None
        return RankedRun(exact, ranks, found, same, seconds, searcher.index.name)


def _counts(ranks: Ranks) -> Ints:
    return np.stack([ranks.greater, ranks.ties, ranks.candidates], axis=1)


def _predictions(db: Database, run_id: int, split: str) -> list[tuple[Any, ...]]:
    with db.connect() as connection, raw(connection).cursor(binary=True) as cursor:
        return cursor.execute(
            psycopg_sql("evaluation", "predictions"), {"run_id": run_id, "split": split}
        ).fetchall()


def _through(
    searcher: Searcher,
    pool: Pool,
    predicted: NDArray[np.float32],
    truth: Ints,
    context: Ints,
    groups: Ints,
    depth: int,
) -> tuple[Ranks, NDArray[np.bool_]]:
    """Ranks among what the index finds of each prediction, and whether the truth is there.

    What the index finds is scored as evaluation scores it, so that only what it misses differs.
    """
    greater, ties = np.zeros(len(truth), np.int64), np.zeros(len(truth), np.int64)
    there = np.zeros(len(truth), np.bool_)
    queries = normalise(predicted).astype(np.float32)
    # A prediction of zero has no direction, and finds nothing.
    asked = np.flatnonzero(np.linalg.norm(queries, axis=1) > 0)
    wanted = min(MOST, depth + context.shape[1])
    found = searcher.batch(queries[asked], wanted)
    counts = found.counts
    row_of = {cpe_id: row for row, cpe_id in enumerate(pool.cpe_id)}
    for number, n in enumerate(asked.tolist()):
        ids = [each.tobytes() for each in found.cpe_id[number, : counts[number]]]
        # What was written since the pool was read is no candidate.
        rows = np.array([row_of[each] for each in ids if each in row_of], dtype=np.int64)
        there[n] = bool((rows == truth[n]).any())
        rivals = rows[(groups[rows] != groups[truth[n]]) & ~np.isin(rows, context[n])]
        scores = pool.vectors[rivals] @ queries[n]
        own = float(pool.vectors[truth[n]] @ queries[n])
        greater[n] = np.count_nonzero(scores > own + TOLERANCE)
        ties[n] = np.count_nonzero(np.abs(scores - own) <= TOLERANCE)
    return Ranks(greater, ties, np.full(len(truth), wanted), np.zeros(len(truth))), there
