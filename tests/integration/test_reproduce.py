"""A run trained again from its row gives the same bits, or says where and why it does not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any

import pytest
import torch
from asking import ask
from tiny_models import TINY

from lvmdb.cli import main as program
from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db import runs
from lvmdb.db.engine import Database
from lvmdb.errors import ModelError, RunError, SequenceError
from lvmdb.evaluation.evaluate import Evaluator
from lvmdb.evaluation.reproduce import (
    DIFFERS,
    IDENTICAL,
    Reproduction,
    begin,
    copy,
    reproduce,
)
from lvmdb.evaluation.run_checks import Check
from lvmdb.models import registry
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSpec
from lvmdb.training.loop import Trainer
from lvmdb.training.plan import plan
from lvmdb.training.train import train

Fresh = Callable[..., AbstractContextManager[Database]]
MakeArticles = Callable[..., list[VectorArticle]]
Rows = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def db(fresh_database: Fresh, make_articles: MakeArticles) -> Iterator[Database]:
    """A database with a corpus of twelve articles and a sequence set `s` over it."""
    with fresh_database() as database:
        articles = make_articles([7] * 12, walk=True)
        with database.begin() as connection:
            encoder_id = encoders.register_imported(connection, "test-encoder")
            ensure_dataset(connection, "wiki", encoder_id)
            hashes = [import_hash(article) for article in articles]
            store(connection, "wiki", encoder_id, articles, hashes)
        fractions = (Decimal("0.6"), Decimal("0.2"), Decimal("0.2"))
        sets.create(database, SequenceSpec("s", "wiki", context_len=2, fractions=fractions))
        yield database


def sql(db: Database, statement: str, *parameters: object) -> Rows:
    return ask(db, statement, parameters or None)


def run_ids(db: Database) -> list[int]:
    return [row[0] for row in sql(db, "SELECT run_id FROM experiment_run ORDER BY run_id")]


def trained(db: Database, architecture: str, seed: int = 0, **given: object) -> int:
    """A run that has succeeded."""
    chosen = {**TINY.get(architecture, {}), "epochs": 2, "batch_size": 16}
    options = {**chosen, **given} if registry.get(architecture).trained else given
    run_id = plan(db, architecture, "s", options, seed=seed)
    train(db, run_id, device="cpu")
    return run_id


def stamps(db: Database, run_id: int) -> tuple[str, ...]:
    return runs.get(db, run_id).stamps


def named(found: Reproduction) -> dict[str, Check]:
    return {check.what: check for check in found.checks}


@pytest.fixture(scope="module")
def lstm(db: Database) -> int:
    """A trained and evaluated LSTM; tests only read it."""
    run_id = trained(db, "lstm", 3, dropout=0.2, layers=2, hidden=16)
    evaluator = Evaluator(db, device="cpu")
    for split in ("val", "test"):
        evaluator.evaluate(run_id, split)
    return run_id


@pytest.mark.parametrize("architecture", registry.names())
def test_every_architecture_comes_out_the_same(db: Database, architecture: str) -> None:
    run_id = trained(db, architecture, 1)
    Evaluator(db, device="cpu").evaluate(run_id)
    before = run_ids(db)
    found = reproduce(db, run_id, device="cpu")
    assert found.first_difference is None, found.verdict
    assert all(check.same for check in found.checks), found.checks
    checks = named(found)
    assert checks["best checkpoint"].original
    assert checks["test cosine, pool corpus"].original is not None
    measured = sql(db, "SELECT count(*) FROM run_metric WHERE run_id = %s", run_id)[0][0]
    evaluated = sql(db, "SELECT count(*) FROM evaluation WHERE run_id = %s", run_id)[0][0]
    assert sum(check.values for check in found.checks) == measured + evaluated + 1
    assert not found.kept
    assert f"run {run_id} is reproduced bit for bit ({measured + evaluated + 1} values); " in (
        found.verdict
    )
    assert run_ids(db) == before
    assert sql(db, "SELECT count(*) FROM evaluation WHERE run_id = %s", found.run_id) == [(0,)]


@pytest.mark.parametrize("variant", ["one_tower", "two_tower"])
def test_what_is_drawn_by_diffusion_comes_out_the_same(db: Database, variant: str) -> None:
    """Samples and the loss on noise too: neither depends on what was drawn before."""
    size: dict[str, object] = {"d_model": 16, "layers": 1, "heads": 2, "sampling_steps": 5}
    run_id = trained(db, "lcm", 1, variant=variant, **size)
    assert runs.get(db, run_id).loss == "diffusion"
    Evaluator(db, device="cpu").evaluate(run_id)
    torch.manual_seed(999)
    found = reproduce(db, run_id, device="cpu")
    assert found.first_difference is None, found.verdict
    assert all(check.same for check in found.checks), found.checks
    assert named(found)["test cosine, pool corpus"].original is not None


def test_it_is_kept_if_asked_for(db: Database, lstm: int) -> None:
    found = reproduce(db, lstm, device="cpu", keep=True)
    assert found.kept
    assert found.verdict.endswith(f"run {found.run_id} is kept")
    again, original = runs.get(db, found.run_id), runs.get(db, lstm)
    assert again.stamps == (f"reproduces={lstm}", IDENTICAL)
    assert again.parent_run_id is None
    for name in ("kind", "architecture", "hyperparameters", "loss", "seed", "sequence_set_id"):
        assert getattr(again, name) == getattr(original, name)
    pools = "SELECT split, pool, count(*) FROM evaluation WHERE run_id = %s GROUP BY 1, 2"
    assert sorted(sql(db, pools, found.run_id)) == sorted(sql(db, pools, lstm))
    # One that was compared is not taken for an interrupted one.
    assert reproduce(db, lstm, device="cpu").run_id != found.run_id
    # A reproduction can be reproduced, and stamps do not pile up.
    third = reproduce(db, found.run_id, device="cpu", keep=True)
    assert stamps(db, third.run_id) == (f"reproduces={found.run_id}", IDENTICAL)
    for run_id in (third.run_id, found.run_id):
        runs.remove(db, run_id)


def test_one_pool_is_evaluated_as_one(db: Database) -> None:
    run_id = trained(db, "context-mean", 7)
    Evaluator(db, device="cpu").evaluate(run_id, "test", "article")
    found = reproduce(db, run_id, device="cpu", keep=True)
    assert found.first_difference is None
    pools = "SELECT DISTINCT split, pool FROM evaluation WHERE run_id = %s"
    assert sql(db, pools, found.run_id) == [("test", "article")]
    runs.remove(db, found.run_id)


def test_a_difference_is_named_and_kept(db: Database) -> None:
    run_id = trained(db, "lstm", 9, hidden=8)
    sql(
        db,
        "UPDATE run_metric SET value = value + 1e-12 WHERE run_id = %s AND epoch = 2 "
        "AND (name, split) = ('loss', 'val')",
        run_id,
    )
    found = reproduce(db, run_id, device="cpu")
    wrong = found.first_difference
    assert wrong is not None
    assert (wrong.what, wrong.epoch, wrong.values, wrong.same) == ("val loss", 2, 2, False)
    assert [check.what for check in found.checks if not check.same] == ["val loss"]
    assert found.kept
    assert stamps(db, found.run_id) == (f"reproduces={run_id}", DIFFERS)
    assert f"run {run_id} is not reproduced: val loss differs first in epoch 2 (" in found.verdict
    assert "code version, environment, threads and device are the same" in found.verdict
    assert found.verdict.endswith(f"; run {found.run_id} is kept")
    # The evidence stays, and asking again is a new attempt.
    again = reproduce(db, run_id, device="cpu")
    assert again.run_id not in (run_id, found.run_id)
    assert {run_id, found.run_id, again.run_id} <= set(run_ids(db))


def test_what_may_explain_a_difference(db: Database, lstm: int) -> None:
    run_id = trained(db, "copy-last", 9)
    sql(db, "UPDATE run_metric SET value = 2 WHERE run_id = %s AND name = 'cosine'", run_id)
    sql(db, "DELETE FROM run_metric WHERE run_id = %s AND name = 'mse'", run_id)
    sql(
        db,
        "UPDATE experiment_run SET code_version = repeat('ab', 20), device = 'mps', environment = "
        'environment || \'{"torch_threads": 0, "processor": "Z80"}\' WHERE run_id = %s',
        run_id,
    )
    found = reproduce(db, run_id, device="cpu")
    assert [name for name, _, _ in found.conditions] == [
        "torch_threads", "code_version", "device", "processor"
    ]  # fmt: skip
    assert "what may explain it: torch_threads (0 then, " in found.verdict
    assert "code_version (abababababab then, " in found.verdict
    assert "device (mps then, cpu now)" in found.verdict
    assert "\n" not in found.verdict
    mse = named(found)["val mse"]
    assert (mse.original, mse.same) == (None, False)


def test_other_weights_and_an_evaluation_that_differs(db: Database) -> None:
    run_id = trained(db, "copy-last", 10)
    Evaluator(db, device="cpu").evaluate(run_id)
    sql(
        db,
        "UPDATE evaluation SET value = value / 2 WHERE run_id = %s AND metric = 'cosine'",
        run_id,
    )
    sql(db, "UPDATE evaluation SET version = 99 WHERE run_id = %s AND metric = 'mse'", run_id)
    sql(
        db,
        "UPDATE evaluation SET pool_fingerprint = 'x' WHERE run_id = %s AND metric = 'recall@5' "
        "AND pool = 'corpus'",
        run_id,
    )
    found = reproduce(db, run_id, device="cpu")
    checks = named(found)
    assert found.first_difference == checks["test cosine, pool corpus"]
    assert (
        checks["test mse, pool corpus"].note == "version 99 of the metric is not computed any more"
    )
    assert (checks["test recall@5, pool corpus"].note or "").startswith("other pool")
    assert checks["test mse, pool corpus"].same is checks["test recall@5, pool corpus"].same is None
    sql(db, "UPDATE checkpoint SET sha256 = 'x' WHERE run_id = %s", run_id)
    found = reproduce(db, run_id, device="cpu")
    assert found.first_difference == named(found)["best checkpoint"]
    assert (named(found)["test margin, pool corpus"].note or "").startswith("the original's is of")


@pytest.mark.parametrize("broken", [Trainer, Evaluator])
def test_an_interrupted_one_goes_on(
    db: Database, lstm: int, monkeypatch: pytest.MonkeyPatch, broken: type
) -> None:
    name = "_validate" if broken is Trainer else "evaluate"
    real, calls = getattr(broken, name), 0

    def interrupted(self: object, *arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return real(self, *arguments)

    before = run_ids(db)
    monkeypatch.setattr(broken, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        reproduce(db, lstm, device="cpu")
    (begun,) = set(run_ids(db)) - set(before)
    assert stamps(db, begun) == (f"reproduces={lstm}",)
    assert runs.get(db, begun).status == ("failed" if broken is Trainer else "succeeded")
    found = reproduce(db, lstm, device="cpu")
    assert found.run_id == begun
    assert found.first_difference is None
    assert run_ids(db) == before


def test_a_cancelled_one_is_left(db: Database) -> None:
    run_id = trained(db, "random", 11)
    fixed = stamps(db, run_id)
    left = plan(db, "random", "s", {}, seed=11)
    sql(
        db,
        "UPDATE experiment_run SET status = 'cancelled', stamps = %s WHERE run_id = %s",
        [f"reproduces={run_id}"],
        left,
    )
    assert reproduce(db, run_id, device="cpu").run_id != left
    assert runs.get(db, left).status == "cancelled"
    assert stamps(db, run_id) == fixed


def test_one_that_has_a_place_in_a_schedule_is_left_to_it(db: Database) -> None:
    run_id = trained(db, "random", 14)
    with db.begin() as connection:
        placed = begin(connection, runs.read(connection, run_id), schedule_week=5)
        other = copy(connection, runs.read(connection, run_id), seed=15)
    assert stamps(db, placed) == (f"reproduces={run_id}",)
    assert reproduce(db, run_id, device="cpu").run_id not in (placed, other)
    assert runs.get(db, placed).status == "planned"
    assert (runs.get(db, other).seed, stamps(db, other)) == (15, ())


def test_stamps_of_the_original_stay(db: Database) -> None:
    run_id = trained(db, "random", 12)
    sql(db, "UPDATE experiment_run SET stamps = '{scope=corpus}' WHERE run_id = %s", run_id)
    found = reproduce(db, run_id, device="cpu", keep=True)
    assert stamps(db, found.run_id) == ("scope=corpus", f"reproduces={run_id}", IDENTICAL)


def test_as_many_threads_as_then(db: Database) -> None:
    before = torch.get_num_threads()
    run_id = trained(db, "random", 13)
    sql(
        db,
        "UPDATE experiment_run SET environment = jsonb_set(environment, '{torch_threads}', '3') "
        "WHERE run_id = %s",
        run_id,
    )
    found = reproduce(db, run_id, device="cpu", keep=True)
    assert torch.get_num_threads() == before
    assert found.conditions == []
    assert sql(
        db,
        "SELECT environment ->> 'torch_threads' FROM experiment_run WHERE run_id = %s",
        found.run_id,
    ) == [("3",)]


def test_what_cannot_be_reproduced(db: Database, lstm: int) -> None:
    planned = plan(db, "copy-last", "s", {}, seed=20)
    child, ensemble, elsewhere = (trained(db, "copy-last", seed) for seed in (21, 22, 23))
    sql(db, "UPDATE experiment_run SET parent_run_id = %s WHERE run_id = %s", lstm, child)
    sql(db, "UPDATE experiment_run SET kind = 'ensemble' WHERE run_id = %s", ensemble)
    before = run_ids(db)
    with pytest.raises(RunError, match=f"run {planned} is planned: 'lvmdb train"):
        reproduce(db, planned)
    with pytest.raises(RunError, match=f"run {child} went on from run {lstm}"):
        reproduce(db, child)
    with pytest.raises(RunError, match="is an ensemble, which is not trained"):
        reproduce(db, ensemble)
    if not torch.cuda.is_available():
        sql(db, "UPDATE experiment_run SET device = 'cuda' WHERE run_id = %s", elsewhere)
        with pytest.raises(ModelError, match="no CUDA device is there; use --device cpu"):
            reproduce(db, elsewhere)
    swap = (
        "SET session_replication_role = replica; UPDATE cpe_entry "
        "SET concept_vec = array_fill(0, '{768}')::vector - concept_vec WHERE seq = 0"
    )
    sql(db, swap)
    try:
        with pytest.raises(SequenceError, match="is not what was frozen"):
            reproduce(db, lstm)
    finally:
        sql(db, swap)
    assert run_ids(db) == before


def test_the_command(
    db: Database,
    lstm: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LVMDB_DSN", db.dsn)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lvmdb", "runs", *arguments])
        with pytest.raises(SystemExit) as ended:
            program.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    code, out, err = call("reproduce", str(lstm))
    assert code == 0
    assert "best checkpoint" in out
    assert f"run {lstm} is reproduced bit for bit" in err
    run_id = trained(db, "copy-last", 30)
    sql(db, "UPDATE run_metric SET value = .5 WHERE run_id = %s AND name = 'cosine'", run_id)
    code, out, err = call("reproduce", str(run_id), "--format", "json", "-q")
    assert code == 1
    assert err.startswith(f"lvmdb: run {run_id} is not reproduced: val cosine differs first")
    assert err.count("\n") == 1
    (wrong,) = (row for row in json.loads(out) if row["same"] is False)
    assert wrong["original"] == 0.5
    kept = run_ids(db)[-1]
    code, out, err = call("diff", str(run_id), str(kept), "--format", "json")
    assert (code, err) == (0, "")
    assert [row["item"] for row in json.loads(out)] == ["run", "stamps"]
