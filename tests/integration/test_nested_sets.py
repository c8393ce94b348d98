"""Sets within a set: samples of its articles, each on the side that it has there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db.engine import Database
from lvmdb.errors import SequenceError, UnknownNameError
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSet, SequenceSpec

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]

SPEC = SequenceSpec("inner", "wiki", context_len=2, within="s")


def splits(sql: Sql, name: str) -> dict[str, str]:
    """The split of each article of a set."""
    return dict(
        sql(
            "SELECT source_key, split FROM sequence_article JOIN article USING (article_id) "
            "JOIN sequence_set USING (sequence_set_id) WHERE name = %s",
            [name],
        )
    )


def test_each_article_keeps_its_split_and_the_larger_holds_the_smaller(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([5 + number % 7 for number in range(60)])
    outer = sequence_set(split=(60, 20, 20), seed=3)
    assert outer.concepts is not None
    before: dict[str, str] = {}
    for name, most in (("s80", 80), ("s160", 160), ("s300", 300)):
        made = sets.create(db, replace(SPEC, name=name, max_concepts=most))
        assert made.concepts is not None
        assert most / 2 < made.concepts <= most
        assert made.within_set_id == outer.sequence_set_id
        found = splits(sql, name)
        assert before.items() < found.items() < splits(sql, "s").items()
        # Of each split the share that it has in the whole, but for an article or two.
        shares = sql(
            "SELECT split, sum(a.concepts) FROM sequence_article a JOIN sequence_set "
            "USING (sequence_set_id) WHERE name = %s GROUP BY split",
            [name],
        )
        for split, concepts in shares:
            of_all = {"train": 0.6, "val": 0.2, "test": 0.2}[split] * most
            assert of_all - 25 < concepts <= of_all + 5, (name, split)
        before = found
    # The same set cut anew moves articles to other sides: that is what this is for.
    again = splits(sql, sequence_set("anew", split=(60, 20, 20), seed=3, max_concepts=160).name)
    whole = splits(sql, "s")
    assert any(whole[article] != split for article, split in again.items())
    assert sets.create(db, SPEC).fingerprint == outer.fingerprint
    assert sql("SELECT train_fraction FROM sequence_set WHERE name = 'inner'") == [
        (Decimal("0.6000"),)
    ]
    other = sets.create(db, replace(SPEC, name="other", max_concepts=160, seed=1))
    assert splits(sql, other.name) != splits(sql, "s160")


def test_near_duplicates_stay_where_the_outer_set_has_them(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    """Two articles that share a vector, and that the outer set admits on two sides."""
    corpus([6] * 10)
    sequence_set("plain")
    train, test = (
        sql(
            "SELECT min(source_key) FROM sequence_article JOIN article USING (article_id) "
            "WHERE split = %s",
            [split],
        )[0][0]
        for split in ("train", "test")
    )
    sql("DELETE FROM sequence_set")
    sequence_set(freeze_it=False, allowed_leaks=1)
    sql(
        "UPDATE cpe_entry c SET concept_vec = o.concept_vec FROM cpe_entry o, article ca, "
        "article oa WHERE ca.article_id = c.article_id AND oa.article_id = o.article_id "
        "AND ca.source_key = %s AND oa.source_key = %s AND c.seq = 1 AND o.seq = 1",
        [train, test],
    )
    outer = sets.freeze(db, "s")
    assert outer.leaks == 1
    with pytest.raises(SequenceError, match="1 pair of near-duplicate concepts"):
        sets.create(db, SPEC)
    inner = sets.create(db, replace(SPEC, allowed_leaks=1))
    assert inner.leaks == 1
    assert splits(sql, "inner") == splits(sql, "s")


def test_what_cannot_be_within(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([6] * 10)
    corpus([6] * 10, dataset="other")
    sequence_set("draft", freeze_it=False)
    sequence_set("across", scope="corpus")
    sequence_set()
    for change, told in (
        ({"within": "draft"}, "'draft' is a draft and may change"),
        ({"within": "across"}, "in scope corpus windows are split"),
        ({"scope": "corpus"}, "in scope corpus windows are split"),
        ({"dataset": "other"}, "is a set over dataset 'wiki', not over 'other'"),
        ({"max_concepts": 20}, r"split val of 'inner' has no window: \d articles were taken"),
    ):
        with pytest.raises(SequenceError, match=told):
            sets.create(db, replace(SPEC, **change))
    with pytest.raises(UnknownNameError, match="unknown sequence set 't'"):
        sets.create(db, replace(SPEC, within="t"))
    assert sql("SELECT count(*) FROM sequence_set WHERE name = 'inner'") == [(0,)]


def test_a_draft_within_a_set_cannot_move_articles(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([6] * 10)
    sequence_set()
    sets.create(db, replace(SPEC, max_concepts=50), freeze_it=False)
    of_inner = "sequence_set_id = (SELECT sequence_set_id FROM sequence_set WHERE name = 'inner')"
    sql(
        f"UPDATE sequence_article SET split = 'train' WHERE {of_inner} AND article_id = "
        f"(SELECT max(article_id) FROM sequence_article WHERE {of_inner} AND split = 'test')"
    )
    with pytest.raises(SequenceError, match="1 articles of 'inner' have another split"):
        sets.freeze(db, "inner")
