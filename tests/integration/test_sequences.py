"""Sequence sets: what they hold, how they are split, and that a fingerprint is one of content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db.engine import Database
from lvmdb.errors import SequenceError, UnknownNameError, UsageError
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSet, SequenceSpec

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[object, ...]]]
Fresh = Callable[..., AbstractContextManager[Database]]

SPLITS = ("train", "val", "test")


def viewed(sql: Sql, name: str) -> Counter[object]:
    rows = sql("SELECT split FROM training_sequence WHERE sequence_set = %s", [name])
    return Counter(split for (split,) in rows)


@pytest.mark.parametrize("scope", ["article", "corpus"])
@pytest.mark.parametrize(("context_len", "stride"), [(1, 1), (2, 1), (5, 1), (3, 2), (2, 7)])
def test_counts_are_those_of_the_view(
    corpus: Corpus, sequence_set: MakeSet, sql: Sql, scope: str, context_len: int, stride: int
) -> None:
    corpus([7, 1, 12, 3, 9, 6, 20, 2, 8, 11])
    made = sequence_set(scope=scope, context_len=context_len, stride=stride, split=(40, 30, 30))
    assert {s: made.window_count(s) for s in SPLITS} == viewed(sql, "s")
    assert (made.articles, made.concepts) == (10, 79)
    lengths = [79] if scope == "corpus" else [7, 1, 12, 3, 9, 6, 20, 2, 8, 11]
    expected = sum(len(range(context_len, n, stride)) for n in lengths)
    assert sum(viewed(sql, "s").values()) == expected


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 14), min_size=4, max_size=8),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from(["article", "corpus"]),
    st.integers(0, 9),
)
def test_counts_of_any_corpus_are_those_of_the_view(
    fresh_database: Fresh,
    corpus: Corpus,
    sequence_set: MakeSet,
    sql: Sql,
    lengths: list[int],
    context_len: int,
    stride: int,
    scope: str,
    seed: int,
) -> None:
    with fresh_database() as own:
        corpus(lengths, into=own)
        try:
            made = sequence_set(
                into=own, context_len=context_len, stride=stride, scope=scope, seed=seed
            )
        except SequenceError:
            return
        rows = sql("SELECT split FROM training_sequence", on=own)
        assert Counter(split for (split,) in rows) == {s: made.window_count(s) for s in SPLITS}


def test_windows_stay_within_their_article(corpus: Corpus, sequence_set: MakeSet, sql: Sql) -> None:
    corpus([4, 7, 2, 9, 6])
    sequence_set(context_len=3)
    crossing = sql(
        "SELECT count(*) FROM training_sequence w, unnest(w.context_cpe_ids) WITH ORDINALITY AS "
        "m (cpe_id, lag) JOIN cpe_entry c USING (cpe_id) WHERE c.article_id <> w.article_id "
        "OR c.seq <> w.target_seq - 4 + lag"
    )
    assert crossing == [(0,)]


def test_the_split_follows_the_hash_of_seed_and_key(
    corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([4] * 10)
    sequence_set(seed=7, split=(70, 20, 10))
    rows = sql(
        "SELECT source_key, split FROM sequence_article JOIN article USING (article_id) "
        "ORDER BY position"
    )
    order = sorted((f"a{n}" for n in range(10)), key=lambda k: sha256(f"7:{k}".encode()).digest())
    assert [key for key, _ in rows] == order
    assert [split for _, split in rows] == ["train"] * 7 + ["val"] * 2 + ["test"]


def test_another_seed_splits_otherwise(corpus: Corpus, sequence_set: MakeSet, sql: Sql) -> None:
    corpus([4] * 20)
    for seed in (0, 1):
        sequence_set(f"s{seed}", seed=seed)
    splits = sql(
        "SELECT a.split, b.split FROM sequence_article a JOIN sequence_article b USING (article_id)"
        " WHERE a.sequence_set_id < b.sequence_set_id"
    )
    assert any(one != other for one, other in splits)


def test_scope_corpus_gives_the_seed_documents_counts(
    corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([7, 12, 3, 9, 6, 20, 2, 8, 11])
    made = sequence_set(scope="corpus", context_len=5, split=(80, 10, 10))
    n = 78 - 5
    train, val = int(0.8 * n), int(0.9 * n)
    expected = {"train": train, "val": val - train, "test": n - val}
    assert {split: made.window_count(split) for split in SPLITS} == expected
    ordered = sql(
        "SELECT split FROM training_sequence JOIN article USING (article_id) "
        "ORDER BY ordinal, target_seq"
    )
    assert [split for (split,) in ordered] == [
        split for split in SPLITS for _ in range(expected[split])
    ]


def test_a_sample_holds_whole_articles_in_order(
    corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([4, 7, 5, 9, 6, 20, 3, 8, 11, 5])
    made = sequence_set(max_concepts=40, split=(100, 0, 0))
    assert made.concepts is not None
    assert 20 < made.concepts <= 40
    assert sql(
        "SELECT count(*) FROM sequence_article s WHERE concepts <> (SELECT count(*) FROM "
        "cpe_entry c WHERE c.article_id = s.article_id)"
    ) == [(0,)]
    again = sequence_set("again", max_concepts=40, split=(100, 0, 0))
    assert again.fingerprint == made.fingerprint
    other = sequence_set("other", max_concepts=40, split=(100, 0, 0), seed=1)
    assert other.fingerprint != made.fingerprint
    in_order = sequence_set("corpus", max_concepts=40, split=(100, 0, 0), scope="corpus")
    assert in_order.concepts == made.concepts
    ordinals = sql(
        "SELECT ordinal FROM sequence_article JOIN article USING (article_id) "
        "WHERE sequence_set_id = %s ORDER BY position",
        [in_order.sequence_set_id],
    )
    assert ordinals == sorted(ordinals)


def test_a_fingerprint_is_that_of_the_content(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql, fresh_database: Fresh
) -> None:
    """Loaded elsewhere, under other ids and names, the data has the same fingerprint."""
    lengths = [5, 6, 7, 8, 9]
    corpus(lengths)
    here = sequence_set()
    with fresh_database() as other:
        sql("INSERT INTO encoder (name) VALUES ('a'), ('b'), ('c')", on=other)
        corpus([3, 3, 3], into=other, dataset="earlier")
        sequence_set("earlier", into=other, dataset="earlier", split=(100, 0, 0))
        corpus(lengths, into=other, encoder="another-name")
        there = sequence_set("another", into=other)
        assert there.sequence_set_id != here.sequence_set_id
        assert there.encoder_id != here.encoder_id
        assert there.fingerprint == here.fingerprint
        first_ids = "SELECT min(article_id) FROM article WHERE dataset_source = 'wiki'"
        assert sql(first_ids, on=other) != sql(first_ids)


@pytest.mark.parametrize(
    "change",
    [
        {"context_len": 3},
        {"stride": 2},
        {"seed": 5},
        {"split": (40, 40, 20)},
        {"scope": "corpus"},
        {"max_concepts": 29},
    ],
)
def test_another_definition_has_another_fingerprint(
    corpus: Corpus, sequence_set: MakeSet, change: dict[str, object]
) -> None:
    corpus([5, 6, 7, 8, 9])
    assert sequence_set().fingerprint != sequence_set("other", **change).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE cpe_entry SET concept_text = concept_text || ' ' WHERE seq = 4",
        "UPDATE cpe_entry SET concept_vec = l2_normalize(concept_vec + "
        "('[0.001' || repeat(',0', 767) || ']')::vector) WHERE seq = 4",
        "UPDATE article SET source_key = 'x' WHERE source_key = 'a0'",
        "DELETE FROM cpe_entry WHERE seq = 8",
        "WITH s AS (SELECT c.cpe_id, o.concept_text FROM cpe_entry c JOIN cpe_entry o ON "
        "o.article_id = c.article_id AND o.seq = 1 - c.seq) UPDATE cpe_entry e SET "
        "concept_text = s.concept_text FROM s WHERE s.cpe_id = e.cpe_id",
    ],
)
def test_other_content_has_another_fingerprint(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql, change: str
) -> None:
    corpus([5, 6, 7, 8, 9])
    before = sequence_set().fingerprint
    sets.remove(db, "s")
    sql(change)
    assert sequence_set().fingerprint != before


def test_a_draft_is_counted_when_it_is_frozen(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([5, 6, 7, 8, 9])
    draft = sequence_set(freeze_it=False)
    assert not draft.frozen
    for wanted in (lambda: draft.window_count("train"), lambda: draft.frozen_fingerprint):
        with pytest.raises(SequenceError, match="is a draft: run 'lvmdb sequences freeze s'"):
            wanted()
    sql("DELETE FROM cpe_entry WHERE seq >= 6")
    corpus([11, 12], first=0, seed=3)
    frozen = sets.freeze(db, "s")
    assert frozen.frozen
    assert frozen.concepts == 11 + 12 + 6 + 6 + 6
    assert {split: frozen.window_count(split) for split in SPLITS} == viewed(sql, "s")
    assert sets.freeze(db, "s") == frozen == sets.get(db, "s")


def test_articles_that_are_too_short_give_no_window_but_belong_to_the_set(
    corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([2, 1, 2, 9, 9, 9, 1])
    made = sequence_set(context_len=2, split=(100, 0, 0))
    assert made.articles == 7
    assert made.window_count("train") == 21 == sum(viewed(sql, "s").values())


def test_what_gives_no_window_is_told(db: Database, corpus: Corpus, sequence_set: MakeSet) -> None:
    corpus([5, 5, 5])
    with pytest.raises(SequenceError, match=r"no article .* longer than 5.*shorter --context"):
        sequence_set(context_len=5)
    with pytest.raises(SequenceError, match=r"split val of 's' has no window.*3 articles; choose"):
        sequence_set(split=(98, 1, 1))
    with pytest.raises(SequenceError, match="has no window"):
        sequence_set(scope="corpus", context_len=15)
    with pytest.raises(SequenceError, match="no article"):
        sequence_set(max_concepts=4)
    with pytest.raises(UnknownNameError, match="unknown dataset 'wikki'; did you mean 'wiki'"):
        sequence_set(dataset="wikki")
    # Nothing of the failed ones is left.
    with pytest.raises(UnknownNameError, match="unknown sequence set 's'"):
        sets.get(db, "s")
    sequence_set(split=(100, 0, 0))
    with pytest.raises(SequenceError, match="there is a sequence set 's' already"):
        sequence_set()
    with pytest.raises(UnknownNameError, match="unknown sequence set 'z'; known: s"):
        sets.freeze(db, "z")


def test_missing_vectors_are_told(corpus: Corpus, sequence_set: MakeSet, sql: Sql) -> None:
    sql("INSERT INTO dataset (dataset_source) VALUES ('text')")
    with pytest.raises(SequenceError, match="dataset 'text' has no vectors"):
        sequence_set(dataset="text")
    corpus([5, 5, 5])
    sql("UPDATE cpe_entry SET concept_vec = NULL, encoder_id = NULL WHERE seq = 3")
    with pytest.raises(SequenceError, match="3 concepts of dataset 'wiki' have no vector"):
        sequence_set()


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"name": "Big Set"}, "lower-case"),
        ({"context_len": 0}, "--context"),
        ({"stride": 0}, "--stride"),
        ({"scope": "book"}, "--scope"),
        ({"fractions": (Decimal("0.5"), Decimal("0.1"), Decimal("0.1"))}, "--split"),
        ({"fractions": (Decimal(0), Decimal(1), Decimal(0))}, "--split"),
        ({"fractions": (Decimal("1.5"), Decimal("-0.5"), Decimal(0))}, "--split"),
        ({"max_concepts": 5}, "--max-concepts"),
    ],
)
def test_wrong_definitions_name_the_flag(values: dict[str, object], flag: str) -> None:
    arguments: dict[str, object] = {"name": "s", "dataset": "wiki", **values}
    with pytest.raises(UsageError, match=flag):
        SequenceSpec(**arguments)  # type: ignore[arg-type]
