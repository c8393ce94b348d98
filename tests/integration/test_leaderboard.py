"""The leaderboard: what each run is worth beside the best baseline, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db.engine import Database
from lvmdb.db.queries import report_sql
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training.plan import plan

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]
Score = Callable[..., int]

METRICS = ("cosine", "mse", "margin", "recall@1", "recall@5", "recall@10", "mrr@10")
DIRECTIONS = (1, -1, 0, 1, 1, 1, 1)


@pytest.fixture
def score(db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql) -> Score:
    """`score("lstm", cosine=.6, mrr=.3)`: a run with evaluations of these values."""
    corpus([8] * 8)
    sequence_set()

    def write(
        architecture: str,
        *,
        sequences: str = "s",
        cosine: float = 0.0,
        mse: float = 0.0,
        margin: float = 0.0,
        r5: float = 0.0,
        mrr: float = 0.0,
        split: str = "test",
        pool: str = "corpus",
        pool_size: int = 64,
        version: int = 1,
    ) -> int:
        run_id = plan(db, architecture, sequences, {})
        values = (cosine, mse, margin, 0.01, r5, 0.9, mrr)
        for metric, direction, value in zip(METRICS, DIRECTIONS, values, strict=True):
            sql(
                "INSERT INTO evaluation (run_id, split, pool, metric, direction, version, value, "
                "pool_size, pool_fingerprint, queries, distinct_truths, chance) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, int4send(%s), 12, 11, .1)",
                [run_id, split, pool, metric, direction, version, value, pool_size, pool_size],
            )
        return run_id

    return write


def gains(sql: Sql, run_id: int) -> tuple[Any, ...]:
    (row,) = sql(
        "SELECT round(cosine_gain::numeric, 6)::float, round(mse_gain::numeric, 6)::float, "
        "round(recall_5_gain::numeric, 6)::float, round(mrr_10_gain::numeric, 6)::float, "
        "best_baseline_by_cosine, best_baseline_by_mrr FROM run_leaderboard WHERE run_id = %s",
        [run_id],
    )
    return row


def test_gains_are_over_the_best_baseline_of_each_metric(score: Score, sql: Sql) -> None:
    copying = score("copy-last", cosine=0.5, mse=0.003, r5=0.4, mrr=0.3)
    mean = score("context-mean", cosine=0.6, mse=0.002, r5=0.35, mrr=0.2)
    # A margin decides nothing, and another model is no baseline.
    score("random", cosine=0.0, mse=0.004, margin=0.5)
    score("mamba2", cosine=0.9, mse=0.0001, r5=0.9, mrr=0.9)
    model = score("lstm", cosine=0.55, mse=0.0025, r5=0.42, mrr=0.35)
    best = ("context-mean", "copy-last")
    assert gains(sql, model) == (-0.05, 0.0005, 0.02, 0.05, *best)
    assert gains(sql, copying) == (-0.1, 0.001, 0, 0, *best)
    assert gains(sql, mean) == (0, 0, -0.05, -0.1, *best)


def test_only_what_was_measured_alike_is_compared(
    score: Score, sequence_set: MakeSet, sql: Sql
) -> None:
    """Another set, split, pool or size of the pool is another question."""
    sequence_set("other", seed=3)
    score("copy-last", cosine=0.5)
    score("ridge", cosine=0.9, sequences="other")
    score("ridge", cosine=0.9, split="val")
    score("ridge", cosine=0.9, pool="article")
    score("ridge", cosine=0.9, pool_size=63)
    assert gains(sql, score("lstm", cosine=0.6))[0] == 0.1
    assert gains(sql, score("lstm", cosine=0.6, split="train")) == (None,) * 6
    assert gains(sql, score("lstm", cosine=0.6, pool_size=65)) == (None,) * 6


def test_the_newest_version_of_a_metric_counts(score: Score, sql: Sql) -> None:
    run_id = score("copy-last", cosine=0.5)
    sql(
        "INSERT INTO evaluation (run_id, split, pool, metric, direction, version, value, "
        "pool_size, pool_fingerprint, queries, distinct_truths, chance) "
        "VALUES (%s, 'test', 'corpus', 'cosine', 1, 2, .4, 64, int4send(64), 12, 11, .1)",
        [run_id],
    )
    assert sql("SELECT cosine FROM run_leaderboard") == [(0.4,)]


def test_stamps_counts_and_chance_are_shown(score: Score, sequence_set: MakeSet, sql: Sql) -> None:
    sequence_set("across", scope="corpus")
    score("copy-last", sequences="across", cosine=0.5)
    score("copy-last", cosine=0.5)
    assert sql(
        "SELECT sequence_set, stamps, pool_size, queries, distinct_truths, chance_recall_10 "
        "FROM run_leaderboard ORDER BY 1"
    ) == [("across", ["scope=corpus", "leaks=4"], 64, 12, 11, 0.1), ("s", [], 64, 12, 11, 0.1)]


def test_the_report_is_the_view(db: Database, score: Score, sql: Sql) -> None:
    score("copy-last", cosine=0.5, mrr=0.3)
    model = score("lstm", cosine=0.61, mrr=0.2)
    report = report_sql("leaderboard")
    with db.raw_connection() as connection:
        cursor = connection.execute(report.encode())
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        assert [row["architecture"] for row in rows] == ["lstm", "copy-last"]
        first = rows[0]
        assert (float(first["cosine_gain"]), float(first["mrr_gain"])) == (0.11, -0.1)
        assert (first["pool"], first["queries"]) == (64, 12)
        assert {"baselines=1/7", "pool=64", "truths=11"} <= set(first["flags"].split())
        connection.execute(f"SET lvmdb.run_id = {model}".encode())
        assert len(connection.execute(report.encode()).fetchall()) == 1
