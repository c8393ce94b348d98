"""Reports about runs: where a number comes from, and which runs reach what was wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db import checkpoints, runs
from lvmdb.db.checkpoints import Checkpoint
from lvmdb.db.engine import Database
from lvmdb.reports.named import run_report
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training.plan import plan
from lvmdb.training.train import train

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]
Evaluated = Callable[..., None]


@pytest.fixture
def run_id(db: Database, corpus: Corpus, sequence_set: MakeSet) -> int:
    """A trained `copy-last` on the set `s`."""
    corpus([6] * 10)
    sequence_set()
    new = plan(db, "copy-last", "s", {}, seed=5)
    train(db, new, device="cpu")
    return new


@pytest.fixture
def evaluated(sql: Sql) -> Evaluated:
    """`evaluated(run_id, "cosine", .6)`: a value of the run's best weights, as it is stored."""

    def write(
        run_id: int,
        metric: str,
        value: float,
        *,
        split: str = "test",
        pool: str = "corpus",
        version: int = 1,
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        sql(
            "INSERT INTO evaluation (run_id, split, pool, metric, version, value, low, high, "
            "direction, pool_size, pool_fingerprint, queries, distinct_truths, chance, "
            "checkpoint_sha256, code_version) SELECT r.run_id, %s, %s, %s, %s, %s, %s, %s, 1, 60, "
            "'x', 8, 8, .1, c.sha256, r.code_version FROM experiment_run r "
            "LEFT JOIN checkpoint c ON c.run_id = r.run_id AND c.kind = 'best' "
            "WHERE r.run_id = %s",
            [split, pool, metric, version, value, low, high, run_id],
        )

    return write


def page(db: Database, run_id: int | None = None) -> dict[str, dict[str, str]]:
    """The lineage by section and item."""
    found: dict[str, dict[str, str]] = {}
    for row in run_report(db, "lineage", run_id=run_id).rows:
        assert row["item"] not in found.setdefault(row["section"], {}), row
        found[row["section"]][row["item"]] = row["value"]
    return found


def test_lineage_is_one_page(db: Database, run_id: int, evaluated: Evaluated, sql: Sql) -> None:
    evaluated(run_id, "cosine", 0.5231234, low=0.51, high=0.54)
    evaluated(run_id, "recall@5", 0.25, split="val")
    found = page(db, run_id)
    ((fingerprint, sha256, size),) = sql(
        "SELECT encode(sequence_fingerprint, 'hex'), encode(sha256, 'hex'), bytes "
        "FROM experiment_run JOIN checkpoint USING (run_id)"
    )
    assert list(found) == ["run", "code", "data", "machine", "model", "weights", "evaluation"]
    assert found["run"]["architecture"] == "copy-last (baseline)"
    assert found["run"]["seed"] == "5"
    assert found["run"]["stamps"] == "none"
    assert found["code"]["version"]
    sql("UPDATE experiment_run SET code_dirty = false")
    assert page(db, run_id)["code"]["uncommitted changes"] == "no"
    sql("UPDATE experiment_run SET code_dirty = NULL")
    assert page(db, run_id)["code"]["uncommitted changes"].startswith("unknown")
    assert found["data"]["fingerprint"] == fingerprint
    assert found["data"]["its fingerprint now"] == "the same"
    assert found["data"]["counts"].startswith("10 articles, 60 concepts; windows: train ")
    assert found["data"]["scope"] == "article"
    assert found["data"]["leaks"]
    assert found["machine"]["device"] == "cpu"
    assert found["machine"]["torch threads"].isdigit()
    assert "torch 2" in found["machine"]["packages"]
    assert found["model"]["context_len"] == "2"
    assert found["weights"] == {"best checkpoint": f"epoch 1, {size} bytes, sha256 {sha256}"}
    code = found["code"]["version"][:16]
    assert found["evaluation"] == {
        "test cosine (version 1, pool corpus)": (
            f"0.523123 [0.510000, 0.540000], weights {sha256[:16]}, code {code}"
        ),
        "val recall@5 (version 1, pool corpus)": f"0.250000, weights {sha256[:16]}, code {code}",
    }


def test_what_does_not_belong_together_is_seen(
    db: Database, run_id: int, evaluated: Evaluated, sql: Sql
) -> None:
    evaluated(run_id, "cosine", 0.5)
    with db.begin() as connection:
        checkpoints.save(
            connection, run_id, Checkpoint("best", 2, 2, "copy-last", {}, {}, b"other")
        )
    sql("UPDATE experiment_run SET code_version = 'abc', code_dirty = true")
    sql(
        "SET session_replication_role = replica; UPDATE experiment_run "
        "SET sequence_fingerprint = 'x', seen_fingerprint = 'x'"
    )
    found = page(db)
    (value,) = found["evaluation"].values()
    assert "OF OTHER WEIGHTS" in value
    assert value.endswith("(not that of training)")
    assert found["code"]["uncommitted changes"].startswith("YES")
    assert found["data"]["its fingerprint now"].startswith("ANOTHER: ")


def test_the_chain_of_parents(db: Database, run_id: int, sql: Sql) -> None:
    middle, last = (plan(db, "context-mean", "s", {}, seed=seed) for seed in (1, 2))
    sql("UPDATE experiment_run SET parent_run_id = %s WHERE run_id = %s", [run_id, middle])
    sql("UPDATE experiment_run SET parent_run_id = %s WHERE run_id = %s", [middle, last])
    with db.begin() as connection:
        run = runs.read(connection, run_id)
        again = runs.create(
            connection,
            kind=run.kind,
            architecture=run.architecture,
            hyperparameters=run.hyperparameters,
            loss=run.loss,
            sequence_set_id=run.sequence_set_id,
            sequence_fingerprint=run.sequence_fingerprint,
            seed=run.seed,
            stamps=[f"reproduces={last}"],
        )
    origin = page(db, last)["origin"]
    assert list(origin) == ["parent 1", "parent 2", "trained again as"]
    assert origin["parent 1"].startswith(f"run {middle}: context-mean, seed 1, planned")
    assert origin["parent 2"].startswith(f"run {run_id}: copy-last, seed 5, succeeded")
    assert origin["trained again as"] == f"run {again}: reproduces={last}"
    # A chain that bites its tail is no endless one.
    sql("UPDATE experiment_run SET parent_run_id = %s WHERE run_id = %s", [last, run_id])
    assert len(page(db, last)["origin"]) == 4
    # Without a choice it is the newest run.
    assert page(db)["run"]["run"] == str(again)


def test_lineage_without_runs(db: Database) -> None:
    assert run_report(db, "lineage").rows == []
    assert run_report(db, "targets").rows == []


def test_targets(db: Database, run_id: int, evaluated: Evaluated, sql: Sql) -> None:
    plan(db, "context-mean", "s", {})
    evaluated(run_id, "cosine", 0.7)
    evaluated(run_id, "cosine", 0.9, split="val")
    evaluated(run_id, "cosine", 0.9, pool="article")
    evaluated(run_id, "mse_sum", 0.1, version=1)
    evaluated(run_id, "mse_sum", 0.19, version=2)
    sql("UPDATE experiment_run SET started_at = finished_at - interval '90 minutes'")
    sql("INSERT INTO success_target VALUES ('exactly', 'cosine', '>=', .7, '', 'a row added')")

    def verdicts() -> dict[str, tuple[Any, ...]]:
        rows = run_report(db, "targets", run_id=run_id).rows
        assert rows == run_report(db, "targets").rows
        return {row["target"]: (row["wanted"], row["reached"], row["verdict"]) for row in rows}

    assert verdicts() == {
        "cosine": ("> 0.85", 0.7, "not met"),
        "cosine-minimum": ("> 0.7", 0.7, "not met"),
        "exactly": (">= 0.7", 0.7, "met"),
        "mse": ("< 0.2", 0.19, "met"),
        "training-time": ("< 1 h", 1.5, "not met"),
        "decoded": ("> 0.75", None, "not measured"),
        "decoded-minimum": ("> 0.5", None, "not measured"),
        "latency": ("< 100 ms", None, "not measured"),
    }
    # What other weights reached counts for nothing.
    with db.begin() as connection:
        checkpoints.save(
            connection, run_id, Checkpoint("best", 2, 2, "copy-last", {}, {}, b"other")
        )
    assert {verdicts()[name][2] for name in ("cosine", "exactly", "mse")} == {"not measured"}
