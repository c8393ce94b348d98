"""Decoded texts beside their truths: what text measures look at, of the windows of a split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from lvmdb.corpus.articles import Vectors
from lvmdb.db.engine import Database, raw
from lvmdb.db.queries import psycopg_sql
from lvmdb.db.runs import Run
from lvmdb.decoding.decoded import Decoded
from lvmdb.decoding.smoothing import Smoothed
from lvmdb.evaluation.pool import ContextRows, Pool
from lvmdb.evaluation.predictor import load_predictor
from lvmdb.evaluation.windows import predicted_windows, truth_rows
from lvmdb.metrics import chance
from lvmdb.metrics.text_queries import NONE, Smoothing, TextQueries
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training.environment import resolve_device

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """The windows that are decoded: rows of the pool, `(n, ...)` each."""

    prediction: Vectors
    truth: Ints
    context: Ints
    without: list[list[UUID]]


def load_windows(
    db: Database,
    run: Run,
    sequences: SequenceSet,
    pool: Pool,
    split: str,
    *,
    most: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = SILENT,
) -> tuple[Windows, bytes]:
    """What a run predicts for windows of a split, and the hash of the weights that predicted.

    Args:
        db: the database.
        run: which has succeeded.
        sequences, split: whose windows.
        pool: of the set's dataset.
        most: windows at most, drawn at random; None takes all.
        seed: of the draw: the same for every run.
        device: where models predict.
        progress: told of windows predicted.

    Raises:
        SequenceError: the data changed.
    """
    predictor = load_predictor(db, run, sequences, resolve_device(device), pool=pool)
    found = predicted_windows(db, run, sequences, split, predictor, progress)
    truth = truth_rows(pool, found)
    rows = np.arange(len(truth)) if most is None else drawn(len(truth), most, seed)
    truth = truth[rows]
    with db.connect() as connection:
        context = ContextRows(connection, sequences, pool).of(truth)
    without = [[UUID(bytes=pool.cpe_id[row]) for row in each] for each in context]
    windows = Windows(found["prediction"][rows], truth, context, without)
    return windows, predictor.checkpoint_sha256


def drawn(count: int, most: int, seed: int) -> Ints:
    """Places of so many of `count`, in order; the same for every run."""
    chosen: Ints = np.sort(np.random.default_rng(seed).permutation(count)[:most])
    return chosen


class Texts:
    """The words of a split: of truths, of contexts and of guesses, and what is decoded as queries.

    Args:
        db: the database.
        pool: of the dataset.
        windows: those that are decoded.
        seed: of the guesses.
    """

    def __init__(self, db: Database, pool: Pool, windows: Windows, seed: int) -> None:
        self._pool, self._windows = pool, windows
        first = np.sort(pool.first)
        self._article: Ints = np.searchsorted(first, np.arange(len(pool)), side="right") - 1
        self._ids = pool.article_id[np.argsort(pool.first)]
        self._row = {cpe_id: row for row, cpe_id in enumerate(pool.cpe_id)}
        count = len(windows.truth)
        self._guess = np.random.default_rng(seed).integers(len(pool), size=count)
        self._texts = _texts_of(
            db, pool, np.concatenate([windows.truth, windows.context.ravel(), self._guess])
        )

    def article_ids(self, rows: Ints) -> Ints:
        """The articles of concepts."""
        found: Ints = self._ids[self._article[rows]]
        return found

    def of(self, rows: Ints) -> list[str]:
        """The texts of truths, contexts or guesses."""
        return [self._texts[int(row)] for row in rows]

    def context(self, window: int) -> list[str]:
        """The texts that a window's model read."""
        return self.of(self._windows.context[window])

    def queries(self, decoded: Sequence[Decoded]) -> TextQueries:
        """Decoded texts beside their truths."""
        pool, windows = self._pool, self._windows
        found = np.array([self._found(each) for each in decoded], dtype=np.int64)
        vectors = np.zeros((len(decoded), pool.vectors.shape[1]), dtype=np.float32)
        for row, each in enumerate(decoded):
            if each.vector is not None:
                vectors[row] = each.vector / max(float(np.linalg.norm(each.vector)), 1e-12)
            elif found[row] != NONE:
                vectors[row] = pool.vectors[found[row]]
        own = self._article[windows.truth]
        inside = (self._article[windows.context] == own[:, None]).sum(axis=1)
        return TextQueries(
            texts=[each.text for each in decoded],
            truths=self.of(windows.truth),
            vectors=vectors,
            target=pool.vectors[windows.truth],
            found=found,
            known=np.array([float(each.method == "nearest") for each in decoded]),
            truth=windows.truth,
            article=self._article,
            candidates=np.full(len(decoded), len(pool) - windows.context.shape[1]),
            article_candidates=np.bincount(self._article)[own] - inside,
            guess_texts=self.of(self._guess),
            guesses=chance.sample(pool.vectors),
            pool_mean=chance.pool_mean(pool.vectors),
        )

    def rewritten(
        self,
        plain: TextQueries,
        rows: Ints,
        said: Sequence[Smoothed],
        encode: Callable[[Sequence[str]], Vectors],
    ) -> TextQueries:
        """Rewritten texts beside their truths and what they were."""
        new = np.array([each.smoothed for each in said])
        vectors = plain.vectors[rows].copy()
        if new.any():
            vectors[new] = encode([each.text for each in said if each.smoothed])
        return TextQueries(
            texts=[each.text for each in said],
            truths=[plain.truths[row] for row in rows],
            vectors=vectors,
            target=plain.target[rows],
            found=np.full(len(rows), NONE),
            known=np.zeros(len(rows)),
            truth=plain.truth[rows],
            article=plain.article,
            candidates=plain.candidates[rows],
            article_candidates=plain.article_candidates[rows],
            guess_texts=[plain.guess_texts[row] for row in rows],
            guesses=plain.guesses,
            pool_mean=plain.pool_mean,
            smoothing=Smoothing(
                sources=[plain.texts[row] for row in rows],
                contexts=[self.context(int(row)) for row in rows],
                vectors=plain.vectors[rows],
                rewritten=new,
            ),
        )

    def _found(self, decoded: Decoded) -> int:
        if decoded.method != "nearest" or not decoded.hits:
            return NONE
        return self._row.get(decoded.hits[0].cpe_id.bytes, NONE)


def _texts_of(db: Database, pool: Pool, rows: Ints) -> dict[int, str]:
    wanted = np.unique(rows)
    ids = [UUID(bytes=pool.cpe_id[row]) for row in wanted]
    place = dict(zip(ids, wanted.tolist(), strict=True))
    with db.connect() as connection:
        found = raw(connection).execute(
            psycopg_sql("retrieval", "concepts_found").encode(), {"cpe_ids": ids}
        )
        return {place[row[0]]: row[4] for row in found}
