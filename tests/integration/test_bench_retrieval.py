"""Retrieval engines find what is nearest by the plan they are named for; and their benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from lvmdb.cli.main import cli
from lvmdb.corpus.articles import VectorArticle
from lvmdb.db.bench_table import SCHEMA, BenchTable, bench_table
from lvmdb.db.engine import Database
from lvmdb.errors import CorpusError, DatabaseError, InputError, LvmdbError, UsageError
from lvmdb.reports.retrieval import builds, compared, side_by_side
from lvmdb.retrieval import bench, corpus, faiss_files
from lvmdb.retrieval.bench_corpus import Searched, made, of_dataset
from lvmdb.retrieval.bench_engines import Sweep, engines, require_memory
from lvmdb.retrieval.engine import NO_ID, Engine
from lvmdb.retrieval.faiss_indexes import PLANS, IVFFlat, parameters
from lvmdb.retrieval.pgvector_engines import Pgvector
from lvmdb.retrieval.recall import Truth

Corpus = Callable[..., list[VectorArticle]]
Sql = Callable[..., list[tuple[Any, ...]]]

FULL = Sweep(ef_search=(250,), probes=(1000,), nlist=4)
"""With these every engine looks at all there is, and must find what exact search finds."""


@pytest.fixture
def searched(db: Database, corpus: Corpus) -> Searched:
    """A corpus of some 220 vectors, and 20 queries of each kind."""
    corpus([12] * 20)
    return of_dataset(db, load(db), 20)


def load(db: Database) -> corpus.Corpus:
    return corpus.load(db, "wiki")


@pytest.fixture
def table(db: Database, searched: Searched) -> Iterator[BenchTable]:
    """The benchmark's table with the corpus in it."""
    with bench_table(db, "wiki") as made_table:
        searched.fill(made_table)
        yield made_table


def tables(sql: Sql) -> list[tuple[Any, ...]]:
    return sql("SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s)", [SCHEMA])


def test_every_engine_finds_what_is_nearest_by_its_own_index(
    searched: Searched, table: BenchTable, sql: Sql
) -> None:
    queries = searched.queries[1].vectors
    with ExitStack() as stack:
        made_engines = engines(table, len(searched.ids), FULL, stack)
        assert len(made_engines) == 10
        built = bench.build(made_engines, searched, 2)
        for engine, once in zip(made_engines, built, strict=True):
            engine.configure(engine.query_arguments[0])
            check(engine, searched, queries)
            if isinstance(engine, Pgvector):
                plan = engine.explain(5)
                own = engine._access.index(table)
                assert f"Index Scan using {own} " in plan or engine.kind == "exact"
                assert ("Seq Scan" in plan) == (engine.kind == "exact")
            assert once.seconds > 0
            assert (once.bytes == 0) == (engine.name == "pgvector exact")
        parameters_of = {engine.name: engine.build_arguments for engine in made_engines}
        graph = {"m": 16, "ef_construction": 64}
        assert parameters_of["faiss hnsw"] == parameters_of["pgvector hnsw halfvec ip"] == graph
        assert parameters_of["pgvector ivfflat halfvec ip"] == {"lists": 4}
        assert parameters_of["faiss ivfflat"] == {"nlist": 4, "seed": 0}


def check(engine: Engine, searched: Searched, queries: np.ndarray[Any, Any]) -> None:
    """Recall, order, one against many, a second client, and more than there are."""
    truth = Truth(searched.vectors, searched.ids, queries, engine.measure)
    for k in (1, 10):
        found = engine.batch_search(queries, k)
        scores = truth.scores(found)
        # Half precision may change the order of what is all but equal.
        np.testing.assert_allclose(scores, truth.best[:, :k], atol=1e-3, err_msg=engine.name)
        alone = [engine.search(query, k) for query in queries]
        assert [ids.tolist() for ids in alone] == found.tolist(), engine.name
    other = engine.another()
    other.configure(engine.query_arguments[0])
    np.testing.assert_array_equal(other.search(queries[0], 10), alone[0])
    other.close()
    np.testing.assert_array_equal(engine.search(queries[0], 10), alone[0])
    if engine.holds(engine.query_arguments[0], len(searched.ids) + 5):
        many = engine.batch_search(queries[:2], len(searched.ids) + 5)
        assert np.count_nonzero(many != NO_ID) == 2 * len(searched.ids)


def test_what_is_left_out_is_really_not_there(
    db: Database, searched: Searched, table: BenchTable, sql: Sql
) -> None:
    (held_out, neighbours) = searched.queries
    assert [q.kind for q in searched.queries] == ["held-out", "neighbours"]
    assert len(held_out.vectors) == len(neighbours.vectors) == 20
    assert len(searched.left_out) == 2
    cosines = held_out.vectors @ searched.vectors.T
    assert cosines.max() < 0.99
    rows = sql(f"SELECT cpe_id, article_id FROM {SCHEMA}.{table.table} ORDER BY article_id, seq")
    assert [row[0].bytes for row in rows] == searched.ids.tolist()
    assert not {row[1] for row in rows} & set(searched.left_out)
    # Rows are as wide as the product's: the same columns, stored the same.
    described = (
        "SELECT attname, format_type(atttypid, atttypmod), attstorage FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"
    )
    assert sql(described, [f"{SCHEMA}.{table.table}"]) == sql(described, ["cpe_entry"])


def test_the_table_is_dropped_whatever_happens(db: Database, searched: Searched, sql: Sql) -> None:
    def interrupted() -> None:
        with bench_table(db, "wiki") as one:
            searched.fill(one)
            assert (one.table,) in tables(sql)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert tables(sql) == []
    assert sql("SELECT to_regnamespace(%s)", [SCHEMA]) == [(None,)]
    with pytest.raises(DatabaseError, match="does not exist"), bench_table(db, "wiki") as one:
        one.connection.execute("SELECT * FROM nothing")
    assert tables(sql) == []


def test_what_a_killed_process_left_goes_with_the_next(
    db: Database, corpus: Corpus, sql: Sql
) -> None:
    corpus([2])
    with bench_table(db, "wiki") as alive:
        # Nobody holds the lock of this one.
        sql(f"CREATE TABLE {SCHEMA}.concept_00000000 ()")
        with bench_table(db, "wiki") as other:
            assert {row[0] for row in tables(sql)} >= {alive.table, other.table}
            assert ("concept_00000000",) not in tables(sql)
        assert (alive.table,) in tables(sql)
    assert sql("SELECT to_regnamespace(%s)", [SCHEMA]) == [(None,)]


def test_rows_a_table_and_a_picture(db: Database, corpus: Corpus, sql: Sql, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    corpus([10] * 12)
    picture = tmp_path / "curves.png"
    arguments = ["bench", "retrieval", "--dsn", db.dsn, "--queries", "6", "--rounds", "1"]
    arguments += ["--ef-search", "10,60", "--threads", "1,2"]
    for part in ("hnsw halfvec ip", "hnsw bit", "faiss hnsw", "exact"):
        arguments += ["--only", part]
    done = CliRunner().invoke(cli, [*arguments, "--picture", str(picture), "--format", "json"])
    assert done.exit_code == 0, done.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = json.loads(done.stdout)
    # Three graphs with two settings each and one exact engine, two kinds, one and two threads.
    assert len(rows) == 7 * 2 * 2
    stored = sql(
        "SELECT engine, query_parameters, query_kind, threads, recall, recall_50 IS NULL, parity, "
        "corpus_vectors, latency_p50 <= latency_p99, queries_per_second > 0 "
        "FROM ann_benchmark ORDER BY ann_benchmark_id"
    )
    assert [row[:5] for row in stored] == [
        (r["engine"], r["query_parameters"], r["query_kind"], r["threads"], r["recall"])
        for r in rows
    ]
    for engine, asked, _, threads, recall, no_fifty, parity, vectors, ordered, fast in stored:
        assert (ordered, fast, vectors) == (True, True, 110)
        assert threads in (1, 2)
        assert no_fifty == (asked.get("ef_search", 50) < 50)
        assert (parity is None) == (asked.get("ef_search") not in (10, 60))
        if engine == "faiss hnsw":
            assert parity == 1
        if engine == "pgvector exact" or asked.get("ef_search", 0) >= 60:
            assert recall > 0.9
    assert sql("SELECT count(DISTINCT session_id) FROM ann_benchmark") == [(1,)]
    assert tables(sql) == []
    shown = side_by_side(rows)
    assert len(shown) == 14  # threads are columns
    assert shown[0]["q/s x2"] == round(rows[7]["queries_per_second"])
    assert [one["engine"] for one in builds(rows)] == list(dict.fromkeys(r["engine"] for r in rows))
    for row in rows:
        row |= {"latency_p50": 0.002, "batch_queries_per_second": 1000, "recall": 1.0}
    rows[0] |= {"latency_p50": 0.001, "batch_queries_per_second": 4000, "recall": 0.99}
    lines = compared([row for row in rows if row["query_kind"] == "held-out"])
    assert "faiss hnsw (ef_search 10) 1.000 ms, in batches 0.250 ms" in lines[0]
    assert all(line.endswith("; 2.00 and 4.00 times faiss hnsw") for line in lines[1:])
    assert len(lines) == 4


def test_made_corpora_are_the_same_each_time_and_fill_the_table(db: Database, sql: Sql) -> None:
    with made(130, 8, seed=3) as one, made(130, 8, seed=3) as two:
        np.testing.assert_array_equal(one.vectors, two.vectors)
        assert one.fingerprint == two.fingerprint
        np.testing.assert_allclose(np.linalg.norm(one.vectors, axis=1), 1, atol=1e-5)
        cosines = one.vectors @ one.vectors.T
        # Concepts of an article are nearer than those of another one.
        assert cosines[:20, :20].mean() > cosines[:20, 20:].mean() + 0.1
        with bench_table(db, "synthetic") as table, ExitStack() as stack:
            one.fill(table)
            made_engines = engines(table, 130, Sweep(only=["exact", "faiss flat"]), stack)
            built = bench.build(made_engines, one, 1)
            points = bench.measure(made_engines, built, one, rounds=1)
            assert {point.recall[10].least for point in points} == {1.0}


def test_what_cannot_be_measured_is_refused(
    db: Database, corpus: Corpus, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus([6, 6])
    run = partial(CliRunner().invoke, cli)
    start = ["bench", "retrieval", "--dsn", db.dsn]
    for arguments, code, why in (
        (["--run-id", "7"], 1, "unknown run with predictions of dataset 'wiki': '7'"),
        (["--only", "hnws"], 1, "unknown engine 'hnws'"),
        (["--nlist", "3"], 2, "--nlist is at most 1 with 6 vectors"),
        (["--synthetic", "50", "--dataset", "wiki"], 2, "--synthetic makes its own vectors"),
        (["--ef-search", "1001"], 2, "--ef-search is from 1 to 1000, not 1001"),
    ):
        done = run([*start, *arguments])
        assert isinstance(done.exception, LvmdbError), done.output
        assert done.exception.exit_code == code
        assert why in str(done.exception)
    assert tables(sql) == []
    assert sql("SELECT count(*) FROM ann_benchmark") == [(0,)]
    monkeypatch.setattr("lvmdb.retrieval.bench_engines.machine_memory", lambda: 1 << 20)
    with bench_table(db, "wiki") as table, ExitStack() as stack:
        with pytest.raises(UsageError, match="3 FAISS indexes of 1000 vectors take"):
            require_memory(engines(table, 1000, Sweep(), stack), 1000)
        searched = of_dataset(db, load(db), 2)
        graph = engines(table, 6, Sweep(only=["hnsw halfvec ip"]), stack)
        with pytest.raises(CorpusError, match="the benchmark's table has 0 rows, not 6"):
            bench.build(graph, searched, 1)


def test_a_faiss_file_comes_back_and_a_stale_one_is_refused(
    db: Database, corpus: Corpus, sql: Sql, tmp_path: Path
) -> None:
    corpus([8] * 6)
    now = partial(corpus_fingerprint, db)
    held = load(db)
    assert held.fingerprint == now("wiki")
    path = tmp_path / "wiki.index"
    for kind, make in PLANS.items():
        plan = make()
        size = faiss_files.write(
            path, plan.make(held.vectors), held, kind=kind, parameters=parameters(plan, 48)
        )
        stored = faiss_files.read(path, now)
        assert (stored.kind, stored.dataset, size) == (kind, "wiki", path.stat().st_size)
        np.testing.assert_array_equal(stored.ids, held.ids)
        places = stored.index.search(held.vectors, 1)[1][:, 0]
        np.testing.assert_array_equal(places, np.arange(48))
    assert stored.parameters == {"m": 16, "ef_construction": 64}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["wiki.index", "wiki.index.ids.npz"]
    beside = faiss_files.ids_path(path)
    whole, ids = path.read_bytes(), beside.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"not the index that wiki.index.ids.npz belongs to"):
        faiss_files.read(path, now)
    path.write_bytes(whole)
    for damage in (ids[:100], b""):
        beside.write_bytes(damage)
        with pytest.raises(InputError, match="truncated, or not the ids of an index"):
            faiss_files.read(path, now)
    beside.unlink()
    with pytest.raises(InputError, match="no such file; 'lvmdb index build --engine faiss'"):
        faiss_files.read(path, now)
    beside.write_bytes(ids)
    assert faiss_files.read(path, now).index.ntotal == 48
    corpus([3], first=6)
    with pytest.raises(CorpusError, match="stale: dataset 'wiki' has other vectors"):
        faiss_files.read(path, now)
    with pytest.raises(CorpusError, match="the index holds 48 vectors, the corpus 51"):
        faiss_files.write(path, stored.index, load(db), kind="hnsw", parameters={})
    with pytest.raises(InputError, match="cannot write"):
        faiss_files.write(tmp_path / "no" / "x", stored.index, held, kind="hnsw", parameters={})
    with pytest.raises(UsageError, match="--nlist is at most 1 with 48 vectors"):
        IVFFlat(2).make(held.vectors)


corpus_fingerprint = corpus.fingerprint
