"""Checkpoints in the database: whole, or refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db import checkpoints, runs
from lvmdb.db.checkpoints import Checkpoint
from lvmdb.db.engine import Database
from lvmdb.errors import ModelError, RunError
from lvmdb.evaluation.evaluate import Evaluator
from lvmdb.evaluation.predictor import load_predictor
from lvmdb.models import registry
from lvmdb.models.lstm import LSTM
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.stream import SequenceStream, StreamOptions
from lvmdb.training.plan import plan
from lvmdb.training.train import fit, train

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]

DAMAGE = {
    "a flipped bit": "UPDATE checkpoint_chunk "
    "SET data = set_bit(data, 4000, 1 - get_bit(data, 4000))",
    "a lost chunk": "DELETE FROM checkpoint_chunk WHERE ordinal = 1",
    "chunks in another order": "UPDATE checkpoint_chunk SET ordinal = -ordinal",
    "a chunk too many": "INSERT INTO checkpoint_chunk "
    "SELECT checkpoint_id, 99, 'x' FROM checkpoint",
}


@pytest.fixture
def small(db: Database, corpus: Corpus, sequence_set: MakeSet) -> SequenceSet:
    corpus([8] * 8, walk=True)
    return sequence_set()


def trained(db: Database, architecture: str, **options: object) -> int:
    run_id = plan(db, architecture, "s", options)
    train(db, run_id, device="cpu")
    return run_id


def saved(data: bytes, kind: str = "last", epoch: int = 1) -> Checkpoint:
    return Checkpoint(kind, epoch, 7 * epoch, "lstm", {"hidden": 4}, {"best_loss": 0.1}, data, 3)


@pytest.mark.parametrize("size", [0, 1, 64, 65, 200])
def test_bytes_come_back(
    db: Database, small: SequenceSet, sql: Sql, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(checkpoints, "CHUNK", 64)
    run_id = plan(db, "lstm", "s", {})
    given = saved(bytes(n % 251 for n in range(size)))
    with db.begin() as connection:
        assert checkpoints.load(connection, run_id, "last") is None
        assert checkpoints.checkpoint_sha256(connection, run_id, "last") is None
        checkpoints.save(connection, run_id, given)
        assert checkpoints.load(connection, run_id, "last") == given
        assert checkpoints.load(connection, run_id, "best") is None
        sha256 = checkpoints.checkpoint_sha256(connection, run_id, "last")
    assert sha256 == hashlib.sha256(given.data).digest()
    assert sql("SELECT count(*) FROM checkpoint_chunk") == [(-(-size // 64),)]


def test_a_new_one_takes_the_place_of_its_kind(db: Database, small: SequenceSet, sql: Sql) -> None:
    run_id = plan(db, "lstm", "s", {})
    with db.begin() as connection:
        for epoch in (1, 2, 3):
            checkpoints.save(connection, run_id, saved(b"x" * epoch, epoch=epoch))
        checkpoints.save(connection, run_id, saved(b"best", "best"))
    assert sql("SELECT kind, epoch, bytes FROM checkpoint ORDER BY kind") == [
        ("best", 1, 4),
        ("last", 3, 3),
    ]
    assert sql("SELECT count(*) FROM checkpoint_chunk") == [(2,)]


def test_it_is_written_with_its_transaction_or_not_at_all(
    db: Database, small: SequenceSet, sql: Sql
) -> None:
    run_id = plan(db, "lstm", "s", {})
    with db.connect() as connection:
        checkpoints.save(connection, run_id, saved(b"x"))
        connection.rollback()
    assert sql("SELECT count(*) FROM checkpoint") == [(0,)]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_seen(
    db: Database, small: SequenceSet, sql: Sql, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(checkpoints, "CHUNK", 64 << 10)
    run_id = trained(db, "lstm", hidden=16, layers=1, epochs=1)
    sql("DELETE FROM checkpoint WHERE kind = 'last'")
    assert sql("SELECT count(*) > 1 FROM checkpoint_chunk") == [(True,)]
    sql(DAMAGE[damage])
    with pytest.raises(ModelError, match=f"best checkpoint of run {run_id} is damaged.*SHA-256"):
        Evaluator(db, device="cpu").evaluate(run_id)
    assert sql("SELECT count(*) FROM prediction") == [(0,)]


def test_a_damaged_last_checkpoint_stops_going_on(
    db: Database, small: SequenceSet, sql: Sql
) -> None:
    run_id = trained(db, "lstm", hidden=16, layers=1, epochs=1)
    sql(DAMAGE["a flipped bit"])
    sql("UPDATE experiment_run SET status = 'planned'")
    with pytest.raises(ModelError, match=f"last checkpoint of run {run_id} is damaged"):
        train(db, run_id, device="cpu")
    assert sql("SELECT status, error LIKE '%%damaged%%' FROM experiment_run", []) == [
        ("failed", True)
    ]


@pytest.mark.parametrize("residual", [True, False])
def test_changed_code_under_the_same_names_is_refused(
    db: Database, small: SequenceSet, sql: Sql, monkeypatch: pytest.MonkeyPatch, residual: bool
) -> None:
    """The bytes are whole and the names match: only the golden pair tells."""
    run_id = trained(
        db, "lstm", hidden=32, layers=1, epochs=4, lr=1e-2, batch_size=4, residual=residual
    )
    honest = LSTM.forward

    def changed(self: LSTM, context: Tensor, mask: Tensor) -> Tensor:
        return honest(self, context.flip(1), mask)

    with monkeypatch.context() as patched:
        patched.setattr(LSTM, "forward", changed)
        with pytest.raises(ModelError, match="do not give the output that was stored with them"):
            Evaluator(db, device="cpu").evaluate(run_id)
        assert sql("SELECT count(*) FROM evaluation") == [(0,)]
        sql("UPDATE experiment_run SET status = 'planned'")
        with pytest.raises(ModelError, match="do not give the output"):
            train(db, run_id, device="cpu")
    train(db, run_id, device="cpu")
    Evaluator(db, device="cpu").evaluate(run_id)


def test_other_weights_under_a_runs_name_are_refused(db: Database, small: SequenceSet) -> None:
    """A checkpoint is built from what it says of itself, and must fit that."""
    run_id = trained(db, "lstm", hidden=16, layers=1, epochs=1)
    with db.begin() as connection:
        found = checkpoints.load(connection, run_id, "best")
        assert found is not None
        wrong = Checkpoint(**{**vars(found), "config": {**found.config, "hidden": 8}})
        checkpoints.save(connection, run_id, wrong)
    with pytest.raises(ModelError, match=r"does not fit the architecture: .*size mismatch"):
        Evaluator(db, device="cpu").evaluate(run_id)


@pytest.mark.parametrize("name", registry.names(trained=False))
def test_a_loaded_baseline_predicts_as_the_fitted_one(
    db: Database, small: SequenceSet, name: str
) -> None:
    run_id = trained(db, name, **({"strengths": "0.1,1"} if name == "ridge" else {}))
    run = runs.get(db, run_id)
    architecture = registry.get(name)
    options = {"context_len": 2, **({"strengths": "0.1,1"} if name == "ridge" else {})}
    fresh = architecture.build(architecture.configure(options))
    assert not isinstance(fresh, torch.nn.Module)
    fit(db, run, fresh, small)
    predictor = load_predictor(db, run, sets.get(db, "s"), torch.device("cpu"))
    batches = list(SequenceStream(db, small, "test", StreamOptions()))
    assert batches
    for batch in batches:
        assert torch.equal(predictor.predict(batch), fresh.predict(batch))


def test_only_a_run_that_succeeded_is_evaluated(db: Database, small: SequenceSet, sql: Sql) -> None:
    run_id = plan(db, "copy-last", "s", {})
    with pytest.raises(RunError, match=rf"is planned: 'lvmdb train --run-id {run_id}' comes first"):
        Evaluator(db, device="cpu").evaluate(run_id)
    train(db, run_id)
    sql("DELETE FROM checkpoint")
    with pytest.raises(RunError, match="has no checkpoint"):
        Evaluator(db, device="cpu").evaluate(run_id)
