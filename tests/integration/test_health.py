"""Health: each fault of a corpus is found, and said of the dataset that has it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lvmdb.cli import verify
from lvmdb.cli.app import App
from lvmdb.cli.main import cli
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.health import Check, State, findings
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.evaluation import vector_health
from lvmdb.sequences import near_duplicates

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


def checks(db: Database, dataset: str = "wiki") -> dict[str, Check]:
    """All checks of a dataset by name, as the program makes them."""
    app = App(dsn=db.dsn, quiet=True)
    return {check.check: check for check in verify.corpus_checks(app, dataset)[0]}


def failed(db: Database) -> list[str]:
    return [c.finding for c in checks(db).values() if c.finding is not None]


def test_facts_are_no_faults(db: Database, corpus: Corpus, sql: Sql) -> None:
    corpus([5, 3, 4], walk=True)
    found = checks(db)
    assert failed(db) == []
    assert found["dimension"].value == 768
    assert (found["min words"].value, found["max words"].value) == (6, 6)
    assert found["concepts with a TMD code"].value == found["probe questions"].value == 0
    assert found["encoder held against its vectors"].state == State.SHORT
    neighbours, random = (
        found[f"mean cosine of {which}"].value for which in ("neighbours", "random pairs")
    )
    assert isinstance(neighbours, float)
    assert isinstance(random, float)
    assert neighbours > 0.6 > 0.4 > random


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        ("SET concept_text = E' \\n' WHERE seq = 4", "has 1 concepts of blanks alone"),
        (
            "SET probe_question = 'What?' WHERE seq = 4",
            "has 1 probe questions without a vector",
        ),
        ("SET probe_vec = concept_vec WHERE seq = 4", "has 1 probe vectors without a question"),
        (
            "SET concept_text = 'The same.' WHERE seq = 1",
            "has 2 concepts whose text stands elsewhere with a vector of cosine below 0.999",
        ),
    ],
)
def test_faults_of_contents(
    db: Database, corpus: Corpus, sql: Sql, fault: str, finding: str
) -> None:
    corpus([5, 3, 4])
    sql(f"UPDATE cpe_entry {fault}")
    [told] = failed(db)
    assert told.startswith(f"dataset 'wiki' {finding}")


def test_copies_are_counted_and_are_no_fault(db: Database, corpus: Corpus, sql: Sql) -> None:
    corpus([5, 3, 4])
    sql(
        "UPDATE cpe_entry c SET concept_vec = o.concept_vec FROM cpe_entry o JOIN article a "
        "USING (article_id) WHERE c.seq = 0 AND o.seq = 0 AND a.ordinal = 0"
    )
    sql(
        "UPDATE cpe_entry c SET concept_vec = l2_normalize(o.concept_vec + l2_normalize("
        "c.concept_vec) * (SELECT array_fill(0.01::real, ARRAY[768])::vector)) "
        "FROM cpe_entry o WHERE o.article_id = c.article_id AND (o.seq, c.seq) = (1, 2)"
    )
    found = checks(db)
    assert failed(db) == []
    assert found["equal vectors"].value == 2
    assert found["pairs of cosine 0.995 or more"].value == 3


def test_echo_and_rank_of_probes(db: Database, corpus: Corpus, sql: Sql) -> None:
    """Of four probes three are their concepts' vectors; one is another concept's."""
    corpus([5, 3])
    sql("UPDATE cpe_entry SET probe_question = 'What?', probe_vec = concept_vec WHERE seq < 2")
    assert checks(db)["mean echo of probes"].state == State.OK
    sql(
        "UPDATE cpe_entry c SET probe_vec = o.concept_vec FROM cpe_entry o JOIN article a "
        "USING (article_id) WHERE a.ordinal = 0 AND o.seq = 4 AND c.seq = 1 "
        "AND c.article_id = o.article_id"
    )
    found = checks(db)
    assert found["P@1 of probe to concept"].value == found["probes of echo 0.82 or more"].value
    assert found["P@1 of probe to concept"].value == pytest.approx(0.75)
    assert found["probes ranked"].value == 4
    assert found["mean echo of probes"].value == pytest.approx(0.75, abs=0.05)
    assert found["mean echo of probes"].state == State.SHORT
    assert failed(db) == []


def test_codes_and_their_commonest(db: Database, corpus: Corpus, sql: Sql) -> None:
    corpus([5, 3])
    sql(
        "UPDATE cpe_entry SET domain_code = seq / 2, task_code = 1, modifier_code = 2, "
        "tmd_source = 'given' WHERE seq < 3"
    )
    found = checks(db)
    assert found["concepts with a TMD code"].value == 6
    assert found["different TMD codes"].value == 2
    assert found["commonest TMD code"].value == "0.1.2"
    assert found["its share of the codes"].value == pytest.approx(4 / 6)


def test_a_large_dataset_is_sampled_by_articles(
    db: Database, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus([4] * 9)
    monkeypatch.setattr(vector_health, "MOST_CONCEPTS", 12)
    found = vector_health.look_at(db, "wiki", 36)
    assert found is not None
    assert found.looked_at == 12
    assert len(found.neighbours) == 9


def test_vectors_that_are_all_alike_are_a_fault(
    db: Database, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, sql: Sql
) -> None:
    corpus([4] * 3)
    sql(
        "UPDATE cpe_entry c SET concept_vec = l2_normalize(o.concept_vec * (SELECT "
        "array_fill(100::real, ARRAY[768])::vector) + c.concept_vec) FROM cpe_entry o "
        "JOIN article a USING (article_id) WHERE a.ordinal = 0 AND o.seq = 0"
    )
    monkeypatch.setattr(near_duplicates, "MOST_PAIRS", 10)
    [told] = failed(db)
    assert "is one of repetitions" in told


def test_the_program_says_all_and_draws(
    db: Database, corpus: Corpus, sql: Sql, tmp_path: Path
) -> None:
    corpus([5, 3, 4], walk=True)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["--dsn", db.dsn, "verify", "-q", *arguments])
        return result.exit_code, result.stdout + str(result.exception or "")

    picture = tmp_path / "wiki.png"
    code, out = run("--format", "json", "--picture", str(picture))
    assert code == 0
    rows = {row["check"]: row for row in json.loads(out)}
    assert rows["concepts"]["value"] == 12
    assert rows["dimension"]["result"] == "ok"
    assert picture.read_bytes().startswith(b"\x89PNG")
    sql("UPDATE cpe_entry SET domain_code = 0, task_code = 1, modifier_code = 2, "
        "tmd_source = 'given', probe_question = '$q$', probe_vec = concept_vec")  # fmt: skip
    assert run("--picture", str(picture))[0] == 0
    sql(PAST_ALL_CHECKS + "DELETE FROM cpe_entry WHERE seq = 1")
    code, out = run("--format", "csv")
    assert code == 1
    assert "wiki,articles with gaps,3,0,FAILED" in out
    assert "dataset 'wiki' has 3 articles with gaps" in out
    assert run("--show", "sample", "--sequences", "s")[0] != 0
    code, out = run("--show", "sample", "--format", "csv")
    assert (code, out.count("Concept ")) == (0, 9), "ten at most, drawn of the nine that are left"
    sql(PAST_ALL_CHECKS + "UPDATE cpe_entry SET concept_vec = NULL, encoder_id = NULL")
    assert "has no vectors to draw" in run("--picture", str(picture))[1]
