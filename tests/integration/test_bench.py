"""Benchmarks write rows beside a named peer. What they measure, no test asserts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from psycopg.conninfo import make_conninfo

from lvmdb.cli.main import cli
from lvmdb.corpus.articles import VectorArticle
from lvmdb.db import benchmarks
from lvmdb.db.benchmarks import PEAK, Measured
from lvmdb.db.engine import Database
from lvmdb.errors import SequenceError, UnknownNameError, UsageError
from lvmdb.sequences import bench as stream_bench
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.sequences.bench import bench_stream
from lvmdb.sequences.held import batches, copied, npy_file
from lvmdb.sequences.peers import ADAPTER, PEERS, Blocks, Peer, Split, adapter
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.stream import SequenceStream, StreamOptions
from lvmdb.training.bench import bench_train

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]

LENGTHS = [8, 300, 1, 5, 8, 8]
"""Of articles: one that the stream reads in pieces, one without a window."""

PACKAGES = {
    "pandas read_sql": "pandas",
    "ADBC": "adbc_driver_postgresql",
    "ConnectorX": "connectorx",
}
READERS = {ADAPTER: adapter, **{peer.name: peer.read for peer in PEERS}}


def installed(name: str) -> bool:
    return name not in PACKAGES or find_spec(PACKAGES[name]) is not None


@pytest.fixture
def no_optional_client(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in PACKAGES.values():
        monkeypatch.setitem(sys.modules, package, None)


def joined(blocks: Blocks) -> NDArray[np.float32]:
    return np.concatenate([block.copy() for block in blocks])


def test_rows_hold_the_median_and_the_ratio_to_the_peer(db: Database, sql: Sql) -> None:
    measured = [
        Measured("peer", "things/s", [9.0, 2.0, 4.0], "peer"),
        Measured("ours", "things/s", [6, 6], "peer", {"n": 4}),
        Measured("ours", PEAK, [1]),
        Measured("else", "other/s", [6], "peer"),
    ]
    rows = benchmarks.write(
        db, "things", "here", measured, parameters={"n": 3}, environment={"cores": 2}
    )
    # Of another unit the peer has no value.
    assert [row["ratio"] for row in rows] == [1.0, 1.5, None, None]
    assert rows[0] == {
        "benchmark": "things",
        "subject": "here",
        "contender": "peer",
        "value": 4.0,
        "unit": "things/s",
        "peer": "peer",
        "ratio": 1.0,
        "lowest": 2.0,
        "highest": 9.0,
        "samples": [9.0, 2.0, 4.0],
        "parameters": {"n": 3, "peer": "peer"},
    }
    stored = (
        "SELECT name, subject, contender, value, unit, samples, parameters, environment "
        "FROM benchmark ORDER BY benchmark_id"
    )
    here = ("things", "here")
    assert sql(stored) == [
        (*here, "peer", 4.0, "things/s", [9, 2, 4], {"n": 3, "peer": "peer"}, {"cores": 2}),
        (*here, "ours", 6.0, "things/s", [6, 6], {"n": 4, "peer": "peer"}, {"cores": 2}),
        (*here, "ours", 1.0, "peak MB", [1], {"n": 3}, {"cores": 2}),
        (*here, "else", 6.0, "other/s", [6], {"n": 3, "peer": "peer"}, {"cores": 2}),
    ]
    benchmarks.write(db, "things", "here", measured, parameters={}, environment={})
    assert sql("SELECT count(*) FROM benchmark GROUP BY session_id") == [(4,), (4,)]


@pytest.mark.parametrize("name", READERS)
def test_each_client_reads_what_was_stored_in_order(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql, name: str
) -> None:
    articles = {article.source_key: article for article in corpus(LENGTHS)}
    made = sequence_set(split=(80, 10, 10))
    chosen = sql(
        "SELECT source_key FROM sequence_article JOIN article USING (article_id) "
        "WHERE split = 'train' ORDER BY position"
    )
    stored = np.concatenate([articles[key].vectors for (key,) in chosen])
    split = Split(db, made, "train")
    assert split.concepts == len(stored)
    ours = SequenceStream(db, made, "train", StreamOptions(readers=2))
    assert joined(ours.vectors()).tobytes() == stored.tobytes()
    if installed(name):
        assert joined(READERS[name](split)).tobytes() == stored.tobytes()


def test_all_read_the_whole_corpus_of_scope_corpus(
    db: Database, corpus: Corpus, sequence_set: MakeSet
) -> None:
    articles = corpus(LENGTHS)
    split = Split(db, sequence_set(scope="corpus"), "val")
    stored = np.concatenate([article.vectors for article in articles])
    assert split.concepts == len(stored)
    for name in filter(installed, READERS):
        assert joined(READERS[name](split)).tobytes() == stored.tobytes(), name


@pytest.mark.parametrize(("scope", "stride"), [("article", 1), ("article", 3), ("corpus", 2)])
def test_memory_gives_the_windows_of_the_stream(
    db: Database, corpus: Corpus, sequence_set: MakeSet, scope: str, stride: int
) -> None:
    corpus(LENGTHS)
    split = Split(db, sequence_set(scope=scope, stride=stride), "train")
    stream = SequenceStream(db, split.sequences, "train", StreamOptions(batch_size=7))

    def windows(made: Iterable[SequenceBatch]) -> list[tuple[Any, ...]]:
        found = []
        for batch in made:
            assert batch.mask.all()
            for k in range(len(batch)):
                place = int(batch.article_id[k]), int(batch.target_seq[k])
                found.append(
                    (*place, batch.context[k].numpy().tobytes(), batch.target[k].numpy().tobytes())
                )
        return found

    with npy_file(partial(adapter, split), split.concepts) as path:
        vectors = np.load(path)
        assert joined(copied(vectors)).tobytes() == vectors.tobytes()
        held = list(batches(vectors, split, 7, np.random.default_rng(0)))
    assert not path.exists()
    assert [len(batch) for batch in held] == [len(batch) for batch in stream]
    shuffled = windows(held)
    assert sorted(shuffled) == sorted(windows(stream)) != shuffled


def test_every_contender_is_measured(
    db: Database, corpus: Corpus, sequence_set: MakeSet, no_optional_client: None
) -> None:
    corpus([8] * 6)
    said: list[str] = []
    measured = bench_stream(db, sequence_set(), repetitions=2, readers=(1, 2), warn=said.append)
    speeds = {m.contender: m for m in measured if m.unit != PEAK}
    assert {name: (m.unit, len(m.samples), m.peer) for name, m in speeds.items()} == {
        "psycopg, pgvector's adapter": ("vectors/s", 2, ADAPTER),
        "psycopg, text": ("vectors/s", 1, ADAPTER),
        "SQLAlchemy yield_per": ("vectors/s", 1, ADAPTER),
        "COPY BINARY, numpy": ("vectors/s", 2, ADAPTER),
        "lvmdb, 1 reader": ("vectors/s", 2, ADAPTER),
        "lvmdb, 2 readers": ("vectors/s", 2, ADAPTER),
        "lvmdb, halfvec": ("vectors/s", 2, ADAPTER),
        "array in memory": ("vectors/s", 2, ADAPTER),
        "memory-mapped NPY": ("vectors/s", 2, ADAPTER),
        "windows of an array in memory": ("windows/s", 2, "windows of an array in memory"),
        "windows of a memory-mapped NPY": ("windows/s", 2, "windows of an array in memory"),
        "windows by lvmdb, 1 reader": ("windows/s", 2, "windows of an array in memory"),
        "windows by lvmdb, 2 readers": ("windows/s", 2, "windows of an array in memory"),
    }
    assert all(sample > 0 for m in speeds.values() for sample in m.samples)
    tried = speeds[ADAPTER].parameters["tried"]
    assert list(tried) == [str(size) for size in stream_bench.FETCH_SIZES]
    assert tried[str(speeds[ADAPTER].parameters["fetch_rows"])] == max(tried.values())
    text = speeds["psycopg, text"].parameters
    assert text["warmed_up"] is False
    assert text["client"] == f"psycopg {version('psycopg')}"
    assert speeds["lvmdb, halfvec"].parameters["sent"] == "halfvec"
    assert speeds["lvmdb, 1 reader"].parameters["sent"] in ("as stored", "portable")
    if sys.platform == "linux":
        assert {m.contender for m in measured if m.unit == PEAK} == set(speeds)
    why = "is left out: this contender needs the package"
    assert said == [
        f"pandas read_sql {why} 'pandas': pip install 'lvmdb[bench]'",
        f"ConnectorX {why} 'connectorx': pip install 'lvmdb[bench]'",
        f"ADBC {why} 'adbc-driver-postgresql': pip install 'lvmdb[bench]'",
    ]


def test_a_client_that_cannot_read_is_said_and_one_that_reads_less_is_an_error(
    db: Database, corpus: Corpus, sequence_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus([8] * 6)
    made = sequence_set()

    def refusing(_: Split) -> Blocks:
        raise RuntimeError("no such\n type at postgresql://me:p%25w@here (password=p%w): vector")

    def short(split: Split) -> Blocks:
        for block in adapter(split):
            yield block[1:]

    said: list[str] = []
    monkeypatch.setattr(stream_bench, "PEERS", [Peer("strange", "", refusing, optional=True)])
    guarded = Database(make_conninfo(db.dsn, password="p%w"))
    assert bench_stream(guarded, made, only=["strange"], warn=said.append) == []
    assert said == [
        "strange is left out: no such type at postgresql://me:***@here (password=***): vector"
    ]
    monkeypatch.setattr(stream_bench, "PEERS", [Peer("short", "", short)])
    with pytest.raises(SequenceError, match=r"short read 23 where the sequence set has 24: run"):
        bench_stream(db, made, only=["short"])


def test_half_precision_is_near(db: Database, corpus: Corpus, sequence_set: MakeSet) -> None:
    corpus(LENGTHS)
    split = Split(db, sequence_set(), "train")
    half = SequenceStream(db, split.sequences, "train", StreamOptions(half=True))
    exact = joined(adapter(split))
    assert np.array_equal(joined(half.vectors()), exact.astype(np.float16).astype(np.float32))


def test_the_command_prints_stores_and_draws(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql, tmp_path: Path
) -> None:
    corpus([8] * 6)
    sequence_set()
    command = ["bench", "stream", "--sequences", "s", "--repetitions", "1", "--dsn", db.dsn]
    only = ["--only", "copy binary", "--only", "ADAPTER"]
    done = CliRunner().invoke(cli, [*command, *only, "--format", "json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert {row["contender"] for row in rows} == {ADAPTER, "COPY BINARY, numpy"}
    stored = "SELECT contender, unit, value, samples FROM benchmark ORDER BY benchmark_id"
    assert sql(stored) == [
        (row["contender"], row["unit"], row["value"], row["samples"]) for row in rows
    ]
    picture = tmp_path / "lvmdb-home" / "pictures" / "bench_stream.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"picture: {picture}" in done.stderr
    assert f"ratios are to: {ADAPTER}" in done.stderr
    named = tmp_path / "x.png"
    done = CliRunner().invoke(cli, [*command, *only, "--picture", str(named)])
    assert named.exists()
    head = done.stdout.split("\n")[1].split()
    assert head == ["contender", "vectors/s", "MB/s", "peak", "MB", "ratio"][: len(head)]
    for wrong in (["--only", "copy-binary"], ["--readers", "0"], ["--readers", "1;2"]):
        done = CliRunner().invoke(cli, [*command, *wrong])
        assert done.exit_code != 0, wrong


def test_the_command_of_blocks_prints_stores_and_draws(
    db: Database, sql: Sql, tmp_path: Path
) -> None:
    picture = tmp_path / "blocks.png"
    command = ["bench", "blocks", "--architectures", "retnet, lstm", "--shapes", "2x3,1x9,2x3"]
    command += ["--d-model", "16", "--steps", "2", "--repetitions", "1", "--dsn", db.dsn]
    done = CliRunner().invoke(cli, [*command, "--picture", str(picture), "--format", "json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    names = ["retnet, 2x3", "lstm, 2x3", "retnet, 1x9", "lstm, 1x9"]
    assert [row["contender"] for row in rows] == names
    assert sql("SELECT name, subject, unit, count(*) FROM benchmark GROUP BY 1, 2, 3") == [
        ("blocks", "d_model 16", "positions/s", 4)
    ]
    (parameters,) = sql("SELECT parameters FROM benchmark WHERE contender = 'retnet, 1x9'")[0]
    assert parameters["model"]["d_model"] == 16
    assert (parameters["shape"], parameters["steps"], parameters["repetitions"]) == ("1x9", 2, 1)
    assert picture.read_bytes().startswith(b"\x89PNG")
    for shapes in ("2x", "0x3", "2x3x4", "2*3", ""):
        done = CliRunner().invoke(cli, ["bench", "blocks", "--shapes", shapes])
        assert done.exit_code == 2, shapes
        assert "is not a list of shapes, as in 64x5,32x64" in done.output
    done = CliRunner().invoke(cli, ["bench", "blocks", "--architectures", "ridge", "--dsn", db.dsn])
    assert done.exit_code != 0


def test_training_from_sql_stands_beside_training_from_memory(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([8] * 6)
    made = sequence_set()
    measured = bench_train(
        db, made, ["lstm", "mamba2", "lstm"], batches=1, repetitions=2, readers=2, device="cpu"
    )
    assert [(m.contender, m.peer) for m in measured] == [
        ("lstm, from memory", None),
        ("lstm, from SQL", "lstm, from memory"),
        ("mamba2, from memory", None),
        ("mamba2, from SQL", "mamba2, from memory"),
    ]
    assert [(m.unit, len(m.samples)) for m in measured] == [("windows/s", 2)] * 4
    assert all(sample > 0 for m in measured for sample in m.samples)
    # A measurement is no run.
    assert sql("SELECT count(*) FROM experiment_run") == [(0,)]


def test_the_lstm_that_is_measured_is_the_default() -> None:
    from lvmdb.models.configs.lstm import LSTMConfig

    assert (LSTMConfig().hidden, LSTMConfig().layers) == (512, 2)


def test_what_cannot_be_measured_is_refused(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([8] * 6)
    made = sequence_set()
    with pytest.raises(UsageError, match="--architecture: ridge is a baseline"):
        bench_train(db, made, ["ridge"])
    with pytest.raises(UnknownNameError, match="unknown architecture 'lstn'"):
        bench_train(db, made, ["lstn"])
    with pytest.raises(UnknownNameError, match="unknown contender 'adopter'"):
        bench_stream(db, made, only=["adopter"])
    with pytest.raises(SequenceError, match="is a draft"):
        bench_stream(db, sequence_set("d", freeze_it=False))
    assert sql("SELECT count(*) FROM benchmark") == [(0,)]
