"""Vector indexes and search: what is found, by which plan, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.hashes import cpe_id
from lvmdb.db.engine import Database, raw
from lvmdb.db.indexes import HNSW, index_name
from lvmdb.db.queries import psycopg_sql
from lvmdb.errors import CorpusError, UnknownNameError, UsageError
from lvmdb.retrieval import indexes, search

Corpus = Callable[..., list[VectorArticle]]
Sql = Callable[..., list[tuple[Any, ...]]]

STORAGES = ("halfvec", "vector")


def stacked(articles: list[VectorArticle]) -> NDArray[np.float32]:
    return np.concatenate([article.vectors for article in articles])


def ids(articles: list[VectorArticle], dataset: str = "wiki") -> list[str]:
    return [
        str(cpe_id(dataset, article.source_key, seq, text))
        for article in articles
        for seq, text in enumerate(article.texts)
    ]


def plan_of(db: Database, storage: str, dataset: str, k: int, *, exact: bool) -> str:
    """The plan of the package's own query under the package's own settings."""
    vector = "[" + ",".join(["0.1"] * 768) + "]"
    with db.begin() as connection:
        search.configure(connection, k, exact=exact)
        statement = "EXPLAIN (FORMAT JSON) " + psycopg_sql("retrieval", f"nearest_{storage}")
        parameters = {"dataset": dataset, "query": vector, "k": k}
        rows = raw(connection).execute(statement.encode(), parameters).fetchall()
    return json.dumps(rows[0][0])


def queries(number: int) -> NDArray[np.float32]:
    made = np.random.default_rng(99).standard_normal((number, 768))
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)


@pytest.mark.parametrize("storage", STORAGES)
def test_an_index_finds_what_is_nearest(
    db: Database, corpus: Corpus, sql: Sql, storage: str
) -> None:
    articles = corpus([20] * 30)
    built = indexes.build(db, "wiki", HNSW(storage=storage))
    keys, vectors = ids(articles), stacked(articles)
    found = 0
    for query in queries(10):
        cosines = vectors @ query
        best = np.argsort(-cosines)[:10]
        exact = search.by_vector(db, "wiki", 3 * query, 10, exact=True)
        assert [str(hit.cpe_id) for hit in exact] == [keys[i] for i in best]
        np.testing.assert_allclose([hit.cosine for hit in exact], cosines[best], atol=1e-5)
        hits = search.by_vector(db, "wiki", query, 10)
        assert [hit.cosine for hit in hits] == sorted((h.cosine for h in hits), reverse=True)
        found += len({hit.cpe_id for hit in hits} & {hit.cpe_id for hit in exact})
    assert found >= 97
    assert built.vectors == 600
    assert sql(
        "SELECT name, dataset_source, engine, kind, storage, parameters, vectors, bytes, "
        "seconds > 0, length(corpus_fingerprint) FROM ann_index"
    ) == [
        (
            f"ix_cpe_entry_hnsw_{storage}_wiki",
            *("wiki", "pgvector", "hnsw", storage, {"m": 16, "ef_construction": 64}, 600),
            *(built.bytes, True, 32),
        )
    ]
    assert sql(f"SELECT pg_relation_size('{built.name}')") == [(built.bytes,)]


@pytest.mark.parametrize("concepts", [12, 600])
@pytest.mark.parametrize("storage", STORAGES)
def test_the_packages_own_query_uses_the_index(
    db: Database, corpus: Corpus, sql: Sql, storage: str, concepts: int
) -> None:
    corpus([6] * (concepts // 6))
    corpus([6] * 10, dataset="other-set", seed=4)
    name = indexes.build(db, "wiki", HNSW(storage=storage)).name
    sql("ANALYZE cpe_entry")
    for k in (1, 10, 999):
        assert name in plan_of(db, storage, "wiki", k, exact=False)
        assert name not in plan_of(db, "vector", "wiki", k, exact=True)
    # Of a dataset it holds nothing of, the index can say nothing.
    assert name not in plan_of(db, storage, "other-set", 10, exact=False)


@pytest.mark.parametrize("storage", STORAGES)
def test_each_dataset_has_its_own_index(db: Database, corpus: Corpus, storage: str) -> None:
    names = ["wiki", "wiki-2", "w" * 60]
    held = {}
    for number, name in enumerate(names):
        held[name] = set(ids(corpus([4, 4], dataset=name, seed=number), name))
        indexes.build(db, name, HNSW(storage=storage))
    for name in names:
        for exact in (True, False):
            # More than there are: all of this dataset, and nothing else.
            hits = search.by_vector(db, name, queries(1)[0], 50, exact=exact)
            assert {str(hit.cpe_id) for hit in hits} == held[name]
            assert len(hits) == 8


def test_names_of_indexes_fit_postgresql_and_stay_apart() -> None:
    long = [f"{'d' * 60}{suffix}" for suffix in ("a", "b", "-c")]
    names = {index_name(name, HNSW(storage=s)) for name in [*long, "d", "d-"] for s in STORAGES}
    assert len(names) == 10
    assert all(len(name) <= 63 for name in names)


def test_a_rebuilt_index_replaces_the_former(db: Database, corpus: Corpus, sql: Sql) -> None:
    corpus([5] * 4)
    first = indexes.build(db, "wiki", HNSW())
    corpus([5] * 4, first=4)
    second = indexes.build(db, "wiki", HNSW(m=8, ef_construction=32))
    assert (first.name, first.vectors, second.vectors) == (second.name, 20, 40)
    assert sql("SELECT vectors, parameters FROM ann_index") == [
        (40, {"m": 8, "ef_construction": 32})
    ]
    (definition,) = sql("SELECT indexdef FROM pg_indexes WHERE indexname = %s", [first.name])
    assert "m='8'" in definition[0]
    indexes.build(db, "wiki", HNSW(storage="vector"))
    assert sorted(indexes.storages(db, "wiki")) == ["halfvec", "vector"]


def test_a_build_that_fails_leaves_the_former_index(
    db: Database, corpus: Corpus, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus([5] * 4)
    indexes.build(db, "wiki", HNSW())

    def broken(*_: object) -> str:
        raise OSError("no more")

    monkeypatch.setattr(indexes, "create_hnsw", broken)
    with pytest.raises(OSError, match="no more"):
        indexes.build(db, "wiki", HNSW())
    assert indexes.storages(db, "wiki") == ["halfvec"]
    assert len(search.by_vector(db, "wiki", queries(1)[0], 3)) == 3


def test_a_dropped_index_is_gone(db: Database, corpus: Corpus, sql: Sql) -> None:
    corpus([5] * 4)
    name = indexes.build(db, "wiki", HNSW()).name
    with pytest.raises(UnknownNameError, match=rf"unknown index '{name}x'; did you mean '{name}'"):
        indexes.remove(db, f"{name}x")
    with pytest.raises(UnknownNameError, match="unknown index 'pk_cpe_entry'"):
        indexes.remove(db, "pk_cpe_entry")
    indexes.remove(db, name)
    assert sql("SELECT count(*) FROM ann_index") == [(0,)]
    assert sql("SELECT count(*) FROM pg_indexes WHERE indexname LIKE '%%hnsw%%'", []) == [(0,)]
    with pytest.raises(CorpusError, match=r"lvmdb index build --dataset wiki.*--exact"):
        search.by_vector(db, "wiki", queries(1)[0])


def test_an_index_that_somebody_dropped_is_no_index(db: Database, corpus: Corpus, sql: Sql) -> None:
    corpus([5] * 4)
    sql(f"DROP INDEX {indexes.build(db, 'wiki', HNSW()).name}")
    with pytest.raises(CorpusError, match="has no vector index"):
        search.by_vector(db, "wiki", queries(1)[0])
    indexes.build(db, "wiki", HNSW())
    assert search.by_vector(db, "wiki", queries(1)[0])


@pytest.mark.parametrize("exact", [True, False])
def test_a_concept_is_not_its_own_neighbour(
    db: Database, corpus: Corpus, sql: Sql, exact: bool
) -> None:
    articles = corpus([5] * 4)
    indexes.build(db, "wiki", HNSW())
    keys, vectors = ids(articles), stacked(articles)
    for row in (0, 7):
        cosines = vectors @ vectors[row]
        cosines[row] = -2
        best = np.argsort(-cosines)[:6]
        hits = search.by_concept(db, keys[row].upper(), 6, exact=exact)
        assert [str(hit.cpe_id) for hit in hits] == [keys[i] for i in best]
        first = int(best[0])
        assert (hits[0].title, hits[0].seq) == (f"Article {first // 5}", first % 5)
        assert hits[0].concept_text == articles[first // 5].texts[first % 5]
    assert len(search.by_concept(db, keys[0], 999, exact=exact)) == 19


def test_what_cannot_be_searched_is_refused(db: Database, corpus: Corpus, sql: Sql) -> None:
    corpus([5] * 4)
    for number in (0.0, float("nan"), float("inf")):
        with pytest.raises(CorpusError, match="has no direction"):
            search.by_vector(db, "wiki", [number] * 768, exact=True)
    for k in (0, -1, 1000):
        with pytest.raises(UsageError, match=f"-k is from 1 to 999, not {k}"):
            search.by_vector(db, "wiki", queries(1)[0], k, exact=True)
    with pytest.raises(UsageError, match="--cpe-id is a UUID, not 'seven'"):
        search.by_concept(db, "seven")
    with pytest.raises(UnknownNameError, match="unknown concept '0000"):
        search.by_concept(db, "00000000-0000-0000-0000-000000000000")
    sql("UPDATE cpe_entry SET concept_vec = NULL, encoder_id = NULL WHERE seq = 4")
    ((key,),) = sql("SELECT cpe_id::text FROM cpe_entry WHERE seq = 4 LIMIT 1")
    with pytest.raises(CorpusError, match="has no vector"):
        search.by_concept(db, key)
    sql("INSERT INTO dataset (dataset_source) VALUES ('empty')")
    with pytest.raises(CorpusError, match="dataset 'empty' has no vectors to index"):
        indexes.build(db, "empty", HNSW())


@pytest.mark.parametrize("storage", STORAGES)
def test_concepts_without_a_vector_are_never_found(
    db: Database, corpus: Corpus, sql: Sql, storage: str
) -> None:
    corpus([5] * 4)
    sql("UPDATE cpe_entry SET concept_vec = NULL, encoder_id = NULL WHERE seq = 4")
    assert indexes.build(db, "wiki", HNSW(storage=storage)).vectors == 16
    for exact in (True, False):
        hits = search.by_vector(db, "wiki", queries(1)[0], 30, exact=exact)
        assert len(hits) == 16
        assert all(hit.seq < 4 for hit in hits)


def test_settings_of_a_search_end_with_it(db: Database, corpus: Corpus) -> None:
    corpus([5] * 4)
    with db.connect() as connection:
        with connection.begin():
            search.configure(connection, 500, exact=False)
            assert connection.exec_driver_sql("SHOW hnsw.ef_search").scalar_one() == "500"
        with connection.begin():
            assert connection.exec_driver_sql("SHOW hnsw.ef_search").scalar_one() != "500"
            assert connection.exec_driver_sql("SHOW enable_sort").scalar_one() == "on"
