"""Deliberate sabotage of a trained and evaluated run: each is refused, or shows in the leaderboard.

Where a guard of the database would refuse it at once, it is switched off first, as whoever has the
server's password could: then the fingerprint tells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.store import import_hash, store
from lvmdb.db.engine import Database
from lvmdb.errors import ModelError, SequenceError
from lvmdb.evaluation import evaluate as evaluate_module
from lvmdb.evaluation import windows
from lvmdb.evaluation.evaluate import Evaluator
from lvmdb.evaluation.health import doubtful_evaluations
from lvmdb.evaluation.predictor import Predictor, load_predictor
from lvmdb.models.lstm import LSTM
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.stream import SequenceStream
from lvmdb.training.plan import plan
from lvmdb.training.train import train

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]
Refused = Callable[..., None]

SIZES = [9, 12, 8, 10, 9, 11, 12, 9, 10, 8, 9, 10, 11, 9, 12, 8]

BY_FORCE = "SET session_replication_role = replica; "

SHUFFLED_ORDER = """
UPDATE cpe_entry SET seq = seq + 1000;
UPDATE cpe_entry c SET seq = n.last - (c.seq - 1000)
FROM (SELECT article_id, max(seq) - 1000 AS last FROM cpe_entry GROUP BY article_id) n
WHERE n.article_id = c.article_id
"""

SWAPPED_VECTORS = """
UPDATE cpe_entry c SET concept_vec = o.concept_vec
FROM cpe_entry o
WHERE c.seq = o.seq AND c.seq < 3 AND c.article_id <> o.article_id
  AND c.article_id IN (SELECT article_id FROM article WHERE ordinal IN (0, 1))
  AND o.article_id IN (SELECT article_id FROM article WHERE ordinal IN (0, 1))
"""

EDITED_TEXT = "UPDATE cpe_entry SET concept_text = concept_text || '!' WHERE seq = 1"


@pytest.fixture
def run_id(db: Database, corpus: Corpus, sequence_set: MakeSet) -> int:
    """A trained and evaluated LSTM."""
    corpus(SIZES, walk=True)
    sequence_set(context_len=2, split=(40, 10, 50))
    return evaluated(db, "lstm", hidden=8, layers=1, epochs=1)


def evaluated(db: Database, architecture: str, **options: object) -> int:
    run = plan(db, architecture, "s", options)
    train(db, run, device="cpu")
    Evaluator(db, device="cpu").evaluate(run)
    return run


# 1, 2 and 9: order, vectors and texts after the freeze. (Before it, `encoders verify` holds vectors
# against their texts: test_encoders.py.)


@pytest.mark.parametrize(
    ("statement", "guard"),
    [
        ("UPDATE cpe_entry SET seq = seq + 1000", "frozen|gap in its order"),
        (SWAPPED_VECTORS, "frozen"),
        (EDITED_TEXT, "frozen"),
    ],
    ids=["order", "vectors", "text"],
)
def test_a_frozen_corpus_refuses_to_change(
    run_id: int, refused: Refused, statement: str, guard: str
) -> None:
    refused(statement, guard)


@pytest.mark.parametrize("statement", [SHUFFLED_ORDER, SWAPPED_VECTORS, EDITED_TEXT])
def test_a_corpus_changed_by_force_is_neither_trained_nor_evaluated_on(
    db: Database, run_id: int, sql: Sql, statement: str
) -> None:
    before = sql("SELECT count(*), sum(value) FROM evaluation")
    sql(BY_FORCE + statement)
    with pytest.raises(SequenceError, match="is not what was frozen"):
        Evaluator(db, device="cpu").evaluate(run_id)
    with pytest.raises(SequenceError, match="is not what was frozen"):
        evaluated(db, "copy-last")
    assert sql("SELECT count(*), sum(value) FROM evaluation") == before


# 3 and 10: leaks


def test_an_article_is_in_one_split(run_id: int, refused: Refused) -> None:
    refused(
        "INSERT INTO sequence_article SELECT sequence_set_id, article_id, dataset_source, "
        "position + 1000, 'train', concepts FROM sequence_article WHERE split = 'test'",
        "pk_sequence_article",
    )


def test_a_copy_of_the_test_set_trains_nobody(
    db: Database, run_id: int, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    """Appended under other keys, the copies go where their originals are."""
    keys = sql(
        "SELECT source_key FROM sequence_article JOIN article USING (article_id) "
        "WHERE split = 'test'"
    )
    wanted = {key for (key,) in keys}
    copies = [
        replace(article, source_key=f"copy-{article.source_key}")
        for article in corpus(SIZES, walk=True)
        if article.source_key in wanted
    ]
    with db.begin() as connection:
        encoder_id = connection.exec_driver_sql("SELECT encoder_id FROM encoder").scalar_one()
        store(connection, "wiki", encoder_id, copies, [import_hash(copy) for copy in copies])
    sequence_set("again", context_len=2, split=(40, 10, 50))
    assert sql(
        "SELECT count(*), count(*) FILTER (WHERE o.split = c.split) "
        "FROM sequence_article c JOIN article ca USING (article_id) "
        "JOIN article oa ON ca.source_key = 'copy-' || oa.source_key "
        "JOIN sequence_article o ON o.article_id = oa.article_id "
        "AND o.sequence_set_id = c.sequence_set_id"
    ) == [(len(copies), len(copies))]


# 5: another class


def test_another_model_under_the_same_names_is_refused(
    db: Database, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every parameter has its name and shape; only the output is another."""
    honest = LSTM.forward

    def other(self: LSTM, context: Tensor, mask: Tensor) -> Tensor:
        return -honest(self, context, mask)

    monkeypatch.setattr(LSTM, "forward", other)
    with pytest.raises(ModelError, match="do not give the output that was stored with them"):
        Evaluator(db, device="cpu").evaluate(run_id)


# 6 and 7: easy questions (the numbers stay, and say what they are)


def test_six_candidates_show(db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql) -> None:
    """Every truth is among the first five, and beside the value stands what guessing reaches."""
    corpus([2, 2, 2], walk=True)
    sequence_set(context_len=1, split=(100, 0, 0))
    run = plan(db, "copy-last", "s", {})
    train(db, run, device="cpu")
    Evaluator(db, device="cpu").evaluate(run, "train")
    assert sql(
        "SELECT value, chance, pool_size, queries, distinct_truths FROM evaluation "
        "WHERE metric = 'recall@5' AND pool = 'corpus'"
    ) == [(1.0, 1.0, 6, 3, 3)]
    ((flags,),) = sql("SELECT flags FROM run_leaderboard")
    assert {"pool=6", "truths=3", "split=train", "baselines=1/7"} <= set(flags)


def test_training_articles_show(db: Database, run_id: int, sql: Sql) -> None:
    Evaluator(db, device="cpu").evaluate(run_id, "train")
    shown: dict[str, list[str]] = dict(sql("SELECT split, flags FROM run_leaderboard"))
    assert "split=train" in shown["train"]
    assert "split=train" not in shown["test"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE evaluation SET value = 0.99 WHERE metric = 'cosine'",
        "UPDATE evaluation_article SET total = total + 1 WHERE article_id = "
        "(SELECT min(article_id) FROM evaluation_article)",
        "UPDATE evaluation_difference SET difference = 0.5, verdict = 'better'",
    ],
)
def test_numbers_written_by_hand_are_found(
    db: Database, run_id: int, sql: Sql, statement: str
) -> None:
    evaluated(db, "copy-last")
    assert doubtful_evaluations(db) == []
    sql(statement)
    assert doubtful_evaluations(db)


# 8: a metric shifted by one


def test_predictions_of_the_window_before_are_not_taken_for_this_one(
    db: Database, run_id: int, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that gives the targets of other windows than the rows say is an error."""

    class Shifted(SequenceStream):
        def __iter__(self) -> Any:
            for batch in super().__iter__():
                yield replace(batch, target=batch.target.roll(1, 0))

    monkeypatch.setattr(windows, "SequenceStream", Shifted)
    with pytest.raises(SequenceError, match="in another order"):
        Evaluator(db, device="cpu").evaluate(run_id)


def test_a_shifted_copy_falls_behind(
    db: Database, run_id: int, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that belong to the window before lose to a baseline, and the verdict says so."""
    evaluated(db, "context-mean")
    copying = evaluated(db, "copy-last")

    def shifted(*arguments: Any, **more: Any) -> Predictor:
        honest = load_predictor(*arguments, **more)

        def predict(batch: SequenceBatch) -> Tensor:
            return torch.roll(honest.predict(batch), 7, 0)

        return replace(honest, predict=predict)

    rows = "SELECT cosine_verdict FROM run_leaderboard WHERE run_id = %s"
    assert sql(rows, [copying]) == [("best baseline",)]
    monkeypatch.setattr(evaluate_module, "load_predictor", shifted)
    Evaluator(db, device="cpu").evaluate(copying)
    assert sql(rows, [copying]) == [("worse",)]
