"""Is a run better than the best baseline? Sums by article, intervals, differences, drawn pools."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db.engine import Database
from lvmdb.errors import CorpusError, UnknownNameError
from lvmdb.evaluation import evaluate as evaluate_module
from lvmdb.evaluation.drawn_pool import OTHER_ARTICLE, SAME_ARTICLE
from lvmdb.evaluation.evaluate import Evaluator
from lvmdb.evaluation.records import lock_comparison
from lvmdb.metrics.definitions import METRICS
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training.plan import plan
from lvmdb.training.train import train

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]
Refused = Callable[..., None]

SIZES = [18, 22, 17, 19, 24, 18, 16, 20, 19, 21, 18, 17, 20, 19, 18, 22]

# In articles of so many concepts nobody is asked for the first fifty.
STORED = [metric for key, metric in METRICS.items() if key != "article/recall@50"]

DECIDING = sum(metric.direction != 0 for metric in STORED)


@pytest.fixture
def evaluated(db: Database, corpus: Corpus, sequence_set: MakeSet) -> Callable[..., int]:
    """`evaluated("copy-last")`: a run on a random walk, with eight articles to test on."""
    corpus(SIZES, walk=True)
    sequence_set(context_len=2, split=(40, 10, 50))
    evaluator = Evaluator(db, device="cpu")

    def make(architecture: str, *, pool: str | None = None, **options: object) -> int:
        run_id = plan(db, architecture, "s", options)
        train(db, run_id, device="cpu")
        evaluator.evaluate(run_id, pool=pool)
        return run_id

    return make


def test_every_value_again_from_its_articles(evaluated: Callable[..., int], sql: Sql) -> None:
    evaluated("copy-last")
    rows = sql(
        "SELECT metric, value, sum(total) / sum(weight), count(*), articles, low <= value, "
        "value <= high FROM evaluation JOIN evaluation_article USING (evaluation_id) "
        "GROUP BY evaluation_id"
    )
    assert len(rows) == len(STORED)
    for metric, value, again, counted, articles, above, below in rows:
        assert value == pytest.approx(again, abs=1e-12), metric
        assert counted == articles == 8
        assert above, metric
        assert below, metric
    # Windows are counted where a metric is a mean over them.
    assert sql(
        "SELECT DISTINCT sum(weight) = queries FROM evaluation JOIN evaluation_article "
        "USING (evaluation_id) WHERE metric IN ('cosine', 'mrr@10', 'l2') GROUP BY evaluation_id"
    ) == [(True,)]


def test_every_run_is_held_against_every_baseline(evaluated: Callable[..., int], sql: Sql) -> None:
    """Whichever came first; and a model is nobody's baseline."""
    first = evaluated("copy-last")
    model = evaluated("lstm", hidden=8, layers=1, epochs=1)
    last = evaluated("random")
    pairs = sql(
        "SELECT e.run_id, b.run_id, count(*), count(d.verdict) FROM evaluation_difference d "
        "JOIN evaluation e USING (evaluation_id) "
        "JOIN evaluation b ON b.evaluation_id = d.baseline_evaluation_id "
        "WHERE (e.metric, e.pool) = (b.metric, b.pool) GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert pairs == [
        (run, baseline, len(STORED), DECIDING)
        for run, baseline in [
            *((first, last), (model, first), (model, last)),
            (last, first),
        ]
    ]
    assert sql(
        "SELECT count(*) FROM evaluation_difference d JOIN evaluation e USING (evaluation_id) "
        "JOIN evaluation b ON b.evaluation_id = d.baseline_evaluation_id "
        "WHERE abs(d.difference - (e.value - b.value)) > 1e-9 OR d.low > d.difference + 1e-9 "
        "OR d.high < d.difference - 1e-9"
    ) == [(0,)]
    # On a random walk the last vector is near to the next, and noise is not.
    verdicts = "SELECT cosine_verdict, mrr_10_verdict FROM run_leaderboard WHERE run_id = %s"
    assert sql(verdicts, [first]) == [("best baseline", "best baseline")]
    assert sql(verdicts, [last]) == [("worse", "worse")]
    assert sql(
        "SELECT bool_and(cosine_gain BETWEEN cosine_gain_low AND cosine_gain_high), "
        "bool_and(cosine BETWEEN cosine_low AND cosine_high) FROM run_leaderboard "
        "WHERE run_id <> %s",
        [first],
    ) == [(True, True)]


def test_evaluating_again_replaces_what_was_compared(
    db: Database, evaluated: Callable[..., int], sql: Sql
) -> None:
    run_ids = [evaluated("copy-last"), evaluated("random"), evaluated("context-mean")]
    rows = (
        "SELECT e.run_id, b.run_id, e.pool, e.metric, d.difference, d.low, d.high, d.verdict "
        "FROM evaluation_difference d JOIN evaluation e USING (evaluation_id) "
        "JOIN evaluation b ON b.evaluation_id = d.baseline_evaluation_id ORDER BY 1, 2, 3, 4"
    )
    before = sql(rows)
    assert len(before) == 6 * len(STORED)
    Evaluator(db, device="cpu").evaluate(run_ids[1])
    assert sql(rows) == before


def test_with_few_articles_nothing_is_claimed(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([9] * 10, walk=True)
    sequence_set()
    for name in ("copy-last", "random"):
        run_id = plan(db, name, "s", {})
        train(db, run_id, device="cpu")
        Evaluator(db, device="cpu").evaluate(run_id)
    assert sql("SELECT DISTINCT articles, low, high FROM evaluation") == [(2, None, None)]
    assert sql("SELECT verdict FROM evaluation_verdict WHERE metric = 'cosine' ORDER BY 1") == [
        ("best baseline",),
        ("too few articles",),
    ]


def test_each_pool_again_after_all(db: Database, evaluated: Callable[..., int], sql: Sql) -> None:
    evaluated("copy-last")
    run_id = evaluated("random")
    rows = (
        "SELECT e.pool, e.metric, d.difference FROM evaluation_difference d "
        "JOIN evaluation e USING (evaluation_id) WHERE run_id = %s ORDER BY 1, 2"
    )
    before = sql(rows, [run_id])
    for pool in ("corpus", "article", "s-test"):
        Evaluator(db, device="cpu").evaluate(run_id, pool=pool)
        assert sql(rows, [run_id]) == before


def test_evaluations_from_before_there_were_sums_are_left_alone(
    db: Database, evaluated: Callable[..., int], sql: Sql
) -> None:
    old = evaluated("copy-last")
    sql("DELETE FROM evaluation_article")
    new = evaluated("random")
    assert sql("SELECT count(*) FROM evaluation_difference") == [(0,)]
    assert sql("SELECT cosine_gain IS NULL, cosine_verdict FROM run_leaderboard "
               "WHERE run_id = %s", [new]) == [(False, None)]  # fmt: skip
    Evaluator(db, device="cpu").evaluate(old)
    assert sql("SELECT cosine_verdict FROM run_leaderboard WHERE run_id = %s", [new]) == [
        ("worse",)
    ]


def test_two_at_once_are_compared(
    db: Database, evaluated: Callable[..., int], sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have predicted before either writes."""
    both = [evaluated("copy-last"), evaluated("random")]
    sql("DELETE FROM evaluation")
    meeting = threading.Barrier(2, timeout=60)

    def meet(*arguments: Any) -> None:
        meeting.wait()
        lock_comparison(*arguments)

    monkeypatch.setattr(evaluate_module, "lock_comparison", meet)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda run: Evaluator(db, device="cpu").evaluate(run), both))
    assert sql("SELECT count(*) FROM evaluation_difference") == [(2 * len(STORED),)]


def test_seeds_of_one_configuration_are_a_group(
    db: Database, evaluated: Callable[..., int], sql: Sql
) -> None:
    evaluated("copy-last")
    for seed in (1, 2, 3):
        run_id = plan(db, "lstm", "s", {"hidden": 8, "layers": 1, "epochs": 1}, seed=seed)
        train(db, run_id, device="cpu")
        Evaluator(db, device="cpu").evaluate(run_id)
    assert sql(
        "SELECT g.architecture, g.seeds, abs(g.cosine - again.mean) < 1e-9, "
        "abs(g.cosine_spread - again.spread) < 1e-9 FROM run_group g JOIN "
        "(SELECT avg(cosine) AS mean, stddev_samp(cosine) AS spread FROM run_leaderboard "
        "WHERE architecture = 'lstm') again ON g.architecture = 'lstm'"
    ) == [("lstm", 3, True, True)]
    # The same seed again is no further draw.
    again = plan(db, "lstm", "s", {"hidden": 8, "layers": 1, "epochs": 1}, seed=3)
    train(db, again, device="cpu")
    Evaluator(db, device="cpu").evaluate(again)
    assert sql("SELECT seeds, run_ids[3] FROM run_group WHERE architecture = 'lstm'") == [
        (3, again)
    ]
    assert sql("SELECT seeds, cosine_spread FROM run_group WHERE architecture = 'copy-last'") == [
        (1, None)
    ]


def test_flags_say_what_a_number_rests_on(
    db: Database, evaluated: Callable[..., int], sql: Sql
) -> None:
    """A pool of six is no corpus, and training articles are no test."""
    run_id = evaluated("copy-last")
    Evaluator(db, device="cpu").evaluate(run_id, "train")
    flags: dict[str, list[str]] = dict(sql("SELECT split, flags FROM run_leaderboard"))
    assert f"pool={sum(SIZES)}" in flags["test"]
    assert "split=train" in flags["train"]
    assert {"baselines=1/7"} <= set(flags["test"]) & set(flags["train"])
    for name in ("random", "train-mean", "context-mean", "lag-weights", "nearest-neighbour"):
        evaluated(name)
    evaluated("ridge", strengths="1")
    ((flags["test"],),) = sql(
        "SELECT flags FROM run_leaderboard WHERE run_id = %s AND split = 'test'", [run_id]
    )
    assert not [flag for flag in flags["test"] if flag.startswith("baselines")]
    sql("UPDATE checkpoint SET sha256 = sha256('') WHERE run_id = %s", [run_id])
    sql("SET session_replication_role = replica; UPDATE sequence_set SET leaks = NULL")
    ((flags["test"],),) = sql(
        "SELECT flags FROM run_leaderboard WHERE run_id = %s AND split = 'test'", [run_id]
    )
    assert {"other-weights", "leaks=unknown"} <= set(flags["test"])


# Drawn pools


def test_a_pool_is_drawn_once(db: Database, evaluated: Callable[..., int], sql: Sql) -> None:
    """Of two strata, and never the truth, its context or what follows it."""
    evaluated("copy-last")
    drawn = sql("SELECT c::text FROM candidate c ORDER BY 1")
    evaluated("random")
    assert sql("SELECT c::text FROM candidate c ORDER BY 1") == drawn
    assert sql("SELECT name, split FROM candidate_pool") == [("s-test", "test")]
    assert sql(
        "SELECT count(*) FROM candidate c JOIN training_sequence w USING (target_cpe_id) "
        "JOIN cpe_entry t ON t.cpe_id = w.target_cpe_id "
        "JOIN cpe_entry d ON d.cpe_id = c.candidate_cpe_id "
        "WHERE d.cpe_id = ANY (w.context_cpe_ids) OR d.concept_vec = t.concept_vec "
        "OR (d.article_id = t.article_id AND d.seq = t.seq + 1) "
        "OR (d.article_id = t.article_id) <> (c.stratum = 'same_article')"
    ) == [(0,)]
    counts = sql("SELECT stratum, count(*) FROM candidate GROUP BY target_cpe_id, stratum")
    assert {count for stratum, count in counts if stratum == "other_article"} == {OTHER_ARTICLE}
    assert max(count for stratum, count in counts if stratum == "same_article") <= SAME_ARTICLE
    # Accuracy again, in SQL.
    assert sql(
        "WITH won AS (SELECT p.run_id, p.target_cpe_id, avg(CASE "
        "  WHEN abs((p.predicted_vec <=> d.concept_vec) - (p.predicted_vec <=> t.concept_vec)) "
        "    <= 1e-6 THEN .5 "
        "  WHEN (p.predicted_vec <=> d.concept_vec) > (p.predicted_vec <=> t.concept_vec) THEN 1 "
        "  ELSE 0 END) AS share FROM prediction p JOIN candidate c USING (target_cpe_id) "
        "  JOIN cpe_entry t ON t.cpe_id = p.target_cpe_id "
        "  JOIN cpe_entry d ON d.cpe_id = c.candidate_cpe_id GROUP BY 1, 2) "
        "SELECT count(*) FROM (SELECT run_id, avg(share) AS again FROM won GROUP BY 1) w "
        "JOIN evaluation e USING (run_id) WHERE e.metric = 'contrastive_accuracy' "
        "AND abs(e.value - w.again) < 1e-6"
    ) == [(2,)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE candidate SET stratum = 'same_article'",
        "DELETE FROM candidate",
        "UPDATE candidate_pool SET name = 'other'",
        "INSERT INTO candidate SELECT candidate_pool_id, target_cpe_id, (SELECT cpe_id FROM "
        "cpe_entry LIMIT 1), 'other_article' FROM candidate LIMIT 1",
    ],
)
def test_a_drawn_pool_never_changes(
    evaluated: Callable[..., int], refused: Refused, statement: str
) -> None:
    evaluated("copy-last")
    refused(statement, "drawn once and never change|pk_candidate")


def test_a_pool_that_was_tampered_with_is_refused(evaluated: Callable[..., int], sql: Sql) -> None:
    evaluated("copy-last")
    sql(
        "SET session_replication_role = replica; "
        "DELETE FROM candidate WHERE stratum = 'same_article'"
    )
    with pytest.raises(CorpusError, match="not what was drawn"):
        evaluated("random")


def test_one_pool_may_be_asked_for(db: Database, evaluated: Callable[..., int], sql: Sql) -> None:
    pools = "SELECT DISTINCT pool FROM evaluation WHERE run_id = %s"
    assert sql(pools, [evaluated("copy-last", pool="article")]) == [("article",)]
    with pytest.raises(UnknownNameError, match="unknown pool 's-tset'"):
        evaluated("random", pool="s-tset")
    evaluated("random")
    assert sql(pools, [evaluated("context-mean", pool="s-test")]) == [("s-test",)]
