"""`lvmdb evaluate`: predictions and evaluations of a run, as rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from lvmdb.db import runs
from lvmdb.db.checkpoints import checkpoint_sha256
from lvmdb.db.engine import Database
from lvmdb.db.runs import Run
from lvmdb.db.schema.evaluations import evaluation
from lvmdb.evaluation import drawn_pool
from lvmdb.evaluation.pool import ContextRows, Pool, load_pool
from lvmdb.evaluation.predictor import load_predictor
from lvmdb.evaluation.records import (
    RankedIn,
    lock_comparison,
    write_differences,
    write_evaluations,
    write_predictions,
)
from lvmdb.evaluation.scores import Score, score
from lvmdb.evaluation.windows import predicted_windows, sequences_of, truth_rows
from lvmdb.metrics.contrast import contrast
from lvmdb.metrics.definitions import METRICS, POOLS
from lvmdb.metrics.manifold import nearest_other_cosine
from lvmdb.metrics.queries import Queries
from lvmdb.metrics.ranking import duplicate_groups, rank_in_articles, rank_in_pool
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training.environment import code_version, resolve_device
from lvmdb.training.train import check_data


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found.

    Attributes:
        scores: by the key of the metric.
        pools: by kind, one of `metrics.definitions.POOLS`.
        queries: number of windows.
    """

    scores: dict[str, Score]
    pools: dict[str, RankedIn]
    queries: int


@dataclass(frozen=True)
class _Corpus:
    """A dataset's pool with what is computed of it once."""

    pool: Pool
    groups: NDArray[np.int64]
    article: NDArray[np.int64]


class Evaluator:
    """Evaluates runs; data is checked, and the pool of a dataset read, once for all of them.

    Args:
        db: the database.
        device: where models predict.
        progress: told of windows predicted.
    """

    def __init__(self, db: Database, *, device: str = "auto", progress: Progress = SILENT) -> None:
        self._db = db
        self._device = resolve_device(device)
        self._progress = progress
        self._corpora: dict[str, _Corpus] = {}
        self._checked: set[int] = set()
        # Of a set and split, the same for every run: how near each truth is to another concept.
        self._truth_nearest: dict[tuple[int, str], NDArray[np.float64]] = {}

    def evaluate(self, run_id: int, split: str = "test", pool: str | None = None) -> Evaluated:
        """Predict every window of a split and rank its truth; replaces what was there of it.

        Args:
            run_id: a run that has succeeded.
            split: whose windows.
            pool: `corpus`, `article` or the name of a drawn pool; by default the first two and the
                pool that was drawn for the split, which is drawn now if need be.

        Raises:
            UnknownNameError: there is no such run or pool.
            RunError: the run has not succeeded.
            SequenceError: the split has no windows, or the data changed.
        """
        run = runs.get(self._db, run_id)
        sequences = sequences_of(self._db, run, split)
        kind = pool if pool in ("corpus", "article") else "drawn"
        kinds = frozenset(POOLS if pool is None else [kind])
        if kind == "drawn" and pool is not None:
            with self._db.connect() as connection:
                drawn_pool.require(connection, sequences, split, pool)
        if sequences.sequence_set_id not in self._checked:
            check_data(self._db, run, sequences)
            self._checked.add(sequences.sequence_set_id)
        corpus = self._corpus(sequences.dataset_source)
        predictor = load_predictor(self._db, run, sequences, self._device, pool=corpus.pool)
        windows = predicted_windows(self._db, run, sequences, split, predictor, self._progress)
        truth = truth_rows(corpus.pool, windows)
        with self._db.connect() as connection:
            context = ContextRows(connection, sequences, corpus.pool).of(truth)
        drawn = None
        if "drawn" in kinds:
            drawn = self._drawn(corpus, sequences, split, truth, context, pool)
        queries = self._queries(
            corpus, sequences, split, windows["prediction"], truth, context, drawn
        )
        scores = score(queries, windows["article_id"], kinds)
        pools = _ranked_in(corpus, truth, drawn, kinds)
        cpe_id = [corpus.pool.cpe_id[row] for row in truth]
        with self._db.begin() as connection:
            lock_comparison(connection, sequences.sequence_set_id, split)
            # Ranks among the corpus stand with the predictions: both are written or neither.
            if "corpus" in kinds:
                write_predictions(connection, run_id, split, cpe_id, queries)
            write_evaluations(
                connection,
                run_id=run_id,
                split=split,
                scores=scores,
                pools=pools,
                articles=np.unique(windows["article_id"]),
                distinct_truths=len(np.unique(corpus.groups[truth])),
                checkpoint_sha256=predictor.checkpoint_sha256,
                code=code_version(),
            )
            write_differences(connection, run_id, split, [each.name for each in pools.values()])
        shown = [key for key in ("cosine", "recall@5", "mrr@10") if key in scores]
        self._progress.say(
            f"run {run_id} {run.architecture}: "
            + ", ".join(f"{key} {scores[key].value:.4f}" for key in shown or scores)
        )
        return Evaluated(scores, pools, len(queries))

    def done(self, run_id: int, split: str = "test") -> bool:
        """Whether the run's present weights have been evaluated by every metric, on this pool."""
        run = runs.get(self._db, run_id)
        sequences = self._sequences(run)
        names = {"drawn": drawn_pool.pool_name(sequences, split)}
        wanted = {
            (names.get(metric.pool, metric.pool), metric.name): metric.version
            for metric in METRICS.values()
        }
        corpus = self._corpus(sequences.dataset_source)
        with self._db.connect() as connection:
            best = checkpoint_sha256(connection, run_id, "best")
            rows = connection.execute(
                select(evaluation.c.pool, evaluation.c.metric, evaluation.c.version).where(
                    evaluation.c.run_id == run_id,
                    evaluation.c.split == split,
                    evaluation.c.checkpoint_sha256 == best,
                    (evaluation.c.pool_fingerprint == corpus.pool.fingerprint)
                    | (evaluation.c.pool == names["drawn"]),
                )
            ).all()
        found = {(row.pool, row.metric): row.version for row in rows}
        # In articles or among distractors there may be nothing to ask: what is missing there was.
        return all(
            found.get(key) == version or (key not in found and key[0] != "corpus")
            for key, version in wanted.items()
        )

    def _sequences(self, run: Run) -> SequenceSet:
        with self._db.connect() as connection:
            return sets.get_by_id(connection, run.sequence_set_id)

    def _corpus(self, dataset: str) -> _Corpus:
        if dataset not in self._corpora:
            pool = load_pool(self._db, dataset)
            place = np.searchsorted(np.sort(pool.first), np.arange(len(pool)), side="right") - 1
            self._corpora[dataset] = _Corpus(pool, duplicate_groups(pool.vectors), place)
        return self._corpora[dataset]

    def _drawn(
        self,
        corpus: _Corpus,
        sequences: SequenceSet,
        split: str,
        truth: NDArray[np.int64],
        context: NDArray[np.int64],
        name: str | None,
    ) -> drawn_pool.DrawnPool:
        with self._db.begin() as connection:
            if name is None:
                name = drawn_pool.pool_name(sequences, split)
                drawn_pool.draw(
                    connection, sequences, split, corpus.pool, truth, context, corpus.groups
                )
            return drawn_pool.load(connection, sequences, split, name, corpus.pool, truth)

    def _queries(
        self,
        corpus: _Corpus,
        sequences: SequenceSet,
        split: str,
        prediction: NDArray[np.float32],
        truth: NDArray[np.int64],
        context: NDArray[np.int64],
        drawn: drawn_pool.DrawnPool | None,
    ) -> Queries:
        vectors, groups = corpus.pool.vectors, corpus.groups
        key = sequences.sequence_set_id, split
        if key not in self._truth_nearest:
            self._truth_nearest[key] = nearest_other_cosine(vectors, truth)
        return Queries(
            prediction=prediction,
            pool=vectors,
            truth=truth,
            context=context,
            ranks=rank_in_pool(prediction, vectors, truth, context, duplicate_group=groups),
            article_ranks=rank_in_articles(
                prediction, vectors, truth, context, corpus.article, duplicate_group=groups
            ),
            contrast=None
            if drawn is None
            else contrast(prediction, vectors, truth, drawn.distractors),
            truth_nearest=self._truth_nearest[key],
        )


def _ranked_in(
    corpus: _Corpus,
    truth: NDArray[np.int64],
    drawn: drawn_pool.DrawnPool | None,
    kinds: frozenset[str],
) -> dict[str, RankedIn]:
    pool = corpus.pool
    sizes = np.bincount(corpus.article)[corpus.article[truth]]
    found = {
        "corpus": RankedIn("corpus", len(pool), pool.fingerprint),
        "article": RankedIn("article", round(float(sizes.mean())), pool.fingerprint),
    }
    if drawn is not None:
        size = max(2, 1 + round(len(drawn.distractors) / len(truth)))
        found["drawn"] = RankedIn(drawn.name, size, drawn.fingerprint)
    return {kind: ranked for kind, ranked in found.items() if kind in kinds}
