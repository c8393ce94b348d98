"""`lvmdb evaluate`: predictions and evaluations of a run, as rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, insert, select

from lvmdb.db import bulk, runs
from lvmdb.db.checkpoints import checkpoint_sha256
from lvmdb.db.engine import Database
from lvmdb.db.runs import Run
from lvmdb.db.schema.evaluations import evaluation, prediction
from lvmdb.errors import SequenceError
from lvmdb.evaluation.pool import ContextRows, Pool, load_pool
from lvmdb.evaluation.predictor import Predictor, load_predictor
from lvmdb.metrics.chance import pool_mean
from lvmdb.metrics.definitions import METRICS, Queries, aggregate
from lvmdb.metrics.ranking import Ranks, duplicate_groups, rank_in_pool
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.stream import SequenceStream, StreamOptions
from lvmdb.training.environment import code_version, resolve_device
from lvmdb.training.train import check_data

POOL = "corpus"
"""The pool of all concepts of the dataset, of every split."""

BATCH = 256


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found.

    Attributes:
        metrics: value and level of chance by metric.
        queries: number of windows.
        pool_size: number of concepts that a truth was ranked among.
        pool_fingerprint: of those concepts.
    """

    metrics: dict[str, tuple[float, float]]
    queries: int
    pool_size: int
    pool_fingerprint: bytes


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
        self._pools: dict[str, tuple[Pool, NDArray[np.int64]]] = {}
        self._checked: set[int] = set()

    def evaluate(self, run_id: int, split: str = "test") -> Evaluated:
        """Predict every window of a split and rank its truth; replaces what was there of it.

        Raises:
            UnknownNameError: there is no such run.
            RunError: it has not succeeded.
            SequenceError: the split has no windows, or the data changed.
        """
        run = runs.get(self._db, run_id)
        with self._db.connect() as connection:
            sequences = sets.get_by_id(connection, run.sequence_set_id)
        if not sequences.window_count(split):
            raise SequenceError(f"sequence set '{sequences.name}' has no {split} windows")
        if sequences.sequence_set_id not in self._checked:
            check_data(self._db, run, sequences)
            self._checked.add(sequences.sequence_set_id)
        predictor = load_predictor(self._db, run, sequences, self._device)
        pool, groups = self._pool(sequences.dataset_source)
        windows = self._predict(run, sequences, split, predictor)
        truth = pool.rows(windows["article_id"], windows["target_seq"])
        with self._db.connect() as connection:
            context = ContextRows(connection, sequences, pool).of(truth)
        ranks = rank_in_pool(
            windows["prediction"], pool.vectors, truth, context, duplicate_group=groups
        )
        queries = Queries(
            prediction=windows["prediction"],
            target=pool.vectors[truth],
            last_context=pool.vectors[context[:, -1]],
            ranks=ranks,
            pool_mean=pool_mean(pool.vectors),
        )
        values = {name: metric.per_query(queries) for name, metric in METRICS.items()}
        found = Evaluated(
            metrics={
                name: (aggregate(values[name]), aggregate(metric.chance_per_query(queries)))
                for name, metric in METRICS.items()
            },
            queries=len(queries),
            pool_size=len(pool),
            pool_fingerprint=pool.fingerprint,
        )
        with self._db.begin() as connection:
            _write_predictions(connection, run, split, pool, truth, queries, values)
            _write_evaluation(
                connection, run, split, found, len(np.unique(groups[truth])), predictor
            )
        self._progress.say(
            f"run {run_id} {run.architecture}: "
            + ", ".join(f"{name} {value:.4f}" for name, (value, _) in found.metrics.items())
        )
        return found

    def done(self, run_id: int, split: str = "test") -> bool:
        """Whether the run's present weights have been evaluated by every metric, on this pool."""
        run = runs.get(self._db, run_id)
        with self._db.connect() as connection:
            sequences = sets.get_by_id(connection, run.sequence_set_id)
        pool, _ = self._pool(sequences.dataset_source)
        with self._db.connect() as connection:
            best = checkpoint_sha256(connection, run_id, "best")
            rows = connection.execute(
                select(evaluation.c.metric, evaluation.c.version).where(
                    evaluation.c.run_id == run_id,
                    evaluation.c.split == split,
                    evaluation.c.pool == POOL,
                    evaluation.c.checkpoint_sha256 == best,
                    evaluation.c.pool_fingerprint == pool.fingerprint,
                )
            ).all()
        return {(row.metric, row.version) for row in rows} >= {
            (name, metric.version) for name, metric in METRICS.items()
        }

    def _pool(self, dataset: str) -> tuple[Pool, NDArray[np.int64]]:
        if dataset not in self._pools:
            pool = load_pool(self._db, dataset)
            self._pools[dataset] = pool, duplicate_groups(pool.vectors)
        return self._pools[dataset]

    def _predict(
        self, run: Run, sequences: SequenceSet, split: str, predictor: Predictor
    ) -> dict[str, NDArray[Any]]:
        stream = SequenceStream(self._db, sequences, split, StreamOptions(batch_size=BATCH))
        parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
        name = f"run {run.run_id} predicts"
        with self._progress.task(name, stream.windows, "windows") as advance:
            for batch in stream:
                predicted = predictor.predict(batch).numpy()
                parts.append((predicted, batch.article_id.numpy(), batch.target_seq.numpy()))
                advance(len(batch))
        names = ("prediction", "article_id", "target_seq")
        return {
            name: np.concatenate(arrays)
            for name, arrays in zip(names, zip(*parts, strict=True), strict=True)
        }


def _write_predictions(
    connection: Connection,
    run: Run,
    split: str,
    pool: Pool,
    truth: NDArray[np.int64],
    queries: Queries,
    values: dict[str, NDArray[np.float64]],
) -> None:
    rows = len(queries)
    ranks: Ranks = queries.ranks
    where = (prediction.c.run_id == run.run_id, prediction.c.split == split)
    connection.execute(delete(prediction).where(*where))
    bulk.copy_rows(
        connection,
        "prediction",
        {
            "run_id": bulk.integers(np.full(rows, run.run_id), 8),
            "target_cpe_id": bulk.uuids(pool.cpe_id[row] for row in truth),
            "split": bulk.texts([split] * rows),
            "predicted_vec": bulk.vectors(queries.prediction.astype(np.float32)),
            "cosine": bulk.reals(values["cosine"]),
            "margin": bulk.reals(values["margin"]),
            "mse": bulk.reals(values["mse"]),
            "better": bulk.integers(ranks.greater),
            "tied": bulk.integers(ranks.ties),
            "candidates": bulk.integers(ranks.candidates),
        },
    )


def _write_evaluation(
    connection: Connection,
    run: Run,
    split: str,
    found: Evaluated,
    distinct_truths: int,
    predictor: Predictor,
) -> None:
    connection.execute(
        delete(evaluation).where(
            evaluation.c.run_id == run.run_id,
            evaluation.c.split == split,
            evaluation.c.pool == POOL,
        )
    )
    version, _ = code_version()
    connection.execute(
        insert(evaluation),
        [
            {
                "run_id": run.run_id,
                "split": split,
                "pool": POOL,
                "metric": name,
                "version": METRICS[name].version,
                "value": value,
                "pool_size": found.pool_size,
                "pool_fingerprint": found.pool_fingerprint,
                "queries": found.queries,
                "distinct_truths": distinct_truths,
                "chance": chance,
                "checkpoint_sha256": predictor.checkpoint_sha256,
                "code_version": version,
            }
            for name, (value, chance) in found.metrics.items()
        ],
    )
