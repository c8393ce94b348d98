"""What differs between two runs, and which of their results can be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db import checkpoints, runs
from lvmdb.db.checkpoints import Checkpoint
from lvmdb.db.engine import Database
from lvmdb.db.runs import Metric
from lvmdb.errors import UnknownNameError, UsageError
from lvmdb.metrics.intervals import difference_interval
from lvmdb.reports.comparison import Line, compare
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training.plan import plan
from lvmdb.training.train import train

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]
Evaluated = Callable[..., int]

ARTICLES = 8


@pytest.fixture(autouse=True)
def _data(corpus: Corpus, sequence_set: MakeSet) -> None:
    corpus([6] * ARTICLES)
    sequence_set()


@pytest.fixture
def evaluated(sql: Sql) -> Evaluated:
    """`evaluated(run_id, "mse", [.1, .2])`: an evaluation with these sums of its articles."""

    def write(
        run_id: int,
        metric: str,
        totals: Sequence[float],
        *,
        direction: int = 1,
        split: str = "test",
        pool: str = "corpus",
        fingerprint: str = "x",
        version: int = 1,
        by_article: bool = True,
    ) -> int:
        ((evaluation_id,),) = sql(
            "INSERT INTO evaluation (run_id, split, pool, metric, version, value, direction, "
            "pool_size, pool_fingerprint, queries, distinct_truths, chance, checkpoint_sha256) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, 48, convert_to(%s, 'UTF8'), 8, 8, .1, "
            "(SELECT sha256 FROM checkpoint WHERE run_id = %s AND kind = 'best')) "
            "RETURNING evaluation_id",
            [run_id, split, pool, metric, version, sum(totals) / len(totals), direction,
             fingerprint, run_id],
        )  # fmt: skip
        if by_article:
            sql(
                "INSERT INTO evaluation_article SELECT %s, article_id, t.total, 1 "
                "FROM unnest(%s::float8[]) WITH ORDINALITY t (total, place) JOIN "
                "(SELECT article_id, row_number() OVER (ORDER BY ordinal) AS place FROM article) a "
                "USING (place)",
                [evaluation_id, list(totals)],
            )
        return int(evaluation_id)

    return write


def differing(db: Database, a: int, b: int) -> dict[str, Line]:
    return {line.item: line for line in compare(db, a, b) if line.differs}


def test_what_was_asked_for(db: Database) -> None:
    a = plan(db, "lstm", "s", {"hidden": 8, "epochs": 1}, seed=1)
    b = plan(db, "lstm", "s", {"hidden": 16, "epochs": 1}, seed=2, loss="cosine")
    found = {name: (line.part, line.a, line.b) for name, line in differing(db, a, b).items()}
    assert found == {
        "run": ("run", a, b),
        "loss": ("configuration", "mse", "cosine"),
        "seed": ("configuration", 1, 2),
        "hidden": ("configuration", 8, 16),
    }
    everything = {line.item: line for line in compare(db, a, b)}
    assert everything["epochs"] == Line("configuration", "epochs", 1, 1)
    assert everything["fingerprint"].a == everything["fingerprint"].b
    assert everything["code_version"].a is None


def test_options_that_one_has(db: Database) -> None:
    found = differing(db, plan(db, "copy-last", "s", {}), plan(db, "lstm", "s", {"hidden": 8}))
    assert (found["hidden"].a, found["hidden"].b) == (None, 8)
    assert (found["architecture"].a, found["kind"].a) == ("copy-last", "baseline")


def test_data_code_and_machine(db: Database, sequence_set: MakeSet, sql: Sql) -> None:
    sequence_set("other", seed=1)
    a, b = plan(db, "copy-last", "s", {}), plan(db, "copy-last", "other", {})
    for run_id in (a, b):
        train(db, run_id, device="cpu")
    assert differing(db, a, b).keys() == {"run", "sequence_set", "fingerprint"}
    sql(
        "UPDATE experiment_run SET code_version = 'abc', code_dirty = NOT coalesce(code_dirty, "
        "false), device = 'cuda', kernel = 'other', environment = jsonb_set(jsonb_set(environment, "
        "'{torch_threads}', '99'), '{packages,torch}', '\"1.0\"') WHERE run_id = %s",
        [b],
    )
    found = differing(db, a, b)
    assert {(found[name].part, found[name].b) for name in
            ("code_version", "device", "kernel", "torch_threads", "packages.torch")} == {
        ("code", "abc"), ("machine", "cuda"), ("machine", "other"), ("machine", 99),
        ("machine", "1.0"),
    }  # fmt: skip
    assert "uncommitted_changes" in found


def losses(db: Database, run_id: int, *values: float) -> None:
    with db.begin() as connection:
        metrics = [Metric("loss", "val", n, n, value) for n, value in enumerate(values, 1)]
        runs.write_metrics(connection, run_id, metrics)


def test_validation_losses(db: Database, sequence_set: MakeSet) -> None:
    sequence_set("other", seed=1)
    a, b, c = (plan(db, "lstm", "s", {}, seed=seed) for seed in (1, 2, 3))
    cosine, elsewhere = plan(db, "lstm", "s", {}, loss="cosine"), plan(db, "lstm", "other", {})
    for run_id, values in ((a, (3, 1, 2)), (b, (4, 3, 1.5)), (cosine, (1,)), (elsewhere, (1,))):
        losses(db, run_id, *values)
    name = "best validation loss"
    assert differing(db, a, b)[name] == Line("result", name, 1, 1.5, -0.5)
    assert (differing(db, a, b)["its epoch"].a, differing(db, a, b)["its epoch"].b) == (2, 3)
    for other, note in (
        (c, "only a was measured"),
        (cosine, "not comparable: other loss"),
        (elsewhere, "not comparable: other data"),
    ):
        line = differing(db, a, other)[name]
        assert (line.difference, line.note) == (None, note)


def test_differences_have_intervals(db: Database, evaluated: Evaluated) -> None:
    a, b = plan(db, "copy-last", "s", {}), plan(db, "context-mean", "s", {})
    low = np.random.default_rng(0).uniform(0.1, 0.2, ARTICLES)
    high, near = low + 0.1, low + np.resize([0.05, -0.04], ARTICLES)
    for metric, direction, mine, theirs in (
        ("cosine", 1, high, low),
        ("mse", -1, high, low),
        ("recall@5", 1, low, near),
        ("margin", 0, high, low),
        ("same", 1, low, low),
        ("few", 1, high[:3], low[:3]),
    ):
        for run_id, totals in ((a, mine), (b, theirs)):
            evaluated(run_id, metric, totals.tolist(), direction=direction)
    found = {line.item: line for line in compare(db, a, b) if line.part == "result"}
    notes = {name.removesuffix(", test"): line.note for name, line in found.items()}
    assert notes == {
        "cosine": "a is better",
        "mse": "a is worse",
        "recall@5": "not distinguishable",
        "margin": "a gauge: decides nothing",
        "same": "not distinguishable",
        "few": "too few articles",
    }
    line, ones = found["recall@5, test"], np.ones(ARTICLES)
    assert (line.low, line.high) == difference_interval(low, ones, near, ones)
    assert line.difference == pytest.approx((low - near).mean())
    assert found["few, test"].low is found["few, test"].high is None
    assert not found["same, test"].differs
    # The other way round it is the same distance, and the other is better.
    turned = {line.item: line for line in compare(db, b, a)}["cosine, test"]
    assert turned.note == "a is worse"
    assert (turned.low, turned.high) == pytest.approx((-0.1, -0.1))


def test_what_cannot_be_compared_is_said(
    db: Database, sequence_set: MakeSet, evaluated: Evaluated
) -> None:
    sequence_set("other", seed=1)
    a, b = plan(db, "copy-last", "s", {}), plan(db, "context-mean", "s", {})
    elsewhere = plan(db, "copy-last", "other", {})
    totals = [0.5] * ARTICLES
    for run_id in (a, elsewhere):
        evaluated(run_id, "cosine", totals)
    evaluated(b, "cosine", totals, fingerprint="y")
    evaluated(a, "mse", totals)
    evaluated(a, "mse", totals, version=2)
    evaluated(b, "mse", totals)
    evaluated(a, "recall@5", totals, pool="article")
    evaluated(b, "recall@5", totals, split="val")
    for run_id in (a, b):
        evaluated(run_id, "mrr@10", [0.2 + 0.1 * (run_id == a)] * ARTICLES, by_article=run_id == a)
    found = differing(db, a, b)
    assert {name: line.note for name, line in found.items() if line.part == "result"} == {
        "cosine, test": "not comparable: other pool",
        "mse, test": "not comparable: versions 2 and 1 of the metric",
        "recall@5, test, pool article": "only a was measured",
        "recall@5, val": "only b was measured",
        "mrr@10, test": "no interval: evaluate both again",
    }
    assert all(line.difference is None for name, line in found.items() if name != "mrr@10, test")
    assert differing(db, a, elsewhere)["cosine, test"].note == "not comparable: other data"


def test_results_of_other_weights_are_marked(db: Database, evaluated: Evaluated) -> None:
    a, b = plan(db, "copy-last", "s", {}), plan(db, "context-mean", "s", {})
    for run_id in (a, b):
        evaluated(run_id, "cosine", [0.1 * run_id] * ARTICLES)
    with db.begin() as connection:
        checkpoints.save(connection, b, Checkpoint("best", 1, 1, "context-mean", {}, {}, b"new"))
    note = differing(db, a, b)["cosine, test"].note or ""
    assert note.endswith("; b: of other weights than the run has now")


def test_what_cannot_be_asked(db: Database) -> None:
    run_id = plan(db, "copy-last", "s", {})
    with pytest.raises(UsageError, match="compares two runs"):
        compare(db, run_id, run_id)
    for pair in ((run_id, 99), (99, run_id)):
        with pytest.raises(UnknownNameError, match="unknown run '99'"):
            compare(db, *pair)
