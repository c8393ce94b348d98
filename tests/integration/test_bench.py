"""Benchmarks write rows beside a named peer. What they measure, no test asserts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db import benchmarks
from lvmdb.db.benchmarks import Measured
from lvmdb.db.engine import Database
from lvmdb.errors import SequenceError, UnknownNameError, UsageError
from lvmdb.sequences import bench as stream_bench
from lvmdb.sequences.bench import bench_stream
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training import bench as train_bench
from lvmdb.training.bench import bench_train

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]


def test_rows_hold_the_median_and_the_ratio_to_the_first(db: Database, sql: Sql) -> None:
    measured = [Measured("peer", "things/s", [9.0, 2.0, 4.0]), Measured("ours", "things/s", [6, 6])]
    rows = benchmarks.write(
        db, "things", "here", measured, parameters={"n": 3}, environment={"cores": 2}
    )
    assert [row["ratio"] for row in rows] == [1.0, 1.5]
    assert rows[0] == {
        "benchmark": "things",
        "subject": "here",
        "contender": "peer",
        "value": 4.0,
        "unit": "things/s",
        "ratio": 1.0,
        "lowest": 2.0,
        "highest": 9.0,
    }
    stored = (
        "SELECT name, subject, contender, value, unit, samples, parameters, environment "
        "FROM benchmark ORDER BY benchmark_id"
    )
    assert sql(stored) == [
        ("things", "here", "peer", 4.0, "things/s", [9, 2, 4], {"n": 3}, {"cores": 2}),
        ("things", "here", "ours", 6.0, "things/s", [6, 6], {"n": 3}, {"cores": 2}),
    ]
    benchmarks.write(db, "things", "here", measured, parameters={}, environment={})
    assert sql("SELECT count(*) FROM benchmark GROUP BY session_id") == [(2,), (2,)]


def test_the_stream_stands_beside_the_adapter(
    db: Database, corpus: Corpus, sequence_set: MakeSet
) -> None:
    corpus([8] * 6)
    measured = bench_stream(db, sequence_set(), repetitions=2)
    assert [m.contender for m in measured] == [
        stream_bench.ADAPTER,
        stream_bench.TEXT,
        stream_bench.STREAM,
        stream_bench.BATCHES,
    ]
    assert {m.unit for m in measured} == {"vectors/s"}
    assert [len(m.samples) for m in measured] == [2, 1, 2, 2]
    assert all(sample > 0 for m in measured for sample in m.samples)


def test_all_contenders_read_the_same_concepts(
    db: Database, corpus: Corpus, sequence_set: MakeSet
) -> None:
    corpus([8] * 6)
    made = sequence_set()
    counts = {stream_bench._adapter(db, made, "train", binary=binary) for binary in (True, False)}
    assert counts == {8 * 3}


def test_training_from_sql_stands_beside_training_from_memory(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([8] * 6)
    made = sequence_set()
    measured = bench_train(db, made, "lstm", batches=1, repetitions=2, device="cpu")
    assert [m.contender for m in measured] == [train_bench.MEMORY, train_bench.SQL]
    assert [(m.unit, len(m.samples)) for m in measured] == [("windows/s", 2)] * 2
    assert all(sample > 0 for m in measured for sample in m.samples)
    # A measurement is no run.
    assert sql("SELECT count(*) FROM experiment_run") == [(0,)]


def test_what_cannot_be_measured_is_refused(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([8] * 6)
    made = sequence_set()
    with pytest.raises(UsageError, match="--architecture: ridge is a baseline"):
        bench_train(db, made, "ridge")
    with pytest.raises(UnknownNameError, match="unknown architecture 'lstn'"):
        bench_train(db, made, "lstn")
    with pytest.raises(SequenceError, match="is a draft"):
        bench_stream(db, sequence_set("d", freeze_it=False))
    assert sql("SELECT count(*) FROM benchmark") == [(0,)]
