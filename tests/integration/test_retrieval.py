"""Vector indexes and search: what is found, by which plan, and what is refused."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from psycopg import pq, sql
from psycopg.errors import QueryCanceled

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.hashes import cpe_id
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db.engine import Database, raw
from lvmdb.db.indexes import HNSW, METRICS, STORAGES, IVFFlat, VectorIndex, index_name
from lvmdb.db.nearest import EVERYTHING, Filter, nearest, nearest_of_many
from lvmdb.errors import (
    ConnectionLostError,
    CorpusError,
    DatabaseError,
    InputError,
    UnknownNameError,
    UsageError,
)
from lvmdb.retrieval import building, faiss_building, faiss_indexes, indexes, tuning
from lvmdb.retrieval import searcher as searcher_module
from lvmdb.retrieval.found import Found, parse_tmd
from lvmdb.retrieval.search import batch_search, search
from lvmdb.retrieval.searcher import Searcher
from lvmdb.retrieval.session import Session

Corpus = Callable[..., list[VectorArticle]]
Fresh = Callable[..., AbstractContextManager[Database]]
Sql = Callable[..., list[tuple[Any, ...]]]

CONCEPTS = 400
PLANS: list[VectorIndex] = [
    plan
    for storage in STORAGES
    for metric in (METRICS if storage != "bit" else ("ip",))
    for plan in (HNSW(storage, 4, 16, metric), IVFFlat(storage, 5, metric))
]
NAMES = [f"{p.kind}-{p.storage}-{p.metric}" for p in PLANS]


def stacked(articles: list[VectorArticle]) -> NDArray[np.float32]:
    return np.concatenate([article.vectors for article in articles])


def ids(articles: list[VectorArticle], dataset: str = "wiki") -> list[uuid.UUID]:
    return [
        cpe_id(dataset, article.source_key, seq, text)
        for article in articles
        for seq, text in enumerate(article.texts)
    ]


def queries(number: int) -> NDArray[np.float32]:
    made = np.random.default_rng(99).standard_normal((number, 768))
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)


class Library:
    """A database with a dataset of 400 concepts, their numbers in hand, and one of 12."""

    def __init__(self, db: Database, make: Corpus) -> None:
        self.db = db
        self.articles = make([10] * (CONCEPTS // 10), walk=True)
        self.vectors, self.keys = stacked(self.articles), ids(self.articles)
        with db.begin() as connection:
            encoder = encoders.register_imported(connection, "test-encoder")
            for dataset, written in (("wiki", self.articles), ("tiny", make([6, 6], seed=4))):
                ensure_dataset(connection, dataset, encoder)
                hashes = [import_hash(article) for article in written]
                store(connection, dataset, encoder, written, hashes)
            raw(connection).execute(
                "UPDATE cpe_entry SET domain_code = seq % 2, task_code = seq, modifier_code = 1, "
                "tmd_source = 'given'"
            )
        with db.raw_connection(autocommit=True) as analysing:
            analysing.execute("VACUUM ANALYZE cpe_entry")

    def best(self, query: NDArray[np.float32], k: int, allowed: Any = None) -> list[uuid.UUID]:
        """By numpy."""
        cosines = self.vectors @ query
        if allowed is not None:
            cosines = np.where(allowed, cosines, -2)
        return [self.keys[i] for i in np.argsort(-cosines)[:k]]


@pytest.fixture(scope="module")
def library(fresh_database: Fresh, make_articles: Corpus) -> Iterator[Library]:
    with fresh_database() as database:
        yield Library(database, make_articles)


def plan_of(session: Session, statement: sql.Composed, *, many: bool = False) -> str:
    """The plan of a statement as a session that searches has it."""
    with session.connected() as connection:
        kind = session._type
        vector = np.full((2, 768), 0.1, np.float32)
        sent = kind.many(vector) if many else kind.one(vector[0])
        result = connection.pgconn.exec_params(
            b"EXPLAIN (FORMAT JSON) " + statement.as_bytes(connection),
            [sent],
            [kind.array_oid if many else kind.oid],
            [pq.Format.BINARY],
        )
        plan = (result.get_value(0, 0) or result.error_message).decode()
    return json.dumps(json.loads(plan))


@pytest.mark.parametrize("plan", PLANS, ids=NAMES)
def test_an_index_is_found_by_the_planner_and_finds_what_is_nearest(
    library: Library, plan: VectorIndex
) -> None:
    db, metric, storage = library.db, plan.metric, plan.storage
    name = building.build(db, "wiki", plan, workers=0).name
    small: VectorIndex = plan if plan.kind == "hnsw" else IVFFlat(storage, 1, metric)
    tiny = building.build(db, "tiny", small, workers=0).name
    filters = [EVERYTHING, Filter(tmd=(1, None, None)), Filter(without=tuple(library.keys[:3]))]
    session = Session(db)
    for rows in (None, 1_000_000):
        if rows is not None:
            # As the planner would see a table of so many rows.
            with db.raw_connection() as connection:
                connection.execute(
                    "UPDATE pg_class SET reltuples = %s WHERE relname = 'cpe_entry'", [rows]
                )
        for dataset, wanted, other in (("wiki", name, tiny), ("tiny", tiny, name)):
            for k in (1, 999):
                asked = [nearest(dataset, metric, storage, k, 200, only) for only in filters]
                plans = [plan_of(session, statement) for statement in asked]
                many = nearest_of_many(dataset, metric, storage, k, 200)
                for found in (*plans, plan_of(session, many, many=True)):
                    assert f'"Index Name": "{wanted}"' in found, (dataset, k, rows, found)
                    assert other not in found
                exact = plan_of(session, nearest(dataset, metric, None, k, k))
                assert wanted not in exact
    session.close()
    with Searcher(
        db, "wiki", kind=plan.kind, storage=storage, metric=metric,
        effort=5 if plan.kind == "ivfflat" else 200,
    ) as searcher:  # fmt: skip
        asked_for = queries(6)
        right = 0
        for query, ids_of_many in zip(asked_for, map(
            searcher.batch(asked_for, 10).ids, range(6)), strict=True
        ):  # fmt: skip
            best = library.best(query, 10)
            exact_found = searcher.nearest(3 * query, 10, exact=True)
            assert exact_found == Found(tuple(best), exact_found.cosines, exact=True)
            cosines = np.sort(library.vectors @ query)[::-1][:10]
            np.testing.assert_allclose(exact_found.cosines, cosines, atol=1e-6)
            found_ids = searcher.nearest(query, 10)
            assert not found_ids.exact
            assert list(found_ids.cosines) == sorted(found_ids.cosines, reverse=True)
            assert list(found_ids.cpe_ids) == ids_of_many
            right += len(set(found_ids.cpe_ids) & set(best))
        # Of bits 200 of the 400 are compared in full.
        assert right >= (50 if storage == "bit" else 58)
    for each in (name, tiny):
        indexes.remove(db, each)


def test_a_filter_leaves_as_many_as_there_are(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, query = library.db, queries(1)[0]
    building.build(db, "wiki", HNSW(), workers=0)
    seqs = np.array([seq for article in library.articles for seq in range(len(article.texts))])
    article = np.repeat(np.arange(len(library.articles)), 10)
    with db.raw_connection() as connection:
        (article_id,) = connection.execute(
            "SELECT article_id FROM cpe_entry WHERE cpe_id = %s", [library.keys[70]]
        ).fetchone() or (0,)
    with Searcher(db, "wiki", effort=10) as searcher:
        # Half of all: through the index, which goes on until it has k.
        with monkeypatch.context() as patch:
            patch.setattr(searcher_module, "VISIT", 0)
            found = searcher.nearest(query, 150, only=Filter(tmd=parse_tmd("1.*.*")))
        assert len(found.cpe_ids) == 150
        assert not found.exact
        allowed = seqs % 2 == 1
        assert set(found.cpe_ids) <= {library.keys[i] for i in np.flatnonzero(allowed)}
        # A few: compared one by one, and it is said why.
        for only, left, why in (
            (Filter(tmd=parse_tmd("*.3.*")), seqs == 3, "40 concepts have such a code"),
            (Filter(tmd=parse_tmd("1.3.1")), seqs == 3, "40 concepts have such a code"),
            (Filter(tmd=parse_tmd("2.*.*")), seqs < 0, "0 concepts have such a code"),
            (Filter(article_id=article_id), article == 7, "an article has few concepts"),
        ):
            for k in (4, 300):
                found = searcher.nearest(query, k, only=only)
                best = library.best(query, min(k, int(left.sum())), left)
                assert (list(found.cpe_ids), found.exact, found.why) == (best, True, why)
        # What is left out makes room for the next.
        searcher.effort = 400
        best = library.best(query, 8)
        only = Filter(without=tuple(best[:3]))
        assert list(searcher.nearest(query, 5, only=only).cpe_ids) == best[3:8]
        many = searcher.batch(queries(1), 5, without=[best[:3]])
        assert many.ids(0) == best[3:8]
        # More than there are.
        found = searcher.nearest(query, 999)
        assert (len(found.cpe_ids), found.exact) == (CONCEPTS, True)
        assert found.why is not None
        assert "ended with" in found.why or found.why is None
        many = searcher.batch(queries(2), 500)
        assert many.counts.tolist() == [CONCEPTS, CONCEPTS]
        assert many.exact == (0, 1)
        assert not np.isnan(many.cosine[:, :CONCEPTS]).any()
        assert np.isnan(many.cosine[:, CONCEPTS:]).all()
    ids_found, cosines = batch_search(db, "wiki", queries(3), 4)
    assert (ids_found.shape, str(ids_found.dtype)) == ((3, 4, 16), "uint8")
    assert cosines.shape == (3, 4)
    exact = batch_search(db, "wiki", queries(3), 4, exact=True)
    for row, query in enumerate(queries(3)):
        assert exact.ids(row) == library.best(query, 4)
        cosines = np.sort(library.vectors @ query)[:-5:-1]
        np.testing.assert_allclose(exact.cosine[row], cosines, atol=1e-6)
    indexes.remove(db, index_name("wiki", HNSW()))


def test_a_searcher_outlives_its_connection(library: Library) -> None:
    db, query = library.db, queries(1)[0]
    building.build(db, "wiki", HNSW(), workers=0)
    with Searcher(db, "wiki") as searcher:
        before = searcher.nearest(query)
        with searcher._session.connected() as connection:
            pid = connection.info.backend_pid
            assert connection.execute("SHOW hnsw.ef_search").fetchone() == ("100",)
        searcher.nearest(query, 300)
        with db.raw_connection(autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        with pytest.raises(ConnectionLostError):
            searcher.nearest(query)
        assert searcher.nearest(query) == before
        # An index that goes while somebody searches is missed, and no search with it.
        indexes.remove(db, index_name("wiki", HNSW()))
        assert searcher.nearest(query).cpe_ids == before.cpe_ids


@pytest.mark.parametrize("exact", [True, False])
def test_a_concept_is_not_its_own_neighbour(db: Database, corpus: Corpus, exact: bool) -> None:
    articles = corpus([5] * 4)
    building.build(db, "wiki", HNSW(), workers=0)
    keys, vectors = ids(articles), stacked(articles)
    cosines = vectors @ vectors[7]
    cosines[7] = -2
    best = np.argsort(-cosines)[:6]
    hits, found = search(db, concept=str(keys[7]).upper(), k=6, exact=exact)
    assert [hit.cpe_id for hit in hits] == [keys[i] for i in best]
    assert found.exact == exact
    first = int(best[0])
    assert (hits[0].title, hits[0].seq) == (f"Article {first // 5}", first % 5)
    assert hits[0].concept_text == articles[first // 5].texts[first % 5]
    assert len(search(db, concept=keys[0], k=999, exact=exact)[0]) == 19


def test_what_is_dead_in_an_index_makes_room_for_what_lives(
    db: Database, corpus: Corpus, sql: Sql
) -> None:
    articles = corpus([10] * 20)
    building.build(db, "wiki", HNSW(), workers=0)
    query = queries(1)[0]
    best = [ids(articles)[i] for i in np.argsort(-(stacked(articles) @ query))]
    sql(
        "UPDATE cpe_entry SET concept_vec = NULL, encoder_id = NULL WHERE cpe_id = ANY (%s)",
        [best[:12]],
    )
    with Searcher(db, "wiki", effort=10) as searcher:
        found = searcher.nearest(query, 5)
        many = searcher.batch(queries(1), 5)
    assert (set(found.cpe_ids) <= set(best[12:24]), found.exact) == (True, False)
    assert (many.ids(0), many.exact) == (list(found.cpe_ids), ())


def test_each_dataset_has_its_own_index(db: Database, corpus: Corpus, sql: Sql) -> None:
    held = {}
    for number, name in enumerate(("wiki", "wiki-2", "w" * 60)):
        held[name] = set(ids(corpus([4, 4], dataset=name, seed=number), name))
        building.build(db, name, HNSW(), workers=0)
    # Those without a vector are never found.
    sql("UPDATE cpe_entry SET concept_vec = NULL, encoder_id = NULL WHERE seq = 3")
    for name, keys in held.items():
        for exact in (True, False):
            found = search(db, name, vector=queries(1)[0], k=50, exact=exact)[1]
            assert set(found.cpe_ids) < keys
            assert len(found.cpe_ids) == 6


def test_names_of_indexes_fit_postgresql_and_stay_apart() -> None:
    long = [f"{'d' * 60}{suffix}" for suffix in ("a", "b", "-c")]
    names = {index_name(name, plan) for name in [*long, "d", "d-"] for plan in PLANS}
    assert len(names) == 5 * len(PLANS)
    assert all(len(name) <= 63 for name in names)


def test_a_new_index_takes_the_place_of_the_former(db: Database, corpus: Corpus, sql: Sql) -> None:
    corpus([5] * 4)
    first = building.build(db, "wiki", HNSW(), workers=0)
    corpus([5] * 4, first=4)
    # What somebody who was killed left behind.
    sql(f"CREATE INDEX {first.name}_new ON cpe_entry (seq)")
    second = building.build(db, "wiki", HNSW(m=8, ef_construction=32), workers=1)
    assert (first.name, first.vectors, second.vectors) == (second.name, 20, 40)
    assert sql(
        "SELECT name, dataset_source, engine, kind, storage, metric, parameters, vectors, bytes, "
        "workers, memory, seconds > 0, length(corpus_fingerprint) FROM ann_index"
    ) == [
        (
            *("ix_cpe_entry_hnsw_halfvec_wiki", "wiki", "pgvector", "hnsw", "halfvec", "ip"),
            *({"m": 8, "ef_construction": 32}, 40, second.bytes, 1, 64 << 20, True, 32),
        )
    ]
    assert sql(f"SELECT pg_relation_size('{second.name}')") == [(second.bytes,)]
    # Of one storage and metric there is one, so that the planner has no choice.
    third = building.build(db, "wiki", IVFFlat(), workers=0)
    assert third.replaced == (first.name,)
    building.build(db, "wiki", IVFFlat(storage="vector", metric="cosine"), workers=0)
    assert sql("SELECT indexname FROM pg_indexes WHERE indexdef ~ 'hnsw|ivf' ORDER BY 1") == [
        ("ix_cpe_entry_ivfflat_halfvec_wiki",),
        ("ix_cpe_entry_ivfflat_vector_cosine_wiki",),
    ]
    assert [each.metric for each in indexes.usable(db, "wiki")] == ["ip", "cosine"]
    with pytest.raises(UnknownNameError, match=rf"'{third.name}x'; did you mean '{third.name}'"):
        indexes.remove(db, f"{third.name}x")
    with pytest.raises(UnknownNameError, match="unknown index 'pk_cpe_entry'"):
        indexes.remove(db, "pk_cpe_entry")
    indexes.remove(db, third.name)
    # One that somebody dropped is no index.
    sql("DROP INDEX ix_cpe_entry_ivfflat_vector_cosine_wiki")
    with pytest.raises(CorpusError, match=r"lvmdb index build --dataset wiki.*--exact"):
        search(db, "wiki", vector=queries(1)[0])


def wait_for(sql: Sql, statement: str) -> None:
    for _ in range(600):
        if sql(statement)[0][0]:
            return
        time.sleep(0.02)
    raise AssertionError(statement)


class Building(threading.Thread):
    """A build in a thread of its own, and what came of it."""

    def __init__(self, db: Database, **options: Any) -> None:
        super().__init__()
        self.db, self.options = db, options
        self.built: building.Built | None = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.built = building.build(self.db, "wiki", HNSW(), workers=0, **self.options)
        except Exception as error:
            self.error = error


DROPPING = (
    "SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ 'DROP INDEX CONCURRENTLY' "
    "AND wait_event_type = 'Lock'"
)


def test_who_writes_is_not_kept_waiting(
    db: Database, corpus: Corpus, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "_PATIENCE", "10ms")
    corpus([5] * 4)
    building.build(db, "wiki", HNSW(), workers=0)
    before = sql("SELECT created_at FROM ann_index")
    change = (
        "UPDATE cpe_entry SET probe_question = %s WHERE article_id = "
        "(SELECT article_id FROM article WHERE ordinal = %s)"
    )
    waiting = "SELECT count(*) = 1 FROM pg_stat_progress_create_index WHERE phase ~ 'waiting'"
    there = (
        "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "JOIN pg_am a ON a.oid = c.relam WHERE amname = 'hnsw'"
    )
    with db.raw_connection() as writer:
        writer.execute(change, ["x", 0])
        builds = Building(db)
        wait_for(sql, waiting)
        with pytest.raises(DatabaseError, match="another session is building or dropping an index"):
            building.build(db, "wiki", HNSW(), workers=0)
        sql("SELECT pg_cancel_backend(pid) FROM pg_stat_progress_create_index")
        # What was begun cannot go either while somebody has the table.
        wait_for(sql, DROPPING)
        writer.commit()
        builds.join()
        assert isinstance(builds.error, DatabaseError)
        assert isinstance(builds.error.__cause__, QueryCanceled)
        # Nothing is left of it, and searches have what they had.
        assert sql(there) == [("ix_cpe_entry_hnsw_halfvec_wiki", True)]
        assert sql("SELECT created_at FROM ann_index") == before
        writer.execute(change, ["x", 0])
        builds = Building(db)
        wait_for(sql, waiting)
        # While it waits, others write.
        sql(change, ["y", 1])
        writer.commit()
        builds.join()
    assert builds.built is not None
    assert builds.built.concurrently
    assert sql(there) == [("ix_cpe_entry_hnsw_halfvec_wiki", True)]


def test_who_reads_is_not_kept_waiting(
    db: Database, corpus: Corpus, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus([5] * 4)
    building.build(db, "wiki", HNSW(), workers=0)
    monkeypatch.setattr(building, "_PATIENCE", "10ms")
    with db.raw_connection() as reader:
        reader.execute("SELECT count(*) FROM cpe_entry")
        builds = Building(db)
        # The new one is there before the former has gone.
        wait_for(sql, DROPPING)
        assert len(search(db, "wiki", vector=queries(1)[0])[0]) == 10
        reader.commit()
        builds.join()
    assert builds.built is not None
    assert not builds.built.concurrently
    assert sql("SELECT count(*) FROM pg_indexes WHERE indexdef ~ 'hnsw'") == [(1,)]


def test_what_cannot_be_built_or_searched_is_refused(
    db: Database, corpus: Corpus, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus([5] * 4)
    for number in (0.0, float("nan"), float("inf")):
        with pytest.raises(CorpusError, match="has no direction"):
            search(db, "wiki", vector=[number] * 768, exact=True)
    with pytest.raises(CorpusError, match="768 numbers each"):
        search(db, "wiki", vector=[1.0] * 767, exact=True)
    for k in (0, -1, 1000):
        with pytest.raises(UsageError, match=f"-k is from 1 to 999, not {k}"):
            search(db, "wiki", vector=queries(1)[0], k=k, exact=True)
    with pytest.raises(UsageError, match="one of a vector, a text and a concept"):
        search(db, "wiki", vector=queries(1)[0], text="x")
    with pytest.raises(UsageError, match="--cpe-id is a UUID, not 'seven'"):
        search(db, concept="seven")
    with pytest.raises(UnknownNameError, match="unknown concept '0000"):
        search(db, concept="00000000-0000-0000-0000-000000000000")
    with pytest.raises(UnknownNameError, match="unknown article '77'"):
        search(db, "wiki", vector=queries(1)[0], only=Filter(article_id=77), exact=True)
    sql("UPDATE cpe_entry SET concept_vec = NULL, encoder_id = NULL WHERE seq = 4")
    ((key,),) = sql("SELECT cpe_id FROM cpe_entry WHERE seq = 4 LIMIT 1")
    with pytest.raises(CorpusError, match="has no vector"):
        search(db, concept=key)
    sql("INSERT INTO dataset (dataset_source) VALUES ('empty')")
    with pytest.raises(CorpusError, match="dataset 'empty' has no vectors to index"):
        building.build(db, "empty", HNSW())
    with pytest.raises(UsageError, match="--nlist is at most 1 with 16 vectors"):
        building.build(db, "wiki", IVFFlat(nlist=2))
    with pytest.raises(UsageError, match="--workers is from 0 to 64, not -1"):
        building.build(db, "wiki", HNSW(), workers=-1)
    with monkeypatch.context() as patch:
        patch.setattr(building, "MEMORY_LEAST", 1)
        patch.setattr(building, "MEMORY_MOST", 1000)
        with pytest.raises(UsageError, match=r"--nlist 1 would take \d+ MB of memory to build"):
            building.build(db, "wiki", IVFFlat())
    building.build(db, "wiki", HNSW(storage="bit"), workers=0)
    for options, why in (
        ({"storage": "float"}, "--storage is one of halfvec, vector, bit, not float"),
        ({"effort": 1001}, "ef_search of .* is from 1 to 1000, not 1001"),
        ({"exact": True, "metric": "l2"}, "--metric is one of ip, cosine, not l2"),
    ):
        with pytest.raises(UsageError, match=why):
            Searcher(db, "wiki", **options)
    with pytest.raises(CorpusError, match=r"no vector vector index: run .*--storage vector"):
        Searcher(db, "wiki", storage="vector")


def test_an_index_is_tuned_on_its_corpus(db: Database, corpus: Corpus, sql: Sql) -> None:
    corpus([10] * 20, walk=True)
    building.build(db, "wiki", HNSW(m=2, ef_construction=4), workers=0)
    chosen = indexes.choose(db, "wiki")
    assert chosen.effort(10) == 100
    with pytest.raises(UsageError, match="--recall is above 0, and 1 at most, not 0"):
        tuning.tune(db, "wiki", chosen, recall=0)
    with pytest.raises(CorpusError, match="run 3 has no predictions for dataset 'wiki'"):
        tuning.tune(db, "wiki", chosen, run_id=3)
    tuned = tuning.tune(db, "wiki", chosen, recall=0.9, k=5, queries=30)
    tried = dict(tuned.steps)
    assert tried[tuned.effort].mean >= 0.9
    assert all(found.mean < 0.9 for effort, found in tried.items() if effort < tuned.effort)
    # What was found is what is there.
    asked = tuning._queries(db, "wiki", 30, None)[0]
    exact = batch_search(db, "wiki", asked, 5, exact=True)
    found = batch_search(db, "wiki", asked, 5)
    shares = [len(set(found.ids(n)) & set(exact.ids(n))) / 5 for n in range(30)]
    assert np.mean(shares) == pytest.approx(tuned.recall.mean)
    assert min(shares) == pytest.approx(tuned.recall.least)
    again = indexes.choose(db, "wiki")
    assert [again.effort(k) for k in (1, 5, 10, 999)] == [
        tuned.effort, tuned.effort, max(10, 2 * tuned.effort), 1000
    ]  # fmt: skip
    row = indexes.listing(db)[1][0]
    assert row["searches"] == f"ef_search {tuned.effort}"
    assert row["recall"] == pytest.approx(tuned.recall.mean, abs=1e-6)
    assert (row["usable"], row["stale"], row["tuning_stale"]) == (True, False, False)
    # Other rows, the same vectors.
    sql("UPDATE cpe_entry SET domain_code = 1, tmd_source = 'given' WHERE seq < 3")
    row = indexes.listing(db)[1][0]
    assert (row["stale"], row["tuning_stale"]) == (False, False)
    corpus([3], first=20)
    row = indexes.listing(db)[1][0]
    assert (row["stale"], row["tuning_stale"]) == (True, True)
    assert len(search(db, "wiki", vector=queries(1)[0], k=203)[0]) == 203
    # Of bits alone no effort is enough for all.
    building.build(db, "wiki", IVFFlat(storage="bit"), workers=0)
    bits = indexes.choose(db, "wiki", storage="bit")
    with pytest.raises(CorpusError, match=r"probes of .* ends at 5, with recall .* cannot reach 1"):
        tuning.tune(db, "wiki", bits, recall=1.0, percentile=0, k=100)
    assert indexes.choose(db, "wiki", storage="bit").tuned is None


def test_a_faiss_file_is_asked_while_its_corpus_is_the_same(
    db: Database, corpus: Corpus, sql: Sql, tmp_path: Path
) -> None:
    keys, vectors = ids(articles := corpus([10] * 8)), stacked(articles)
    path = tmp_path / "wiki.index"
    query = queries(1)[0]
    best = [keys[i] for i in np.argsort(-(vectors @ query))]
    for kind, options in (("hnsw", {}), ("flat", {}), ("ivfflat", {"nlist": 1})):
        plan = faiss_indexes.PLANS[kind](**options)
        written = faiss_building.build(db, "wiki", plan, path)
        assert (written.vectors, written.bytes) == (80, path.stat().st_size)
        only = Filter(without=tuple(best[:1]))
        hits, found = search(db, "wiki", vector=query, k=4, only=only, file=path)
        assert list(found.cpe_ids) == best[1:5]
        assert found.exact == (kind == "flat")
        assert [hit.cpe_id for hit in hits] == best[1:5]
    (row,) = indexes.listing(db)[1]
    assert (row["name"], row["engine"], row["usable"], row["stale"]) == (
        *(str(path), "faiss", True, False),
    )
    assert "nlist 1" in row["parameters"]
    with pytest.raises(UsageError, match="knows no codes or articles"):
        search(db, "wiki", vector=query, only=Filter(tmd=(1, None, None)), file=path)
    corpus([2, 2], dataset="other", seed=3)
    with pytest.raises(CorpusError, match="an index of dataset 'wiki', not 'other'"):
        search(db, "other", vector=query, file=path)
    corpus([3], first=8)
    with pytest.raises(CorpusError, match="stale: dataset 'wiki' has other vectors"):
        search(db, "wiki", vector=query, file=path)
    assert indexes.listing(db)[1][0]["stale"]
    indexes.remove(db, str(path))
    assert list(tmp_path.iterdir()) == []
    assert indexes.listing(db)[1] == []
    with pytest.raises(InputError, match="no such file"):
        search(db, "wiki", vector=query, file=path)


def test_sql_alone_finds_the_nearest(library: Library) -> None:
    query = queries(1)[0]
    best = library.best(query, 7)
    building.build(library.db, "wiki", HNSW(), workers=0)
    statement = (
        "SELECT cpe_id, cosine FROM nearest_concepts('wiki', %s::real[]::vector, 5, %s::uuid[])"
    )
    with library.db.raw_connection() as connection:

        def ask() -> list[tuple[Any, ...]]:
            return connection.execute(statement, [(2 * query).tolist(), best[:2]]).fetchall()

        def scans() -> Any:
            return connection.execute(
                "SELECT pg_stat_get_xact_numscans(%s::regclass)", [index]
            ).fetchone()

        index = index_name("wiki", HNSW())
        through = ask()
        assert scans() == (1,)
        # What was tuned for fewer than are asked for is more for more.
        connection.execute(
            "UPDATE ann_index SET query_parameters = '{\"ef_search\": 60}', tuning = '{\"k\": 3}'"
        )
        assert ask() == through
        # What the function sets is its own.
        assert connection.execute("SHOW enable_sort").fetchone() == ("on",)
        assert connection.execute("SHOW hnsw.iterative_scan").fetchone() == ("off",)
        connection.commit()
        indexes.remove(library.db, index)
        exactly = ask()
    assert [row[0] for row in through] == best[2:7]
    assert exactly == through
    np.testing.assert_allclose(
        [row[1] for row in through], np.sort(library.vectors @ query)[::-1][2:7], atol=1e-6
    )
