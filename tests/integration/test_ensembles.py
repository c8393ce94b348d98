"""Ensembles: runs made of runs, from their plan to their row on the leaderboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from asking import ask
from scipy.optimize import nnls

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db import needed, runs
from lvmdb.db.engine import Database
from lvmdb.errors import (
    ModelError,
    RunError,
    RunWaitsError,
    SequenceError,
    UnknownNameError,
    UsageError,
)
from lvmdb.evaluation import ensembles
from lvmdb.evaluation.evaluate import Evaluator
from lvmdb.evaluation.predictor import load_predictor
from lvmdb.evaluation.reproduce import reproduce
from lvmdb.reports.comparison import compare
from lvmdb.reports.named import listing, run_report
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSpec
from lvmdb.sequences.stream import SequenceStream, StreamOptions
from lvmdb.training.plan import plan
from lvmdb.training.train import train

Fresh = Callable[..., AbstractContextManager[Database]]
MakeArticles = Callable[..., list[VectorArticle]]
Rows = list[tuple[Any, ...]]

MEMBERS = ("copy-last", "context-mean", "lag-weights")


@pytest.fixture(scope="module")
def db(fresh_database: Fresh, make_articles: MakeArticles) -> Iterator[Database]:
    """A database with a corpus, a set `s` over it, another one, and three fitted baselines."""
    with fresh_database() as database:
        articles = make_articles([9] * 14, walk=True)
        with database.begin() as connection:
            encoder_id = encoders.register_imported(connection, "test-encoder")
            ensure_dataset(connection, "wiki", encoder_id)
            hashes = [import_hash(article) for article in articles]
            store(connection, "wiki", encoder_id, articles, hashes)
        fractions = (Decimal("0.6"), Decimal("0.2"), Decimal("0.2"))
        sets.create(database, SequenceSpec("s", "wiki", context_len=2, fractions=fractions))
        whole = (Decimal(1), Decimal(0), Decimal(0))
        sets.create(database, SequenceSpec("t", "wiki", context_len=2, fractions=whole))
        for name in MEMBERS:
            train(database, plan(database, name, "s", {}), device="cpu")
        yield database


def sql(db: Database, statement: str, *parameters: object) -> Rows:
    return ask(db, statement, parameters or None)


def predicted(db: Database, run_id: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """What a run predicts for a split, and the truth, `(windows, 768)` each, in corpus order."""
    run = runs.get(db, run_id)
    with db.connect() as connection:
        sequences = sets.get_by_id(connection, run.sequence_set_id)
    predictor = load_predictor(db, run, sequences, torch.device("cpu"))
    batches = list(SequenceStream(db, sequences, split, StreamOptions(batch_size=7)))
    found = torch.cat([predictor.predict(batch) for batch in batches]).numpy()
    article, seq, target = (
        torch.cat([getattr(batch, name) for batch in batches]).numpy()
        for name in ("article_id", "target_seq", "target")
    )
    order = np.lexsort((seq, article))
    return found[order], target[order]


def unit(vectors: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def fitted(db: Database, name: str, method: str) -> int:
    run_id = ensembles.create(db, name, [1, 2, 3], method)
    assert ensembles.fit(db, run_id, device="cpu").trained
    return run_id


def weights(db: Database, run_id: int) -> list[float]:
    rows = sql(
        db,
        "SELECT weight FROM ensemble_member WHERE ensemble_run_id = %s ORDER BY member_run_id",
        run_id,
    )
    return [row[0] for row in rows]


def test_a_mean_is_the_mean_of_its_members(db: Database) -> None:
    run_id = fitted(db, "a-mean", "mean")
    expected = sum(unit(predicted(db, member, "val")[0]) for member in (1, 2, 3)) / 3
    found, truth = predicted(db, run_id, "val")
    assert np.allclose(found, expected, atol=1e-6)
    # What validation measured is of that, and the row says what ran.
    cosine = float((unit(found) * truth).sum(1).mean())
    assert sql(
        db,
        "SELECT name, split, epoch, abs(value - %s) < 1e-6 FROM run_metric "
        "WHERE run_id = %s AND name = 'cosine'",
        *(cosine, run_id),
    ) == [("cosine", "val", 1, True)]
    assert sql(
        db,
        "SELECT kind, architecture, status, loss, device, kernel, parameter_count, "
        "code_version IS NOT NULL, environment ? 'torch_threads', "
        "seen_fingerprint = sequence_fingerprint, hyperparameters, stamps FROM experiment_run "
        "WHERE run_id = %s",
        run_id,
    ) == [
        ("ensemble", "ensemble", "succeeded", None, "cpu", "torch", 2, True, True, True,
         {"name": "a-mean", "method": "mean"}, [])
    ]  # fmt: skip
    assert weights(db, run_id) == [1 / 3] * 3
    assert not ensembles.fit(db, run_id).trained


def test_weights_are_fitted_on_the_validation_split(db: Database) -> None:
    run_id = fitted(db, "weighed", "weighted")
    members = [predicted(db, member, "val") for member in (1, 2, 3)]
    table = np.stack([unit(found).ravel() for found, _ in members], axis=1).astype(np.float64)
    expected, _ = nnls(table, members[0][1].ravel().astype(np.float64))
    assert weights(db, run_id) == pytest.approx(expected.tolist(), abs=1e-5)
    # The walk has no memory beyond its last step, so that copying it is all that counts; least
    # squares alone would bet against the others.
    assert expected[0] > 0.5
    assert np.linalg.lstsq(table, members[0][1].ravel())[0].min() < 0
    test = sum(
        w * unit(predicted(db, m, "test")[0]) for w, m in zip(expected, (1, 2, 3), strict=True)
    )
    assert np.allclose(predicted(db, run_id, "test")[0], test, atol=1e-5)


def test_members_vote_for_concepts_that_were_not_read(db: Database) -> None:
    run_id = fitted(db, "elected", "vote")
    pool = np.array(
        sql(db, "SELECT concept_vec::real[] FROM cpe_entry JOIN article USING (article_id) "
                "ORDER BY ordinal, seq"),
        dtype=np.float32,
    )[:, 0]  # fmt: skip
    windows = sql(
        db,
        "SELECT array_agg(ordinal * 9 + seq ORDER BY seq), min(target) FROM (SELECT w.target_seq "
        "+ 9 * a.ordinal AS target, a.ordinal, c.seq FROM training_sequence w "
        "JOIN sequence_set s USING (sequence_set_id) JOIN article a ON a.article_id = w.article_id "
        "JOIN cpe_entry c ON c.cpe_id = ANY (w.context_cpe_ids) "
        "WHERE s.name = 's' AND w.split = 'test') x GROUP BY target ORDER BY target",
    )
    assert len(windows) > 10
    ballots = []
    for member in (1, 2, 3):
        scores = unit(predicted(db, member, "test")[0]) @ pool.T
        for row, (context, _) in enumerate(windows):
            scores[row, context] = -1
        ballots.append(scores.argmax(1))
    found = (predicted(db, run_id, "test")[0] @ pool.T).argmax(1)
    votes = np.stack(ballots, axis=1)
    for elected, cast, (context, _) in zip(found, votes, windows, strict=True):
        counts = np.bincount(cast)
        assert counts[elected] == counts.max()
        assert elected not in context
    # A truth may be elected, and here some are.
    assert any(elected == target for elected, (_, target) in zip(found, windows, strict=True))


def test_an_ensemble_is_a_run_like_any_other(db: Database) -> None:
    run_id = fitted(db, "like-any-other", "weighted")
    evaluator = Evaluator(db, device="cpu")
    for each in (1, 2, 3, run_id):
        evaluator.evaluate(each)
    assert evaluator.done(run_id)
    rows = {row["run"]: row for row in run_report(db, "leaderboard").rows}
    assert rows[run_id]["architecture"] == "ensemble"
    assert "other-weights" not in rows[run_id]["flags"]
    assert rows[run_id]["best_baseline"] in MEMBERS
    assert rows[run_id]["verdict"] is not None
    assert float(rows[run_id]["cosine"]) >= max(float(rows[member]["cosine"]) for member in (1, 2))
    page = run_report(db, "lineage", run_id=run_id).rows
    origin = [row["value"] for row in page if row["section"] == "origin"]
    assert [line.partition(", weight")[0] for line in origin] == [
        f"run {number}: {name}" for number, name in enumerate(MEMBERS, start=1)
    ]
    _, (shown,) = listing(db, "runs", "show_run", {"run_id": run_id})
    assert shown["members"].startswith("1 (weight ")
    items = {line.item: (line.a, line.b) for line in compare(db, run_id, 1) if line.differs}
    assert items["architecture"] == ("ensemble", "copy-last")
    assert str(items["members"][0]).startswith("1 (weight ")
    with pytest.raises(RunError, match="is an ensemble, which is not trained"):
        reproduce(db, run_id)
    with pytest.raises(RunError, match=r"run 2 cannot be deleted: it is a member of ensemble \d+"):
        runs.remove(db, 2)
    runs.remove(db, run_id)
    assert sql(db, "SELECT count(*) FROM ensemble_member WHERE ensemble_run_id = %s", run_id) == [
        (0,)
    ]


def test_an_ensemble_waits_for_its_members_and_records_no_failure(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = plan(db, "train-mean", "s", {})
    run_id = ensembles.create(db, "later", [1, later])
    with pytest.raises(RunError, match=f"run {later}, a member of ensemble {run_id}, is planned"):
        ensembles.fit(db, run_id, device="cpu")
    assert runs.get(db, run_id).status == "planned"
    sql(db, "UPDATE experiment_run SET status = 'running' WHERE run_id = %s", later)
    with pytest.raises(RunWaitsError, match=f"run {later}, a member of ensemble {run_id}, is run"):
        ensembles.fit(db, run_id, device="cpu")
    with db.connect() as connection:
        assert needed.awaited(connection, run_id) == later
    monkeypatch.setattr(needed, "SILENT_AFTER", 0.5)
    silent = "UPDATE experiment_run SET heartbeat_at = now() - interval '1 min' WHERE run_id = %s"
    sql(db, silent, later)
    with pytest.raises(RunError, match="its process is gone: 'lvmdb train --run-id") as caught:
        ensembles.fit(db, run_id, device="cpu")
    assert not isinstance(caught.value, RunWaitsError)
    sql(
        db,
        "UPDATE experiment_run SET status = 'failed', error = 'x' WHERE run_id = %s",
        later,
    )
    with pytest.raises(RunError, match=f"run {later}, a member of ensemble {run_id}, is failed"):
        ensembles.fit(db, run_id, device="cpu")
    with pytest.raises(RunError, match=f"run {later} is failed: 'lvmdb runs retry {later}'"):
        ensembles.create(db, "another", [1, later])
    runs.retry(db, later)
    train(db, later, device="cpu")
    assert ensembles.fit(db, run_id, device="cpu").trained
    runs.cancel(db, waiting := ensembles.create(db, "cancelled", [1, 2]))
    with pytest.raises(RunError, match="was cancelled"):
        ensembles.fit(db, waiting)


@pytest.mark.parametrize(
    ("change", "undo", "told"),
    [
        (
            "UPDATE ensemble_member SET weight = weight + .1 WHERE member_run_id = 1",
            "UPDATE ensemble_member SET weight = 1.0 / 2 WHERE ensemble_run_id = %s",
            "its method or weights are others than then",
        ),
        (
            "UPDATE experiment_run SET hyperparameters = hyperparameters || "
            """'{"method": "vote"}' WHERE run_id = %s""",
            "UPDATE experiment_run SET hyperparameters = hyperparameters || "
            """'{"method": "mean"}' WHERE run_id = %s""",
            "its method or weights are others than then",
        ),
    ],
)
def test_an_ensemble_that_was_tampered_with_is_refused(
    db: Database, change: str, undo: str, told: str
) -> None:
    name = f"tampered-{len(change)}"
    run_id = ensembles.create(db, name, [1, 2])
    ensembles.fit(db, run_id, device="cpu")
    for statement in (change, undo):
        sql(db, statement, *[run_id] * statement.count("%s"))
        if statement is change:
            with pytest.raises(
                ModelError, match=f"ensemble {run_id} is not what was fitted: {told}"
            ):
                Evaluator(db, device="cpu").evaluate(run_id)
    assert predicted(db, run_id, "test")[0].any()


def test_a_member_with_other_weights_than_then_is_refused(db: Database) -> None:
    member = plan(db, "lag-weights", "s", {}, seed=1)
    train(db, member, device="cpu")
    run_id = ensembles.create(db, "swapped", [1, member])
    ensembles.fit(db, run_id, device="cpu")
    other = plan(db, "train-mean", "s", {}, seed=1)
    train(db, other, device="cpu")
    # The weights of another run in its place, with a hash that is true.
    sql(
        db,
        "UPDATE checkpoint SET (sha256, bytes) = (SELECT sha256, bytes FROM checkpoint "
        "WHERE run_id = %s), architecture = 'train-mean' WHERE run_id = %s",
        other,
        member,
    )
    sql(
        db,
        "UPDATE checkpoint_chunk SET data = (SELECT data FROM checkpoint_chunk JOIN checkpoint "
        "USING (checkpoint_id) WHERE run_id = %s) WHERE checkpoint_id = "
        "(SELECT checkpoint_id FROM checkpoint WHERE run_id = %s)",
        other,
        member,
    )
    sql(
        db,
        "UPDATE checkpoint SET config = config - 'max_iterations' - 'tolerance' WHERE run_id = %s",
        member,
    )
    with pytest.raises(ModelError, match=f"the weights of run {member} are others than then"):
        Evaluator(db, device="cpu").evaluate(run_id)


def test_what_cannot_be_an_ensemble(db: Database) -> None:
    other = plan(db, "copy-last", "t", {})
    taken = ensembles.create(db, "taken", [1, 2])
    before = sql(db, "SELECT count(*) FROM experiment_run")
    for arguments, kind, told in (
        (("x", [1]), UsageError, "two runs at least"),
        (("x", [1, 2, 1]), UsageError, "--members names run 1 twice"),
        (("x", [1, 2], "median"), UsageError, "--method is mean, weighted or vote, not 'median'"),
        (("No Name", [1, 2]), UsageError, "cannot name an ensemble"),
        (("x", [1, 999]), UnknownNameError, "unknown run '999'"),
        (("x", [1, taken]), RunError, f"run {taken} is an ensemble: name its members"),
        (("x", [1, other]), RunError, f"runs 1 and {other} are on two sequence sets"),
        (("taken", [1, 3]), RunError, f"there is an ensemble 'taken' already \\(run {taken}\\)"),
    ):
        with pytest.raises(kind, match=told):
            ensembles.create(db, *arguments)
    assert sql(db, "SELECT count(*) FROM experiment_run") == before


def test_without_validation_windows_there_are_no_weights(db: Database) -> None:
    members = [plan(db, name, "t", {}) for name in ("copy-last", "context-mean")]
    for member in members:
        train(db, member, device="cpu")
    weighted = ensembles.create(db, "no-weights", members, "weighted")
    with pytest.raises(SequenceError, match="use --method mean or vote"):
        ensembles.fit(db, weighted, device="cpu")
    assert runs.get(db, weighted).status == "failed"
    mean = ensembles.create(db, "mean-alone", members)
    assert ensembles.fit(db, mean, device="cpu").trained
    assert sql(db, "SELECT count(*) FROM run_metric WHERE run_id = %s", mean) == [(0,)]
