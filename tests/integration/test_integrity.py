"""What must be impossible: each wrong thing is tried with plain SQL, and refused.

The numbers are those of the list of past mistakes: 1 order, 3 repeated ingest, 4 half articles,
5 splits, 6 encoders, 8 one vector, 13 alignment, 14 counts. (2, windows, is in test_stream.py.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import psycopg
import pytest

from lvmdb.corpus import hashes
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.store import Stored, import_hash, store
from lvmdb.db import bulk
from lvmdb.db.engine import Database
from lvmdb.errors import CorpusError, DatabaseError, SequenceError
from lvmdb.progress import SILENT
from lvmdb.sequences import freezing, sets
from lvmdb.sequences.sets import SequenceSet

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[object, ...]]]
Refused = Callable[..., None]
Counts = Callable[[Database], dict[str, int]]

COPY_OF_A_CONCEPT = """
INSERT INTO cpe_entry (cpe_id, article_id, seq, concept_text, concept_vec, encoder_id,
                       dataset_source)
SELECT gen_random_uuid(), article_id, {seq}, concept_text, concept_vec, {encoder}, dataset_source
FROM cpe_entry JOIN article USING (article_id, dataset_source)
WHERE source_key = 'a0' AND seq = 0
"""


def another(seq: str, encoder: str = "encoder_id") -> str:
    return COPY_OF_A_CONCEPT.format(seq=seq, encoder=encoder)


def write(db: Database, articles: list[VectorArticle], dataset: str = "wiki") -> Stored:
    with db.begin() as connection:
        encoder_id = connection.exec_driver_sql("SELECT encoder_id FROM encoder").scalar_one()
        hashes = [import_hash(article) for article in articles]
        return store(connection, dataset, encoder_id, articles, hashes)


# 1: order


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (another("4"), "gap in its order: 4 concepts, last seq 4"),
        (another("2"), "uq_cpe_entry_article_id_seq"),
        (another("-1"), "ck_cpe_entry_seq"),
        (another("NULL"), "null value in column .seq"),
        ("UPDATE cpe_entry SET seq = 3 WHERE seq = 2", "gap in its order"),
        ("UPDATE cpe_entry SET seq = seq + 1 WHERE seq = 2", "gap in its order"),
        ("DELETE FROM cpe_entry WHERE seq = 0", "gap in its order"),
        ("DELETE FROM cpe_entry WHERE seq = 1", "gap in its order"),
        (
            "UPDATE cpe_entry SET article_id = (SELECT max(article_id) FROM article), seq = 3 "
            "WHERE article_id = (SELECT min(article_id) FROM article) AND seq = 0",
            "gap in its order",
        ),
        ("UPDATE article SET ordinal = 5 WHERE ordinal = 1", "gap in their order"),
        ("UPDATE article SET ordinal = ordinal + 1 WHERE ordinal = 1", "gap in their order"),
        ("UPDATE article SET ordinal = 0", "uq_article_dataset_source_ordinal"),
        ("UPDATE article SET ordinal = -1 WHERE ordinal = 0", "ck_article_ordinal"),
        ("DELETE FROM article WHERE ordinal = 0", "gap in their order"),
        (
            "INSERT INTO article (dataset_source, source_key, ordinal, title, content_hash, "
            "text_hash) VALUES ('wiki', 'new', 3, '', '', '')",
            "gap in their order",
        ),
        (
            "INSERT INTO article (dataset_source, source_key, ordinal, title, content_hash, "
            "text_hash) VALUES ('wiki', 'new', 1, '', '', '')",
            "uq_article_dataset_source_ordinal",
        ),
    ],
)
def test_the_order_of_a_text_cannot_be_lost(
    corpus: Corpus, refused: Refused, statement: str, why: str
) -> None:
    corpus([3, 3])
    refused(statement, why)


def test_what_keeps_the_order_is_allowed(corpus: Corpus, sql: Sql) -> None:
    corpus([3, 3])
    sql(another("3"))
    sql("DELETE FROM cpe_entry WHERE seq >= 2")
    sql("DELETE FROM article WHERE ordinal = 1")
    assert sql("SELECT count(*), max(seq) FROM cpe_entry") == [(2, 1)]


def test_an_article_can_be_renumbered_as_a_whole(corpus: Corpus, sql: Sql) -> None:
    corpus([3])
    sql("DELETE FROM cpe_entry")
    assert sql("SELECT article_gaps, articles_with_gaps, empty_articles FROM corpus_health") == [
        (0, 0, 1)
    ]


# 3 and 4: repeated and half-written ingests


def test_the_same_articles_again_touch_no_row(db: Database, corpus: Corpus, sql: Sql) -> None:
    rows = (
        "SELECT 'c', cpe_id::text, xmin::text, ctid::text FROM cpe_entry UNION ALL "
        "SELECT 'a', article_id::text, xmin::text, ctid::text FROM article ORDER BY 1, 2"
    )
    articles = corpus([3, 4])
    before = sql(rows)
    outcome = write(db, articles)
    assert (outcome.added, outcome.changed, outcome.unchanged, outcome.concepts) == (0, 0, 2, 0)
    assert sql(rows) == before


def test_an_id_says_what_the_concept_is(db: Database, corpus: Corpus, sql: Sql) -> None:
    articles = corpus([3, 4])
    expected = {
        (str(hashes.cpe_id("wiki", article.source_key, seq, text)),)
        for article in articles
        for seq, text in enumerate(article.texts)
    }
    assert set(sql("SELECT cpe_id::text FROM cpe_entry")) == expected
    assert len(expected) == 7


def test_a_batch_that_fails_in_its_middle_leaves_nothing(
    db: Database,
    corpus: Corpus,
    make_articles: Corpus,
    counts: Counts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus([3])
    before = counts(db)

    def failing(*_: object, **__: object) -> int:
        raise RuntimeError("the power went")

    monkeypatch.setattr(bulk, "copy_rows", failing)
    with pytest.raises(RuntimeError, match="the power went"):
        write(db, make_articles([3, 4], first=1))
    assert counts(db) == before


def test_an_article_without_vectors_is_not_stored_beside_an_encoder(
    db: Database, make_articles: Corpus, corpus: Corpus, counts: Counts
) -> None:
    """Neither its own vectors nor those of the articles behind it are left out in silence."""
    corpus([3])
    before = counts(db)
    bare, whole = make_articles([3, 3], first=1)
    articles = [replace(bare, vectors=None), whole]  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="article 'a1' has no vectors beside an encoder"):
        write(db, articles)
    assert counts(db) == before


def test_one_bad_vector_leaves_nothing_of_its_batch(
    db: Database, corpus: Corpus, make_articles: Corpus, counts: Counts
) -> None:
    corpus([3])
    before = counts(db)
    good, bad = make_articles([3, 4], first=1)
    vectors = bad.vectors.copy()
    vectors[3] *= 2
    with pytest.raises(DatabaseError, match="ck_cpe_entry_concept_vec_norm"):
        write(db, [good, replace(bad, vectors=vectors)])
    assert counts(db) == before


# 6: one encoder


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (another("3", "NULL"), "ck_cpe_entry_vector_has_encoder"),
        ("UPDATE cpe_entry SET encoder_id = NULL", "ck_cpe_entry_vector_has_encoder"),
        ("UPDATE cpe_entry SET concept_vec = NULL", "ck_cpe_entry_vector_has_encoder"),
        (another("3", "2"), "fk_cpe_entry_dataset_source_encoder_id"),
        ("UPDATE dataset SET encoder_id = 2", "fk_cpe_entry_dataset_source_encoder_id"),
        ("DELETE FROM encoder WHERE encoder_id = 1", "fk_dataset_encoder_id"),
    ],
)
def test_a_dataset_has_one_encoder(
    corpus: Corpus, sql: Sql, refused: Refused, statement: str, why: str
) -> None:
    corpus([3])
    sql("INSERT INTO encoder (name) VALUES ('another')")
    refused(statement, why)


def test_a_second_encoder_is_told_what_to_do(corpus: Corpus) -> None:
    corpus([3])
    with pytest.raises(CorpusError, match=r"'test-encoder', and a dataset has one encoder.*--enc"):
        corpus([3], encoder="another", first=1)


@pytest.mark.parametrize(
    ("vector", "why"),
    [
        ("0" * 768, "ck_cpe_entry_concept_vec_norm"),
        ("2" + "0" * 767, "ck_cpe_entry_concept_vec_norm"),
    ],
)
def test_vectors_have_unit_norm(corpus: Corpus, refused: Refused, vector: str, why: str) -> None:
    corpus([3])
    refused("UPDATE cpe_entry SET concept_vec = %s::vector", why, [f"[{','.join(vector)}]"])


def test_vectors_have_768_dimensions(corpus: Corpus, sql: Sql) -> None:
    corpus([3])
    vector = f"[1{',0' * 766}]"
    with pytest.raises(psycopg.errors.DataException, match="expected 768 dimensions, not 767"):
        sql("UPDATE cpe_entry SET concept_vec = %s::vector", [vector])


@pytest.mark.parametrize("wrong", ["NaN", "Infinity", "-Infinity"])
def test_vectors_are_finite(
    db: Database, corpus: Corpus, make_articles: Corpus, wrong: str
) -> None:
    corpus([3])
    (article,) = make_articles([3], first=1)
    vectors = article.vectors.copy()
    vectors[1, 7] = float(wrong)
    with pytest.raises(DatabaseError, match="not allowed in vector"):
        write(db, [replace(article, vectors=vectors)])


def test_text_is_not_empty(corpus: Corpus, refused: Refused) -> None:
    corpus([3])
    refused("UPDATE cpe_entry SET concept_text = ''", "ck_cpe_entry_concept_text")


def test_a_concept_belongs_to_the_dataset_of_its_article(corpus: Corpus, refused: Refused) -> None:
    corpus([3])
    corpus([3], dataset="other")
    refused(
        "UPDATE cpe_entry SET dataset_source = 'other' WHERE dataset_source = 'wiki'",
        "fk_cpe_entry_article_id_dataset_source",
    )


# 5, 8 and 14: frozen sets


FROZEN_ARTICLE = "(SELECT article_id FROM article WHERE source_key = 'a0')"


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE cpe_entry SET concept_text = concept_text || '.'", "belongs to the frozen"),
        (
            "UPDATE cpe_entry SET concept_vec = array_fill(0, '{768}')::vector - concept_vec",
            "belongs to the frozen",
        ),
        ("UPDATE cpe_entry SET concept_vec = NULL, encoder_id = NULL", "belongs to the frozen"),
        ("UPDATE cpe_entry SET cpe_id = gen_random_uuid() WHERE seq = 0", "belongs to the frozen"),
        (another("5"), "belongs to the frozen sequence set s"),
        (f"DELETE FROM cpe_entry WHERE seq = 4 AND article_id = {FROZEN_ARTICLE}", "frozen"),
        ("DELETE FROM cpe_entry", "belongs to the frozen"),
        (
            "INSERT INTO cpe_entry (cpe_id, article_id, seq, concept_text, dataset_source) "
            f"VALUES (gen_random_uuid(), {FROZEN_ARTICLE}, 5, 'more', 'wiki')",
            "belongs to the frozen",
        ),
        (
            "WITH swap AS (SELECT c.cpe_id, o.concept_vec FROM cpe_entry c JOIN cpe_entry o ON "
            "o.article_id = c.article_id AND o.seq = 4 - c.seq) UPDATE cpe_entry e SET "
            "concept_vec = swap.concept_vec FROM swap WHERE swap.cpe_id = e.cpe_id",
            "belongs to the frozen",
        ),
        ("UPDATE article SET source_key = 'x' WHERE source_key = 'a0'", "belongs to the frozen"),
        ("UPDATE article SET ordinal = 9 WHERE source_key = 'a4'", "belongs to the frozen"),
        ("DELETE FROM article WHERE source_key = 'a4'", "frozen|fk_sequence_article"),
        ("UPDATE sequence_article SET split = 'train'", "its articles and splits cannot change"),
        ("UPDATE sequence_article SET position = position + 9", "splits cannot change"),
        ("UPDATE sequence_article SET concepts = concepts + 1", "splits cannot change"),
        ("DELETE FROM sequence_article WHERE position = 0", "splits cannot change"),
        (
            "INSERT INTO sequence_article SELECT s.sequence_set_id, a.article_id, 'wiki', 99, "
            "'train', 5 FROM sequence_set s, article a WHERE a.source_key = 'late'",
            "splits cannot change",
        ),
        ("UPDATE sequence_set SET frozen_at = NULL", "sequence set s is frozen"),
        ("UPDATE sequence_set SET frozen_at = now()", "sequence set s is frozen"),
        ("UPDATE sequence_set SET name = 'other'", "sequence set s is frozen"),
        ("UPDATE sequence_set SET context_len = 3", "sequence set s is frozen"),
        ("UPDATE sequence_set SET fingerprint = '\\x00'", "sequence set s is frozen"),
        ("UPDATE sequence_set SET train_windows = 1", "sequence set s is frozen"),
        ("TRUNCATE cpe_entry CASCADE", "cannot be truncated"),
        ("TRUNCATE article CASCADE", "cannot be truncated"),
        ("TRUNCATE dataset CASCADE", "cannot be truncated"),
        ("TRUNCATE episode CASCADE", "cannot be truncated"),
        ("TRUNCATE sequence_article", "cannot be truncated"),
        ("TRUNCATE sequence_set CASCADE", "cannot be truncated"),
    ],
)
def test_a_frozen_set_cannot_change(
    db: Database,
    corpus: Corpus,
    sequence_set: MakeSet,
    make_articles: Corpus,
    refused: Refused,
    statement: str,
    why: str,
) -> None:
    corpus([5] * 5)
    frozen = sequence_set()
    (late,) = make_articles([5], first=99)
    write(db, [replace(late, source_key="late")])
    refused(statement, why)
    sets.verify(db, frozen)


def test_codes_of_a_frozen_set_may_still_be_written(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([5] * 5)
    frozen = sequence_set()
    sql(
        "UPDATE cpe_entry SET domain_code = 3, task_code = 0, modifier_code = 63, "
        "tmd_source = 'embedding', tmd_vec = ('[1' || repeat(',0', 15) || ']')::vector, "
        "probe_question = 'what?'"
    )
    assert sql("SELECT DISTINCT tmd_code FROM cpe_entry") == [("3.0.63",)]
    sets.verify(db, frozen)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("domain_code = 16, tmd_source = 'llm'", "ck_cpe_entry_domain_code"),
        ("task_code = 32", "ck_cpe_entry_task_code"),
        ("modifier_code = -1", "ck_cpe_entry_modifier_code"),
        ("domain_code = 1", "ck_cpe_entry_tmd_has_source"),
        ("tmd_source = 'guess', domain_code = 1", "ck_cpe_entry_tmd_source"),
    ],
)
def test_codes_are_codes(corpus: Corpus, refused: Refused, change: str, why: str) -> None:
    corpus([1])
    refused(f"UPDATE cpe_entry SET {change}", why)


def test_a_code_is_unknown_where_one_part_is(corpus: Corpus, sql: Sql) -> None:
    corpus([1])
    sql("UPDATE cpe_entry SET domain_code = 0, task_code = 0, tmd_source = 'given'")
    assert sql("SELECT tmd_code FROM cpe_entry") == [(None,)]


def test_a_draft_has_no_fingerprint(
    corpus: Corpus, sequence_set: MakeSet, refused: Refused
) -> None:
    corpus([5] * 5)
    sequence_set(freeze_it=False)
    refused("UPDATE sequence_set SET fingerprint = '\\x01'", "ck_sequence_set_frozen_is_counted")
    refused("UPDATE sequence_set SET frozen_at = now()", "ck_sequence_set_frozen_is_counted")
    refused("UPDATE sequence_set SET train_windows = 9", "ck_sequence_set_frozen_is_counted")


def test_a_run_rests_on_a_frozen_set_and_its_fingerprint(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql, refused: Refused
) -> None:
    corpus([5] * 5)
    statement = (
        "INSERT INTO experiment_run (kind, architecture, hyperparameters, loss, sequence_set_id, "
        "sequence_fingerprint) SELECT 'model', 'lstm', '{{}}', 'mse', sequence_set_id, "
        "coalesce({}) FROM sequence_set WHERE name = '{}'"
    )
    sequence_set("draft", freeze_it=False)
    why = "fk_experiment_run_sequence_set_id_sequence_fingerprint"
    refused(statement.format("fingerprint, '\\x00'", "draft"), why)
    refused(statement.format("fingerprint, NULL", "draft"), "null value")
    sequence_set("frozen")
    refused(statement.format("sha256(fingerprint), NULL", "frozen"), why)
    sql(statement.format("fingerprint, NULL", "frozen"))
    with pytest.raises(DatabaseError, match="fk_experiment_run"):
        sets.remove(db, "frozen")
    sql("DELETE FROM experiment_run")
    sets.remove(db, "frozen")
    sql("UPDATE cpe_entry SET concept_text = concept_text || '.'")


def test_a_change_while_a_set_is_being_frozen_waits_and_is_refused(
    db: Database, corpus: Corpus, sequence_set: MakeSet
) -> None:
    """Without a lock the change would slip between the fingerprint and the commit."""
    corpus([5] * 5)
    draft = sequence_set(freeze_it=False)
    change = "UPDATE cpe_entry SET concept_text = 'other' WHERE seq = 0"
    with db.begin() as connection:
        freezing.freeze(connection, draft, SILENT)
        with db.raw_connection() as other:
            other.execute("SET lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute(change)
    with db.raw_connection() as other, pytest.raises(psycopg.errors.IntegrityError, match="frozen"):
        other.execute(change)
    sets.verify(db, sets.get(db, "s"))


def test_what_passes_by_the_guards_is_found(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([5] * 5)
    frozen = sequence_set()
    sets.verify(db, frozen)
    for change, back in (
        ("concept_text = concept_text || '.'", "concept_text = rtrim(concept_text, '.') || '.'"),
        (
            "concept_vec = array_fill(0, '{768}')::vector - concept_vec",
            "concept_vec = array_fill(0, '{768}')::vector - concept_vec",
        ),
    ):
        sql(f"SET session_replication_role = replica; UPDATE cpe_entry SET {change} WHERE seq = 1")
        with pytest.raises(SequenceError, match=r"is not what was frozen.*create a new set"):
            sets.verify(db, frozen)
        sql(f"SET session_replication_role = replica; UPDATE cpe_entry SET {back} WHERE seq = 1")
        sets.verify(db, frozen)
    sql("SET session_replication_role = replica; UPDATE sequence_article SET split = 'val'")
    with pytest.raises(SequenceError, match="is not what was frozen"):
        sets.verify(db, frozen)


# 13: text, order and vector belong together


def test_text_and_vector_of_a_row_are_those_that_came_together(
    db: Database, corpus: Corpus, sql: Sql
) -> None:
    articles = corpus([3, 1, 4])
    rows = sql(
        "SELECT source_key, seq, concept_text, vector_send(concept_vec) FROM cpe_entry "
        "JOIN article USING (article_id) ORDER BY ordinal, seq"
    )
    expected = [
        (article.source_key, seq, text)
        for article in articles
        for seq, text in enumerate(article.texts)
    ]
    assert [row[:3] for row in rows] == expected
    sent = [row[3] for row in rows if isinstance(row[3], bytes)]
    given = np.concatenate([article.vectors for article in articles])
    assert bulk.parsed_vectors(sent, 768).tobytes() == given.tobytes()


def test_a_temporary_table_does_not_stand_in_for_a_frozen_set(
    db: Database, corpus: Corpus, sequence_set: MakeSet
) -> None:
    corpus([5] * 5)
    sequence_set()
    with db.raw_connection() as connection:
        connection.execute("CREATE TEMPORARY TABLE sequence_set (LIKE public.sequence_set)")
        with pytest.raises(psycopg.errors.IntegrityError, match="frozen sequence set"):
            connection.execute("UPDATE public.cpe_entry SET concept_text = 'other'")


def test_an_old_snapshot_does_not_pass_by_a_freeze(
    db: Database, corpus: Corpus, sequence_set: MakeSet
) -> None:
    corpus([5] * 5)
    draft = sequence_set(freeze_it=False)
    with db.raw_connection() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT FROM sequence_set")
        sets.freeze(db, draft.name)
        with pytest.raises(psycopg.errors.SerializationFailure):
            connection.execute("UPDATE sequence_article SET split = 'train'")


def test_labels_are_those_of_the_vocabulary(sql: Sql) -> None:
    rows = sql("SELECT kind, count(*), max(code) FROM tmd_label GROUP BY kind ORDER BY kind")
    assert rows == [("domain", 16, 15), ("modifier", 64, 63), ("task", 32, 31)]
    assert (
        sql("SELECT label FROM tmd_label WHERE label !~ '^[A-Z][A-Za-z-]*( [A-Z][a-z]+)*$'") == []
    )
    assert sql("SELECT label FROM tmd_label WHERE kind = 'task' AND code IN (12, 20)") == [
        ("Argument Evaluation",),
        ("Ethical Evaluation",),
    ]
