"""Runs as functions of vectors alone: as evaluation has them, but for places that they lack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal

import numpy as np
import pytest
import torch

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db import runs
from lvmdb.db.engine import Database
from lvmdb.errors import ModelError, RunError, UnknownNameError
from lvmdb.evaluation import ensembles
from lvmdb.evaluation.inference import load_inference
from lvmdb.evaluation.predictor import load_predictor
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSpec
from lvmdb.sequences.stream import SequenceStream, StreamOptions
from lvmdb.training.plan import plan
from lvmdb.training.train import train

CPU = torch.device("cpu")


Fresh = Callable[..., AbstractContextManager[Database]]
MakeArticles = Callable[..., list[VectorArticle]]


@pytest.fixture(scope="module")
def db(fresh_database: Fresh, make_articles: MakeArticles) -> Iterator[Database]:
    """A corpus, a set, two baselines, a small LSTM, and ensembles of them."""
    with fresh_database() as database:
        articles = make_articles([9] * 14, walk=True)
        with database.begin() as connection:
            encoder_id = encoders.register_imported(connection, "test-encoder")
            ensure_dataset(connection, "wiki", encoder_id)
            store(
                connection, "wiki", encoder_id, articles, [import_hash(each) for each in articles]
            )
        fractions = (Decimal("0.6"), Decimal("0.2"), Decimal("0.2"))
        sets.create(database, SequenceSpec("s", "wiki", context_len=3, fractions=fractions))
        tiny: dict[str, dict[str, str]] = {
            "context-mean": {},
            "nearest-neighbour": {},
            "lstm": {"hidden": "8", "epochs": "1"},
        }
        for name, options in tiny.items():
            train(database, plan(database, name, "s", options), device="cpu")
        for method in ("mean", "vote"):
            made = ensembles.create(database, method, [1, 2, 3], method)
            assert ensembles.fit(database, made, device="cpu").trained
        yield database


@pytest.mark.parametrize("run_id", [1, 2, 3, 4, 5])
def test_what_follows_is_what_evaluation_predicts(db: Database, run_id: int) -> None:
    run = runs.get(db, run_id)
    with db.connect() as connection:
        sequences = sets.get_by_id(connection, run.sequence_set_id)
    expected = load_predictor(db, run, sequences, CPU)
    infer = load_inference(db, run_id, CPU)
    assert (infer.run_id, infer.architecture, infer.dataset) == (run_id, run.architecture, "wiki")
    assert (infer.encoder_id, infer.context_len, infer.tmd) == (sequences.encoder_id, 3, False)
    assert infer.checkpoint_sha256 == expected.checkpoint_sha256
    assert infer.parameters == run_parameters(db, run_id)
    for batch in SequenceStream(db, sequences, "test", StreamOptions(batch_size=7)):
        found = infer(list(batch.context.numpy()))
        assert found.shape == (len(batch), 768)
        assert found.dtype == np.float32
        assert np.allclose(found, expected.predict(batch).numpy(), atol=1e-5)


def run_parameters(db: Database, run_id: int) -> int:
    with db.raw_connection() as connection:
        row = connection.execute(
            "SELECT parameter_count FROM experiment_run WHERE run_id = %s", [run_id]
        ).fetchone()
    assert row is not None
    return int(row[0] or 0)


def test_the_last_concepts_are_read_and_short_contexts_are_masked(db: Database) -> None:
    vectors = np.random.default_rng(0).standard_normal((5, 768)).astype(np.float32)
    for run_id in (1, 3):
        infer = load_inference(db, run_id, CPU)
        # In one pass or alone: a context does not see how long the others are.
        together = infer([vectors, vectors[:2], vectors[:1]])
        alone = [infer([each])[0] for each in (vectors[-3:], vectors[:2], vectors[:1])]
        assert np.allclose(together, alone, atol=1e-5)
        assert not np.allclose(together[1], infer([vectors[[0, 0, 1]]])[0], atol=1e-5)
    # What is masked takes no part in a mean.
    mean = load_inference(db, 1, CPU)
    assert np.allclose(mean([vectors[:2]])[0], vectors[:2].mean(axis=0), atol=1e-5)
    # Codes of a run that reads none are left out.
    coded = np.concatenate([vectors, np.ones((5, 16), np.float32)], axis=1)
    assert np.array_equal(mean([coded]), mean([vectors]))
    assert mean([]).shape == (0, 768)


def test_nobody_votes_for_what_a_context_says(db: Database) -> None:
    """A run that copies would be elected to say what was just said."""
    infer = load_inference(db, 5, CPU)
    with db.raw_connection() as connection:
        rows = connection.execute(
            "SELECT concept_vec::text FROM cpe_entry WHERE article_id = 1 ORDER BY seq LIMIT 3"
        ).fetchall()
    context = np.array([row[0][1:-1].split(",") for row in rows], dtype=np.float32)
    (elected,) = infer([context])
    assert np.linalg.norm(elected) == pytest.approx(1, abs=1e-4)
    assert (context @ elected).max() < 1 - 1e-5
    # Of a length that is not one, it is the same concept.
    assert np.allclose(infer([context * 3])[0], elected, atol=1e-4)


def test_what_cannot_be_asked_is_refused(db: Database) -> None:
    infer = load_inference(db, 1, CPU)
    for shape in ((0, 768), (2, 767), (768,)):
        with pytest.raises(ModelError, match="a context is one vector of 768 numbers or more"):
            infer([np.ones(shape, np.float32)])
    with pytest.raises(ModelError, match="what is no number"):
        infer([np.full((1, 768), np.nan, np.float32)])
    with pytest.raises(UnknownNameError, match="unknown run '99'"):
        load_inference(db, 99, CPU)
    planned = plan(db, "lstm", "s", {"hidden": "4"})
    with pytest.raises(RunError, match="lvmdb train --run-id"):
        load_inference(db, planned, CPU)
