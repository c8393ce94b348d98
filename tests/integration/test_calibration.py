"""The yardstick itself: a corpus with a computable optimum, through the whole pipeline.

Articles of a known process are stored, cut into windows, trained on and evaluated. What good
models reach is the optimum, what trivial baselines reach is what theory says, and what is broken
stays below. The optimum is computed from the process, from articles drawn again, not from what the
database holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pytest
import torch

from lvmdb.corpus import encoders
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.corpus.synthetic import Array, Expected, Process, articles, expected, windows
from lvmdb.corpus.synthetic_import import import_synthetic
from lvmdb.db import runs
from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database
from lvmdb.db.types import DIMENSION
from lvmdb.evaluation.evaluate import Evaluator
from lvmdb.evaluation.predictor import load_predictor
from lvmdb.metrics.ranking import rank_in_pool, reciprocal_rank_at
from lvmdb.metrics.vectors import cosine
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSpec
from lvmdb.sequences.stream import SequenceStream, StreamOptions
from lvmdb.training.plan import plan
from lvmdb.training.train import train

PROCESS = Process()
ARTICLES, CONCEPTS, CONTEXT = 250, 20, 3

SMALL = {"layers": 1, "residual": False}
RUNS: dict[str, dict[str, object]] = {
    "copy-last": {},
    "context-mean": {},
    "ridge": {"strengths": "1"},
    "lstm": {**SMALL, "hidden": 48, "epochs": 4, "lr": 0.01},
    "mamba2": {**SMALL, "d_model": 64, "d_state": 16, "headdim": 32, "epochs": 3, "lr": 0.005},
}

LEADERBOARD = """
SELECT architecture, cosine, cosine_low, cosine_high, mrr_10, cosine_verdict,
       best_baseline_by_cosine, flags
FROM run_leaderboard WHERE split = 'test' AND sequence_set = 'known'
"""

TEST_ARTICLES = """
SELECT a.source_key FROM sequence_article sa JOIN article a USING (article_id)
JOIN sequence_set s USING (sequence_set_id)
WHERE s.name = 'known' AND sa.split = 'test' ORDER BY sa.position
"""

PREDICTIONS = """
SELECT a.source_key, t.seq, vector_send(p.predicted_vec)
FROM prediction p JOIN cpe_entry t ON t.cpe_id = p.target_cpe_id
JOIN article a ON a.article_id = t.article_id WHERE p.run_id = %s
"""


class Fresh(Protocol):
    def __call__(self, *, migrated: bool = True) -> AbstractContextManager[Database]: ...


@dataclass(frozen=True)
class World:
    """Everything evaluated, and the test articles drawn once more.

    Attributes:
        db: the database.
        run: ids by architecture.
        board: rows of the leaderboard by architecture.
        test: numbers of the test articles.
    """

    db: Database
    run: dict[str, int]
    board: dict[str, dict[str, Any]]
    test: list[int]

    @cached_property
    def drawn(self) -> list[tuple[Array, Array]]:
        return [PROCESS.draw(number, CONCEPTS) for number in self.test]

    @cached_property
    def target(self) -> Array:
        """`(windows, 768)`, in the order of `test`."""
        return np.concatenate([vectors[CONTEXT:] for _, vectors in self.drawn])

    @cached_property
    def knowing(self) -> Array:
        """What one predicts who knows the process and each article's direction."""
        return np.concatenate(
            [
                PROCESS.best_knowing_topic(v[CONTEXT - 1 : -1], np.tile(u, (len(v) - CONTEXT, 1)))
                for u, v in self.drawn
            ]
        )

    @cached_property
    def from_context(self) -> Array:
        """What one predicts who knows the process and sees the context."""
        return np.concatenate(
            [PROCESS.best_from_context(windows(v, CONTEXT)[0]) for _, v in self.drawn]
        )

    @cached_property
    def optimum(self) -> tuple[float, float]:
        """The best cosine over these windows lies between these."""
        low, high = (cosine(p, self.target).mean() for p in (self.from_context, self.knowing))
        return float(low), float(high)

    def predicted(self, architecture: str) -> Array:
        """`(windows, 768)` from the table prediction, in the same order."""
        with self.db.raw_connection() as connection:
            rows = connection.execute(PREDICTIONS.encode(), [self.run[architecture]]).fetchall()
        place = {f"synthetic-{number}": i for i, number in enumerate(self.test)}
        rows.sort(key=lambda row: (place[row[0]], row[1]))
        return parsed_vectors([row[2] for row in rows], DIMENSION).astype(np.float64)


@pytest.fixture(scope="module")
def world(fresh_database: Fresh) -> Iterator[World]:
    with fresh_database() as db:
        import_synthetic(db, PROCESS, dataset="known", count=ARTICLES, concepts=CONCEPTS)
        sets.create(db, SequenceSpec(name="known", dataset="known", context_len=CONTEXT))
        evaluator = Evaluator(db, device="cpu")
        made: dict[str, int] = {}
        for architecture, options in RUNS.items():
            loss = "cosine" if "epochs" in options else None
            made[architecture] = plan(db, architecture, "known", options, loss=loss)
            train(db, made[architecture], device="cpu")
            evaluator.evaluate(made[architecture])
        with db.raw_connection() as connection:
            cursor = connection.execute(LEADERBOARD.encode())
            names = [column.name for column in cursor.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            keys = connection.execute(TEST_ARTICLES.encode()).fetchall()
        numbers = [int(key.removeprefix("synthetic-")) for (key,) in keys]
        yield World(db, made, {row["architecture"]: row for row in rows}, numbers)


@pytest.fixture(scope="module")
def theory() -> Expected:
    """From articles of the same process that are not in the corpus."""
    return expected(PROCESS, CONTEXT, CONCEPTS, sample=300)


def test_the_optimum_is_known_closely(world: World, theory: Expected) -> None:
    low, high = world.optimum
    assert 0 < high - low < 0.0015
    # Other articles of the process: the same optimum, by two samples' errors.
    assert low == pytest.approx(theory.best_from_context.value, abs=0.004)


@pytest.mark.parametrize(
    ("architecture", "within"), [("ridge", 0.01), ("lstm", 0.03), ("mamba2", 0.03)]
)
def test_models_reach_the_optimum_and_none_passes_it(
    world: World, architecture: str, within: float
) -> None:
    low, high = world.optimum
    reached = world.board[architecture]["cosine"]
    assert low - within < reached
    # Above it there is nothing but leaks.
    assert reached < high


@pytest.mark.parametrize("architecture", ["copy-last", "context-mean"])
def test_trivial_baselines_have_the_values_of_theory(
    world: World, theory: Expected, architecture: str
) -> None:
    known = theory.copy_last if architecture == "copy-last" else theory.context_mean
    row = world.board[architecture]
    error = (row["cosine_high"] - row["cosine_low"]) / (2 * 1.96)
    assert row["cosine"] == pytest.approx(known.value, abs=3 * np.hypot(error, known.error))
    assert error < 0.02


def test_the_cosine_of_the_table_is_that_of_its_predictions(world: World) -> None:
    for architecture in RUNS:
        again = cosine(world.predicted(architecture), world.target).mean()
        assert world.board[architecture]["cosine"] == pytest.approx(again, abs=1e-6)


def test_recall_of_the_best_prediction_is_reached(world: World) -> None:
    """Ranks of the best prediction by cosine, in a pool drawn again, context excluded."""
    pool = np.concatenate([a.vectors for a in articles(PROCESS, range(ARTICLES), CONCEPTS)])
    truth = np.concatenate(
        [number * CONCEPTS + np.arange(CONTEXT, CONCEPTS) for number in world.test]
    )
    context = truth[:, None] - np.arange(1, CONTEXT + 1)
    best = reciprocal_rank_at(rank_in_pool(world.from_context, pool, truth, context), 10).mean()
    for architecture, within in (("ridge", 0.02), ("lstm", 0.06), ("mamba2", 0.06)):
        assert world.board[architecture]["mrr_10"] == pytest.approx(best, abs=within)
    copied = pool[truth - 1]
    ranks = rank_in_pool(copied, pool, truth, context)
    assert world.board["copy-last"]["mrr_10"] == pytest.approx(
        reciprocal_rank_at(ranks, 10).mean(), abs=1e-6
    )
    assert world.board["copy-last"]["mrr_10"] < best - 0.5


def test_predictions_shifted_by_a_window_are_seen(world: World) -> None:
    predicted = world.predicted("ridge").reshape(len(world.test), -1, DIMENSION)
    target = world.target.reshape(predicted.shape)
    for late, early in ((predicted[:, 1:], target[:, :-1]), (predicted[:, :-1], target[:, 1:])):
        value = cosine(late.reshape(-1, DIMENSION), early.reshape(-1, DIMENSION)).mean()
        assert value < world.optimum[0] - 0.05


def test_shuffled_targets_are_seen(world: World) -> None:
    predicted = world.predicted("ridge")
    order = np.random.default_rng(0).permutation(len(predicted))
    assert abs(cosine(predicted, world.target[order]).mean()) < 0.05
    # Shuffled within articles, where concepts are alike, as well.
    inside = np.random.default_rng(0).permuted(
        np.arange(len(predicted)).reshape(len(world.test), -1), axis=1
    )
    assert cosine(predicted, world.target[inside.ravel()]).mean() < world.optimum[0] - 0.3


def test_a_model_trained_on_shuffled_articles_is_seen(world: World) -> None:
    random = np.random.default_rng(1)
    shuffled = []
    for article in articles(PROCESS, range(ARTICLES), CONCEPTS):
        order: npt.NDArray[np.int64] = random.permutation(CONCEPTS)
        texts = tuple(article.texts[i] for i in order)
        shuffled.append(replace(article, texts=texts, vectors=article.vectors[order]))
    with world.db.begin() as connection:
        encoder_id = encoders.register_imported(connection, PROCESS.name)
        ensure_dataset(connection, "shuffled", encoder_id)
        hashes = [import_hash(article) for article in shuffled]
        store(connection, "shuffled", encoder_id, shuffled, hashes)
    sets.create(world.db, SequenceSpec(name="shuffled", dataset="shuffled", context_len=CONTEXT))
    run_id = plan(world.db, "ridge", "shuffled", RUNS["ridge"])
    train(world.db, run_id, device="cpu")
    known = sets.get(world.db, "known")
    predictor = load_predictor(world.db, runs.get(world.db, run_id), known, torch.device("cpu"))
    values = [
        cosine(predictor.predict(batch).numpy(), batch.target.numpy())
        for batch in SequenceStream(world.db, known, "test", StreamOptions(batch_size=512))
    ]
    assert np.concatenate(values).mean() < world.optimum[0] - 0.2


def test_copy_last_is_not_called_best(world: World) -> None:
    copied = world.board["copy-last"]
    assert copied["cosine_high"] < world.optimum[0] - 0.1
    assert copied["cosine_verdict"] == "worse"
    assert {row["best_baseline_by_cosine"] for row in world.board.values()} == {"ridge"}
