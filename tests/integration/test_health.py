"""Health: each fault of a corpus is found, and said of the dataset that has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.health import findings
from lvmdb.db.engine import Database
from lvmdb.db.queries import query

Corpus = Callable[..., list[VectorArticle]]
Sql = Callable[..., list[tuple[Any, ...]]]

PAST_ALL_CHECKS = "SET session_replication_role = replica; "
"""Faults that the database refuses: as a broken restore or a superuser would bring them in."""

IN_WIKI = "dataset_source = 'wiki'"


def health(db: Database, dataset: str | None = None) -> dict[str, dict[str, Any]]:
    with db.connect() as connection:
        rows = connection.execute(query("checks", "corpus_health"), {"dataset": dataset}).mappings()
        return {row["dataset_source"]: dict(row) for row in rows}


def found(db: Database, dataset: str) -> list[str]:
    return findings(health(db, dataset)[dataset])


def test_a_sound_corpus_has_its_counts_and_no_findings(
    db: Database, corpus: Corpus, sql: Sql
) -> None:
    corpus([5, 3, 4])
    corpus([2], dataset="other", seed=1)
    sql("INSERT INTO dataset (dataset_source) VALUES ('empty')")
    rows = health(db)
    assert list(rows) == ["empty", "other", "wiki"]
    assert [findings(row) for row in rows.values()] == [[], [], []]
    wiki = rows["wiki"]
    assert (wiki["articles"], wiki["concepts"], wiki["vectors"], wiki["tmd_codes"]) == (
        3,
        12,
        12,
        0,
    )
    assert (wiki["encoder"], wiki["encoder_verified"]) == ("test-encoder", False)
    assert wiki["min_norm"] == pytest.approx(1, abs=1e-6)
    assert wiki["max_norm"] == pytest.approx(1, abs=1e-6)
    assert rows["empty"]["concepts"] == 0
    assert list(health(db, "other")) == ["other"]


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        (
            f"UPDATE article SET ordinal = 7 WHERE ordinal = 2 AND {IN_WIKI}",
            "dataset 'wiki' has 5 gaps in its articles' order",
        ),
        (
            f"DELETE FROM cpe_entry WHERE seq = 1 AND {IN_WIKI}",
            "dataset 'wiki' has 3 articles with gaps",
        ),
        (
            "DELETE FROM cpe_entry WHERE article_id = (SELECT min(article_id) FROM article)",
            "dataset 'wiki' has 1 articles without a concept",
        ),
        (
            "UPDATE cpe_entry SET concept_vec = NULL, encoder_id = NULL "
            f"WHERE seq = 0 AND {IN_WIKI}",
            "dataset 'wiki' has 3 concepts without a vector",
        ),
        (
            "ALTER TABLE cpe_entry DROP CONSTRAINT ck_cpe_entry_concept_vec_norm; UPDATE cpe_entry "
            f"SET concept_vec = concept_vec + concept_vec WHERE seq = 0 AND {IN_WIKI}",
            "dataset 'wiki' has vectors of norm 2.0000",
        ),
    ],
)
def test_each_fault_is_found(
    db: Database, corpus: Corpus, sql: Sql, fault: str, finding: str
) -> None:
    corpus([5, 3, 4])
    corpus([2, 2], dataset="other", seed=1)
    sql(PAST_ALL_CHECKS + fault)
    assert found(db, "wiki") == [finding]
    assert found(db, "other") == []


def test_a_corpus_without_vectors_is_whole(db: Database, corpus: Corpus, sql: Sql) -> None:
    corpus([5, 3])
    sql("UPDATE cpe_entry SET concept_vec = NULL, encoder_id = NULL")
    assert found(db, "wiki") == []


def test_repeated_texts_are_counted_and_are_no_fault(
    db: Database, corpus: Corpus, sql: Sql
) -> None:
    corpus([3, 3, 2])
    sql("UPDATE cpe_entry SET concept_text = 'The same.' WHERE seq = 1")
    sql("UPDATE article SET text_hash = 'x' WHERE ordinal < 2")
    row = health(db)["wiki"]
    assert (row["repeated_texts"], row["repeated_articles"]) == (2, 1)
    assert findings(row) == []


def test_several_faults_are_all_found(db: Database, corpus: Corpus, sql: Sql) -> None:
    corpus([5, 3, 4])
    sql(
        PAST_ALL_CHECKS + "UPDATE article SET ordinal = 3 WHERE ordinal = 2; "
        "DELETE FROM cpe_entry WHERE seq = 1; "
        "UPDATE cpe_entry SET concept_vec = NULL, encoder_id = NULL WHERE seq = 0"
    )
    assert len(found(db, "wiki")) == 3
