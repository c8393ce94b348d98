"""Evaluation: ranks worked out by hand, and every number again from the rows, in SQL."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db.engine import Database
from lvmdb.db.indexes import HNSW
from lvmdb.db.types import DIMENSION
from lvmdb.errors import RunError, SequenceError, UnknownNameError
from lvmdb.evaluation.evaluate import Evaluator
from lvmdb.evaluation.ranks import rank_run
from lvmdb.metrics.definitions import METRICS
from lvmdb.models import registry
from lvmdb.retrieval import building
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training.plan import plan
from lvmdb.training.train import train

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]
Fresh = Callable[..., AbstractContextManager[Database]]

LSTM: dict[str, object] = {"hidden": 16, "layers": 1, "epochs": 1}

# Each prediction's rank once more, by SQL from the view: concepts of the dataset that are neither
# in the context nor equal to the truth, and score above it or within the tolerance.
RANKS = """
WITH scored AS (
    SELECT p.run_id, p.target_cpe_id,
           -(c.concept_vec <#> l2_normalize(p.predicted_vec)) AS score,
           -(t.concept_vec <#> l2_normalize(p.predicted_vec)) AS own,
           c.concept_vec = t.concept_vec AS same
    FROM prediction p
    JOIN cpe_entry t ON t.cpe_id = p.target_cpe_id
    JOIN experiment_run r USING (run_id)
    JOIN training_sequence w ON w.sequence_set_id = r.sequence_set_id
                            AND w.target_cpe_id = p.target_cpe_id
    JOIN cpe_entry c ON c.dataset_source = t.dataset_source AND c.cpe_id <> ALL (w.context_cpe_ids)
), counted AS (
    SELECT run_id, target_cpe_id,
           count(*) FILTER (WHERE NOT same AND score > own + 1e-6) AS better,
           count(*) FILTER (WHERE NOT same AND abs(score - own) <= 1e-6) AS tied,
           1 + count(*) FILTER (WHERE NOT same) AS candidates
    FROM scored GROUP BY run_id, target_cpe_id
)
SELECT count(*), count(*) FILTER (
    WHERE (p.better, p.tied, p.candidates) IS DISTINCT FROM (c.better, c.tied, c.candidates))
FROM prediction p LEFT JOIN counted c USING (run_id, target_cpe_id)
"""

# The metrics once more from the rows of `prediction`.
AGGREGATES = """
WITH harmonic AS (
    SELECT k, sum(1.0 / nullif(k, 0)) OVER (ORDER BY k) AS h FROM generate_series(0, 10) k
), again AS (
    SELECT p.run_id, p.split, count(*) AS queries, count(DISTINCT t.concept_vec) AS truths,
           avg(p.cosine) AS cosine, avg(p.margin) AS margin, avg(p.mse) AS mse,
           avg(greatest(0, least(1, (1.0 - better) / (tied + 1)))) AS "recall@1",
           avg(greatest(0, least(1, (5.0 - better) / (tied + 1)))) AS "recall@5",
           avg(greatest(0, least(1, (10.0 - better) / (tied + 1)))) AS "recall@10",
           avg(greatest(0, least(1, (50.0 - better) / (tied + 1)))) AS "recall@50",
           avg(p.mse * 768) AS mse_sum, avg(p.predicted_vec <-> t.concept_vec) AS l2,
           avg((coalesce(b.h, 0) - coalesce(a.h, 0)) / (tied + 1)) AS "mrr@10",
           avg(least(1.0, 1.0 / candidates)) AS c1, avg(least(1.0, 5.0 / candidates)) AS c5,
           avg(least(1.0, 10.0 / candidates)) AS c10,
           avg(hc.h / candidates) AS cm
    FROM prediction p
    JOIN cpe_entry t ON t.cpe_id = p.target_cpe_id
    JOIN harmonic a ON a.k = least(better, 10)
    JOIN harmonic b ON b.k = least(better + tied + 1, 10)
    JOIN harmonic hc ON hc.k = least(candidates, 10)
    GROUP BY p.run_id, p.split
)
SELECT e.run_id, e.metric, e.value, (to_jsonb(a) ->> e.metric)::float8 AS again,
       e.chance, CASE e.metric WHEN 'recall@1' THEN c1 WHEN 'recall@5' THEN c5
                               WHEN 'recall@10' THEN c10 WHEN 'mrr@10' THEN cm END AS chance_again,
       e.queries = a.queries AND e.distinct_truths = a.truths AS counts_agree
FROM evaluation e LEFT JOIN again a USING (run_id, split)
WHERE e.pool = 'corpus' AND to_jsonb(a) ? e.metric
ORDER BY 1, 2
"""


def circle(db: Database, *articles: tuple[float, ...], dataset: str = "wiki") -> None:
    """Articles whose concepts are unit vectors in one plane, given by their angles in degrees."""
    made = []
    for number, angles in enumerate(articles):
        vectors = np.zeros((len(angles), DIMENSION), dtype=np.float32)
        radians = np.radians(angles)
        vectors[:, 0], vectors[:, 1] = np.cos(radians), np.sin(radians)
        made.append(
            VectorArticle(
                source_key=f"a{number}",
                title=f"Article {number}",
                url=None,
                texts=tuple(f"{number}: {angle}" for angle in angles),
                source="circle",
                vectors=vectors,
            )
        )
    with db.begin() as connection:
        encoder_id = encoders.register_imported(connection, "plane")
        ensure_dataset(connection, dataset, encoder_id)
        store(connection, dataset, encoder_id, made, [import_hash(article) for article in made])


def fitted(db: Database, architecture: str, **options: object) -> int:
    if architecture == "ridge":
        options = {"strengths": "0.1,1", **options}
    run_id = plan(db, architecture, "s", options)
    train(db, run_id, device="cpu")
    return run_id


def values(sql: Sql, run_id: int) -> dict[str, tuple[float, float]]:
    rows = sql(
        "SELECT metric, value, chance FROM evaluation WHERE run_id = %s AND pool = 'corpus'",
        [run_id],
    )
    return {metric: (value, chance) for metric, value, chance in rows}


def ranks(sql: Sql) -> list[tuple[str, int, int, int]]:
    return [
        (str(text), better, tied, candidates)
        for text, better, tied, candidates in sql(
            "SELECT concept_text, better, tied, candidates FROM prediction "
            "JOIN cpe_entry ON cpe_id = target_cpe_id JOIN article USING (article_id) "
            "ORDER BY ordinal, seq"
        )
    ]


def degrees(angle: float) -> float:
    return math.cos(math.radians(angle))


def test_ranks_by_hand(db: Database, sequence_set: MakeSet, sql: Sql) -> None:
    """Copying the last of one concept, in a pool of seven.

    After 0 degrees comes 10: of 10, 50, 20, 25, 80, 50 it is the nearest. After 10 comes 50: 0,
    20 and 25 are nearer, and the other 50 is no competitor. After 20 comes 25: nothing is nearer.
    After 80 comes 50, in another article: nothing is nearer.
    """
    circle(db, (0, 10, 50), (20, 25), (80, 50))
    sequence_set(context_len=1, split=(100, 0, 0))
    run_id = fitted(db, "copy-last")
    found = Evaluator(db, device="cpu").evaluate(run_id, "train")
    assert ranks(sql) == [("0: 10", 0, 0, 6), ("0: 50", 3, 0, 5), ("1: 25", 0, 0, 6),
                          ("2: 50", 0, 0, 5)]  # fmt: skip
    cosine = (degrees(10) + degrees(40) + degrees(5) + degrees(30)) / 4
    fifths = (1 / 6 + 1 / 5 + 1 / 6 + 1 / 5) / 4
    expected = {
        "mse": ((2 - 2 * cosine) / DIMENSION, None),
        "cosine": (cosine, None),
        "margin": (cosine - 1, None),
        "recall@1": (3 / 4, fifths),
        "recall@5": (1.0, (5 / 6 + 1 + 5 / 6 + 1) / 4),
        "recall@10": (1.0, 1.0),
        "mrr@10": (3.25 / 4, ((1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) * 2 * (1 / 6 + 1 / 5)
                              + 2 * (1 / 6) * (1 / 6)) / 4),
    }  # fmt: skip
    # A concept drawn from the pool: its expected cosine with each truth.
    pool, truths = (0, 10, 50, 20, 25, 80, 50), (10, 50, 25, 50)
    drawn = [degrees(truth - other) for truth in truths for other in pool]
    expected["cosine"] = (cosine, sum(drawn) / len(drawn))
    expected["mse"] = (expected["mse"][0], (2 - 2 * sum(drawn) / len(drawn)) / DIMENSION)
    rows = values(sql, run_id)
    assert rows.keys() == {name for name, metric in METRICS.items() if metric.pool == "corpus"}
    for name, (value, chance) in expected.items():
        assert rows[name][0] == pytest.approx(value, abs=1e-6), name
        if chance is not None:
            assert rows[name][1] == pytest.approx(chance, abs=1e-6), name
    assert {name: found.scores[name].value for name in rows} == {n: v for n, (v, _) in rows.items()}
    # The articles of the four truths have 3, 3, 2 and 2 concepts.
    assert sql(
        "SELECT DISTINCT pool, pool_size, queries, distinct_truths FROM evaluation "
        "WHERE metric = 'mrr@10' ORDER BY pool"
    ) == [("article", 2, 4, 3), ("corpus", 7, 4, 3)]
    sha256 = sql("SELECT sha256 FROM checkpoint WHERE kind = 'best'")
    assert sql("SELECT DISTINCT checkpoint_sha256 FROM evaluation") == sha256


def test_ties_are_shared(db: Database, sequence_set: MakeSet, sql: Sql) -> None:
    """After 0 comes 30; -30 is as near, 10 is nearer: the rank is two or three."""
    circle(db, (0, 30), (-30,), (10,), (170,))
    sequence_set(context_len=1, split=(100, 0, 0))
    run_id = fitted(db, "copy-last")
    Evaluator(db, device="cpu").evaluate(run_id, "train")
    assert ranks(sql) == [("0: 30", 1, 1, 4)]
    found = {name: value for name, (value, _) in values(sql, run_id).items()}
    assert found["recall@1"] == 0
    assert found["recall@5"] == 1
    assert found["mrr@10"] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_the_context_is_never_a_candidate(db: Database, sequence_set: MakeSet, sql: Sql) -> None:
    """Copying would find its own context first, and never the truth."""
    circle(db, (0, 1, 2, 3, 60), (90,))
    sequence_set(context_len=3, split=(100, 0, 0))
    Evaluator(db, device="cpu").evaluate(fitted(db, "copy-last"), "train")
    assert ranks(sql) == [("0: 3", 0, 0, 3), ("0: 60", 1, 0, 3)]
    assert sql(
        "SELECT context_text, truth_text, nearest_text, round(nearest_cosine::numeric, 4), "
        "round(cosine::numeric, 4), better, candidates FROM prediction_detail ORDER BY target_seq"
    ) == [
        ("0: 0\n0: 1\n0: 2", "0: 3", "0: 3", *(rounded(1), rounded(1)), 0, 3),
        ("0: 1\n0: 2\n0: 3", "0: 60", "0: 0", *(rounded(3), rounded(57)), 1, 3),
    ]


def rounded(angle: float) -> Decimal:
    return Decimal(f"{degrees(angle):.4f}")


@pytest.mark.parametrize("scope", ["article", "corpus"])
def test_every_number_again_from_the_rows(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql, scope: str
) -> None:
    """All baselines and a model, over one pool; windows that cross articles included."""
    corpus([7, 2, 9, 3, 1, 12, 6, 8, 4, 10], walk=True)
    corpus([5, 5], walk=True, dataset="other", seed=5)
    # A repetition: the same vector twice in the corpus.
    sql(
        "UPDATE cpe_entry c SET concept_vec = o.concept_vec "
        "FROM cpe_entry o, article ca, article oa "
        "WHERE ca.article_id = c.article_id AND oa.article_id = o.article_id "
        "AND (ca.dataset_source, ca.ordinal, c.seq) = ('wiki', 9, 8) "
        "AND (oa.dataset_source, oa.ordinal, o.seq) = ('wiki', 5, 7)"
    )
    sequence_set(context_len=3, scope=scope, split=(60, 10, 30))
    model = fitted(db, "lstm", **LSTM)
    names = registry.names(trained=False)
    evaluator = Evaluator(db, device="cpu")
    for run_id in [model, *(fitted(db, name) for name in names)]:
        assert not evaluator.done(run_id)
        evaluator.evaluate(run_id)
        assert evaluator.done(run_id)
        assert not evaluator.done(run_id, "val")
    ((rows, different),) = sql(RANKS)
    ((windows,),) = sql("SELECT count(*) FROM training_sequence WHERE split = 'test'")
    assert windows > 0
    assert (rows, different) == (windows * 8, 0)
    again = sql(AGGREGATES)
    assert len(again) == 8 * 10
    for run_id, metric, value, recomputed, chance, chance_again, counts_agree in again:
        assert value == pytest.approx(recomputed, abs=2e-7), (run_id, metric)
        assert counts_agree
        if chance_again is not None:
            assert chance == pytest.approx(float(chance_again)), (run_id, metric)
    # One pool and one set of truths for all; the other dataset is in no pool.
    assert sql("SELECT DISTINCT pool_size, queries FROM evaluation WHERE pool = 'corpus'") == [
        (62, windows)
    ]
    levels = sql("SELECT count(DISTINCT chance) FROM evaluation GROUP BY pool, metric")
    assert set(levels) == {(1,)}
    # In no article are there more than ten candidates.
    assert len(levels) == len(METRICS) - 2
    # What copy-last predicts is the last of the context, as the view has it.
    copied = 1 + names.index("copy-last") + model
    assert sql(
        "SELECT count(*) FROM prediction p JOIN training_sequence w USING (target_cpe_id) "
        "JOIN cpe_entry c ON c.cpe_id = w.context_cpe_ids[3] "
        "WHERE run_id = %s AND c.concept_vec = p.predicted_vec AND p.margin <= 1e-6 "
        "AND abs(p.margin - (p.cosine - 1)) < 1e-6",
        [copied],
    ) == [(windows,)]
    # cosine and mse of a row are those of its own vector
    assert sql(
        "SELECT count(*) FROM prediction p JOIN cpe_entry t ON t.cpe_id = p.target_cpe_id "
        "WHERE abs(p.mse - (p.predicted_vec <-> t.concept_vec) ^ 2 / 768) > 1e-6 "
        "OR abs(p.cosine - (1 - (p.predicted_vec <=> t.concept_vec))) > 1e-5"
    ) == [(0,)]
    # The nearest as an index gives them, of as many as there are: the same ranks.
    for indexed in (False, True):
        if indexed:
            building.build(db, "wiki", HNSW(), workers=0)
        assert sql(
            "SELECT count(*), count(*) FILTER (WHERE (k.better, k.tied) IS DISTINCT FROM "
            "(k.found_better, k.found_tied)) FROM experiment_run r "
            "CROSS JOIN LATERAL prediction_ranks(r.run_id, 'test', 100) k"
        ) == [(windows * 8, 0)]
    # Of five: what is nearer than the truth is counted where the truth is found.
    assert sql(
        "SELECT count(*) FILTER (WHERE found_better IS NULL AND better + tied < 5), "
        "count(*) FILTER (WHERE found_better <> better), count(found_better) > 0 "
        "FROM experiment_run r CROSS JOIN LATERAL prediction_ranks(r.run_id, 'test', 5) k"
    ) == [(0, 0, True)]
    for run_id in (model, copied):
        ranked = rank_run(db, run_id, "test")
        assert ranked.stored
        assert ranked.index is not None
        assert ranked.found is not None
        assert ranked.found.all()
        np.testing.assert_array_equal(ranked.index.greater, ranked.exact.greater)
        np.testing.assert_array_equal(ranked.index.ties, ranked.exact.ties)
        assert [row["same_rank"] for row in ranked.rows()] == [1, 1]
    ((nearest, first, ten),) = sql(
        "SELECT nearest_text, nearest_texts[1], cardinality(nearest_texts) "
        "FROM prediction_detail WHERE run_id = %s LIMIT 1",
        [model],
    )
    assert (nearest, ten) == (first, 10)
    with pytest.raises(RunError, match="no predictions of the val split"):
        rank_run(db, model, "val")


def test_evaluating_again_gives_the_same_rows(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([8] * 8, walk=True)
    sequence_set()
    run_id = fitted(db, "lstm", **LSTM)
    rows = (
        "SELECT to_jsonb(e) - 'evaluation_id' - 'created_at' FROM evaluation e "
        "ORDER BY pool, metric",
        "SELECT p::text FROM prediction p ORDER BY p.target_cpe_id",
    )
    Evaluator(db, device="cpu").evaluate(run_id)
    first = [sql(statement) for statement in rows]
    assert [len(found) for found in first] == [len(METRICS) - 2, 12]
    Evaluator(db, device="cpu").evaluate(run_id)
    assert [sql(statement) for statement in rows] == first
    # Another split stands beside it.
    Evaluator(db, device="cpu").evaluate(run_id, "val")
    assert sql("SELECT split, count(*) FROM evaluation GROUP BY 1 ORDER BY 1") == [
        ("test", len(METRICS) - 2),
        ("val", len(METRICS) - 2),
    ]


SHUFFLED_IDS = """
SET session_replication_role = replica;
ALTER TABLE article ALTER article_id SET GENERATED BY DEFAULT;
UPDATE article SET article_id = 1000 - article_id;
UPDATE cpe_entry SET article_id = 1000 - article_id;
"""


def test_metrics_do_not_depend_on_surrogate_ids(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql, fresh_database: Fresh
) -> None:
    """Loaded elsewhere, with ids in the opposite order; only `random` may be drawn otherwise."""
    results = []
    with fresh_database() as other:
        for on in (db, other):
            corpus([7, 2, 9, 3, 12, 6, 8, 4], walk=True, into=on)
            if on is other:
                sql(SHUFFLED_IDS, on=on)
            sequence_set(into=on)
            for name in (*registry.names(trained=False), "lstm"):
                run_id = fitted(on, name, **(LSTM if name == "lstm" else {}))
                Evaluator(on, device="cpu").evaluate(run_id)
            results.append(
                sql(
                    "SELECT r.architecture, e.metric, e.value, e.chance FROM evaluation e "
                    "JOIN experiment_run r USING (run_id) WHERE architecture <> 'random' "
                    "ORDER BY e.pool, 1, 2",
                    on=on,
                )
            )
    assert len(results[0]) == 7 * (len(METRICS) - 3)
    for one, two in zip(*results, strict=True):
        assert one[:2] == two[:2]
        assert one[2:] == pytest.approx(two[2:], rel=1e-6), one[:2]


def test_what_cannot_be_evaluated_is_refused(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    evaluator = Evaluator(db, device="cpu")
    with pytest.raises(UnknownNameError, match="unknown run '5'"):
        evaluator.evaluate(5)
    corpus([8] * 8)
    sequence_set(split=(80, 20, 0))
    run_id = fitted(db, "copy-last")
    with pytest.raises(SequenceError, match="'s' has no test windows"):
        evaluator.evaluate(run_id)
    sql(
        "SET session_replication_role = replica; UPDATE cpe_entry "
        "SET concept_vec = array_fill(0, '{768}')::vector - concept_vec WHERE seq = 2"
    )
    with pytest.raises(SequenceError, match="is not what was frozen"):
        Evaluator(db, device="cpu").evaluate(run_id, "val")
    assert sql("SELECT count(*) FROM evaluation") == [(0,)]


def test_a_failed_evaluation_leaves_the_former_one(
    db: Database,
    corpus: Corpus,
    sequence_set: MakeSet,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus([8] * 8)
    sequence_set()
    run_id = fitted(db, "copy-last")
    Evaluator(db, device="cpu").evaluate(run_id)
    rows = "SELECT count(*) FROM prediction UNION ALL SELECT count(*) FROM evaluation"
    before = sql(rows)

    def broken(*_: object, **__: object) -> None:
        raise OSError("no more")

    monkeypatch.setattr("lvmdb.evaluation.evaluate.write_evaluations", broken)
    with pytest.raises(OSError, match="no more"):
        Evaluator(db, device="cpu").evaluate(run_id)
    assert sql(rows) == before
