"""Bad input: one line that says what is wrong, exit code 1 (2 for usage), the database as it was.

Every case runs the program in this process against a database with a corpus, sequence sets and
runs, and compares a checksum of every table before and after.
"""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from psycopg import conninfo, sql

from lvmdb.cli import main as program
from lvmdb.db import claims, migrate, revisions
from lvmdb.db.engine import Database

Fresh = Callable[..., AbstractContextManager[Database]]
MakeArticles = Callable[..., list[Any]]
Snapshot = dict[str, tuple[int, str | None]]

CONCEPTS = 12
LENGTHS = [CONCEPTS] * 10
SUCCEEDED, PLANNED, CANCELLED, DRAFTED = 1, 2, 3, "draft"


def snapshot(database: Database) -> Snapshot:
    """Rows and a checksum of every table."""
    with database.raw_connection() as connection:
        names = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        ).fetchall()
        found: Snapshot = {}
        for (name,) in names:
            row = connection.execute(
                sql.SQL("SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} t")
                .format(sql.Identifier(name))
            ).fetchone()  # fmt: skip
            assert row is not None
            found[name] = (row[0], row[1])
        return found


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@contextmanager
def _arguments(arguments: Sequence[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = ["lvmdb", *arguments]
    try:
        yield
    finally:
        sys.argv = before


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Result:
    """The program in this process."""
    capsys.readouterr()
    with _arguments(arguments), pytest.raises(SystemExit) as ended:
        program.main()
    said = capsys.readouterr()
    return Result(int(ended.value.code or 0), said.out, said.err)


def quietly(*arguments: str) -> None:
    """The program in this process, to prepare something."""
    with _arguments(["-q", *arguments]), pytest.raises(SystemExit) as ended:
        program.main()
    assert not ended.value.code, arguments


@dataclass(frozen=True)
class House:
    """A database with something of everything, and files, good and broken."""

    db: Database
    files: Path


def _lines(first: int = 0) -> list[dict[str, Any]]:
    return [
        {"article_title": f"Title {k // CONCEPTS}", "article_index": first + k // CONCEPTS,
         "chunk_index": k % CONCEPTS, "concept_text": f"Text {k}"}
        for k in range(sum(LENGTHS))
    ]  # fmt: skip


def _vectors(rows: int = sum(LENGTHS), numbers: int = 768) -> np.ndarray:
    vectors = np.random.default_rng(0).standard_normal((rows, numbers))
    unit: np.ndarray = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("<f4")
    return unit


def _jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def _write_files(folder: Path) -> None:
    def npz(name: str, vectors: np.ndarray) -> None:
        np.savez(folder / name, vectors=vectors, allow_pickle=False)

    npz("good.npz", _vectors())
    npz("short.npz", _vectors(rows=sum(LENGTHS) - 1))
    npz("v767.npz", _vectors(numbers=767))
    for name, row, value in (("nan.npz", 4, np.nan), ("zero.npz", 5, 0), ("long.npz", 6, 1)):
        vectors = _vectors()
        vectors[row] = value
        npz(name, vectors)
    whole = (folder / "good.npz").read_bytes()
    (folder / "half.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "text.npz").write_bytes(b"not an archive")
    (folder / "vectors.txt").touch()
    texts = _jsonl(_lines())
    lines = texts.splitlines(keepends=True)
    packed = gzip.compress(texts)
    gap = _lines()
    gap[CONCEPTS + 3]["chunk_index"] = 9
    for file, content in {
        "good.jsonl": texts,
        "short.jsonl": b"".join(lines[:-1]),
        "line17.jsonl": b"".join([*lines[:16], b'{"article_title": "Ti\n', *lines[17:]]),
        "latin1.jsonl": b"".join([*lines[:2], b'{"article_title": "\xe9"}\n', *lines[3:]]),
        "gap.jsonl": _jsonl(gap),
        "empty.jsonl": b"",
        "half.jsonl.gz": packed[: len(packed) // 2],
        "articles.jsonl": b'{"title": "A", "text": "One sentence of several words here."}\n' * 16
        + b'{"title": "B", "text"\n',
        "good-articles.jsonl": b'{"title": "A", "text": "One sentence of several words here."}\n',
        "not.dump": b"PGDMP is not enough",
    }.items():
        (folder / file).write_bytes(content)


@pytest.fixture(scope="module")
def house(fresh_database: Fresh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Dataset wiki (10 articles of 12 concepts), sets wiki2 and draft, runs 1 to 3."""
    folder = tmp_path_factory.mktemp("files")
    _write_files(folder)
    with fresh_database() as database, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LVMDB_DSN", database.dsn)
        quietly("import", "vectors", str(folder / "good.npz"),
                "--texts", str(folder / "good.jsonl"),
                "--dataset", "wiki", "--encoder", "test-encoder")  # fmt: skip
        for arguments in (
            ["sequences", "create", "wiki2", "--context", "2"],
            ["sequences", "create", DRAFTED, "--context", "2", "--draft"],
            ["runs", "create", "--architecture", "copy-last", "--sequences", "wiki2"],
            ["runs", "create", "--architecture", "lstm", "--sequences", "wiki2",
             "--set", "hidden=8", "--set", "epochs=1"],
            ["runs", "create", "--architecture", "ridge", "--sequences", "wiki2"],
            ["train", "--run-id", str(SUCCEEDED)],
            ["evaluate", "--run-id", str(SUCCEEDED)],
            ["runs", "cancel", str(CANCELLED)],
        ):  # fmt: skip
            quietly(*arguments)
        yield House(database, folder)


@pytest.fixture(scope="module")
def seen() -> list[Snapshot]:
    """The database as the last refusal left it, so as the next one finds it.

    What changes the database in between empties this list.
    """
    return []


@pytest.fixture
def refused(
    house: House,
    seen: list[Snapshot],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., str]:
    """`refused(["train", ...], "part of the message", code=1)`: and nothing is written."""
    monkeypatch.setenv("LVMDB_DSN", house.db.dsn)
    monkeypatch.setattr(claims, "CLAIM_PATIENCE", 0.2)
    monkeypatch.chdir(house.files)

    def check(arguments: list[str], said: str, code: int = 1) -> str:
        before = seen.pop() if seen else snapshot(house.db)
        files = sorted(house.files.iterdir())
        result = call(capsys, *arguments)
        assert said in result.err
        assert result.code == code
        assert result.err.count("\n") == 1, result.err
        assert result.err.startswith("lvmdb: ")
        assert result.out == ""
        after = snapshot(house.db)
        assert after == before
        assert sorted(house.files.iterdir()) == files
        seen.append(after)
        return result.err

    return check


def _import(vectors: str, texts: str = "good.jsonl", dataset: str = "new") -> list[str]:
    return ["import", "vectors", vectors, "--texts", texts, "--dataset", dataset,
            "--encoder", "test-encoder"]  # fmt: skip


def _create(*options: str, name: str = "s", dataset: str = "wiki") -> list[str]:
    return ["sequences", "create", name, "--dataset", dataset, *options]


def _plan(*options: str, architecture: str = "lstm", sequences: str = "wiki2") -> list[str]:
    return ["runs", "create", "--architecture", architecture, "--sequences", sequences, *options]


def _ingest(source: str = "articles.jsonl", **more: str) -> list[str]:
    chosen = {"reader": "jsonl", "dataset": "news", "encoder": "none", **more}
    return ["ingest", "run", source, *(part for k, v in chosen.items() for part in (f"--{k}", v))]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (_import("none.npz"), "none.npz: no such file"),
        (_import("good.npz", "none.jsonl"), "none.jsonl: no such file"),
        (_import("half.npz"), "half.npz"),
        (_import("text.npz"), "text.npz"),
        (_import("vectors.txt"), "unknown kind of file; known: .npz, .npy, .parquet"),
        (_import("good.npz", "good.npz"), "unknown kind of file; known: .jsonl"),
        (_import("good.npz", "empty.jsonl"), "empty.jsonl: the file is empty"),
        (_import("good.npz", "half.jsonl.gz"), "the file is truncated"),
        (_import("good.npz", "latin1.jsonl"), "latin1.jsonl:3: not UTF-8"),
        (_import("good.npz", "line17.jsonl"), "line17.jsonl:17: not JSON"),
        (_import("good.npz", "gap.jsonl"), "gap.jsonl:16: chunk_index is 9, not 3"),
        (_import("v767.npz"), "v767.npz: vectors of 767 numbers, not 768"),
        (_import("nan.npz"), "nan.npz: row 5: the vector has NaN"),
        (_import("zero.npz"), "zero.npz: row 6: the vector has zero norm"),
        (_import("long.npz"), "long.npz: row 7: the vector's norm is 27.71, not 1"),
        (_import("short.npz"), "no vector for this text: short.npz has 119 rows"),
        (_import("good.npz", "short.jsonl"), "119 texts, but good.npz has 120 rows"),
        (
            ["-q", *_import("good.npz", dataset="wiki")[:-1], "other"],
            "dataset 'wiki' has vectors of the encoder 'test-encoder'",
        ),
        (_ingest("none.jsonl"), "none.jsonl: no such file"),
        (_ingest(), "articles.jsonl:17: not JSON"),
        (_ingest("latin1.jsonl"), "latin1.jsonl:1: `title` is missing"),
        (_ingest("half.jsonl.gz"), "half.jsonl.gz"),
        (_ingest(reader="jsnol"), "unknown reader 'jsnol'; did you mean 'jsonl'?"),
        (_ingest(chunker="sentense"), "unknown chunker 'sentense'; did you mean 'sentence'?"),
    ],
    ids=str,
)
def test_files(refused: Callable[..., str], arguments: list[str], said: str) -> None:
    refused(arguments, said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--run-id", "99"], "unknown run '99'; 'lvmdb runs list' shows"),
        (["evaluate", "--run-id", "99"], "unknown run '99'"),
        (["report", "leaderboard", "--run-id", "99"], "unknown run '99'"),
        (["runs", "show", "99"], "unknown run '99'"),
        (["runs", "diff", "1", "99"], "unknown run '99'"),
        (["runs", "reproduce", "99"], "unknown run '99'"),
        (["runs", "cancel", "99"], "unknown run '99'"),
        (["runs", "enqueue", "99"], "unknown run '99'"),
        (["runs", "retry", "99"], "unknown run '99'"),
        (["runs", "delete", "99", "--yes"], "unknown run '99'"),
        (["runs", "fork", "99"], "unknown run '99'"),
        (["runs", "promote", "99"], "unknown run '99'"),
        (["ensemble", "create", "x", "--members", "1,99"], "unknown run '99'"),
        (["runs", "stages", "--architecture", "lstm", "--sequences", "wiki2,wiki3",
          "--epochs", "1,1"], "unknown sequence set 'wiki3'; did you mean 'wiki2'?"),
        (["schedule", "create", "x", "--sequences", "wiki3"], "did you mean 'wiki2'?"),
        (["sequences", "create", "x", "--within", "wiki3"], "did you mean 'wiki2'?"),
        (["train", "--run-id", "9" * 30], "out of range"),
        (_create(dataset="wikki"), "unknown dataset 'wikki'; did you mean 'wiki'?"),
        (["verify", "--dataset", "wikki"], "unknown dataset 'wikki'; did you mean 'wiki'?"),
        (["export", "concepts", "x.npz", "--dataset", "w"], "unknown dataset 'w'; known: wiki"),
        (["index", "build", "--dataset", "wikki"], "unknown dataset 'wikki'; did you mean"),
        (["search", "x", "--dataset", "wikki"], "unknown dataset 'wikki'; did you mean"),
        (["sequences", "show", "wiki3"], "unknown sequence set 'wiki3'; did you mean 'wiki2'?"),
        (["sequences", "freeze", "wiki3"], "did you mean 'wiki2'?"),
        (["sequences", "export", "wiki3", "x.npz"], "did you mean 'wiki2'?"),
        (["sequences", "delete", "wiki3", "--yes"], "did you mean 'wiki2'?"),
        (["verify", "--sequences", "wiki3", "-q", "--dataset", "wikki"], "unknown dataset"),
        (["bench", "stream", "--sequences", "wiki3"], "did you mean 'wiki2'?"),
        (["bench", "train", "--sequences", "wiki3"], "did you mean 'wiki2'?"),
        (_plan(sequences="wiki3"), "unknown sequence set 'wiki3'; did you mean 'wiki2'?"),
        (_plan(architecture="lsmt"), "unknown architecture 'lsmt'; did you mean 'lstm'?"),
        (_plan("--set", "hiden=3"), "unknown option of lstm 'hiden'; did you mean 'hidden'?"),
        (_plan("--set", "epochs=3", architecture="ridge"), "unknown option of ridge 'epochs'"),
        (_plan("--set", "preset=toi"), "unknown preset 'toi'; did you mean 'toy'?"),
        (_plan("--loss", "mze"), "unknown loss 'mze'; did you mean 'mse'?"),
        (["encoders", "verify", "test-encodr"], "unknown encoder 'test-encodr'; did you mean"),
        (["index", "drop", "nothing"], "unknown index 'nothing'"),
        (["report", "leaderbord"], "unknown report 'leaderbord'; did you mean 'leaderboard'?"),
        (["migrate", "--to", "0099"], "unknown revision '0099'"),
        (["search", "--exact", "--cpe-id", "5d6e8f1a-0000-0000-0000-000000000000"],
         "unknown concept"),
        (["sequences", "show", "a\udcff"], "not UTF-8: 'a\\udcff'"),
    ],
    ids=str,
)  # fmt: skip
def test_names(refused: Callable[..., str], arguments: list[str], said: str) -> None:
    refused(arguments, said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (_create(name="Wiki"), "'Wiki' cannot name a sequence set"),
        (_create(name="a b"), "use lower-case letters, digits, '_' and '-'"),
        (_import("good.npz", dataset="né"), "'né' cannot name a dataset"),
        (_ingest(dataset="A"), "'A' cannot name a dataset"),
        (_create("--split", "80/10/20"), "three shares that add up to 100"),
        (_create("--split", "80/20"), "--split is three shares as in 80/10/10, not '80/20'"),
        (_create("--split", "nan/10/10"), "--split is three shares"),
        (_create("--split", "120/-10/-10"), "three shares that add up to 100"),
        (_create("--context", "0"), "--context must be at least 1"),
        (_create("--stride", "0"), "--stride must be at least 1"),
        (_create("--max-concepts", "5"), "--max-concepts must be more than --context"),
        (_plan("--set", "hidden"), "--set takes key=value, not 'hidden'"),
        (_plan("--set", "lr=1e-3", "--set", "lr=1e-4"), "--set lr is given twice"),
        (_plan("--loss", "mse", architecture="ridge"), "ridge is a baseline and has no loss"),
        (_plan("--seed", "9" * 30), "--seed must fit into 64 bits"),
        (["runs", "diff", "1", "1"], "runs diff compares two runs, and 1 is one"),
        (["runs", "stages", "--architecture", "lstm", "--sequences", "wiki2", "--epochs", "many"],
         "--epochs takes whole numbers, as in 5,10,20, not 'many'"),
        (["ensemble", "create", "x", "--members", "1;2"],
         "--members takes ids of runs, as in 3,7,9, not '1;2'"),
        (["ensemble", "create", "X", "--members", "1,2"], "'X' cannot name an ensemble"),
        (["schedule", "create", "X", "--sequences", "wiki2"], "'X' cannot name a schedule"),
        (["sequences", "create", "x", "--within", "wiki2", "--split", "80/10/10"],
         "--split: within 'wiki2' each article keeps the split that it has"),
        (["search"], "give a text, --cpe-id or --vector, and one of them only"),
        (["search", "--exact", "-k", "0", "x"], "-k is from 1 to 999, not 0"),
        (["search", "--exact", "--storage", "bit", "x"], "--exact asks no index"),
        (["search", "--cpe-id", "7"], "--cpe-id is a UUID, not '7'"),
        (["index", "build", "--storage", "float"], "--storage is one of halfvec, vector"),
        (["index", "build", "--m", "1"], "--m is from 2 to 100, not 1"),
        (["index", "build", "--nlist", "3"], "--nlist is not for --kind hnsw"),
        (["index", "build", "--kind", "flat"], "--kind flat is for --engine faiss"),
        (["index", "build", "--engine", "faiss"], "name it with --output"),
        (["index", "build", "--output", "x"], "--output is for --engine faiss"),
        (["index", "build", "--engine", "faiss", "--output", "x", "--concurrently"],
         "--concurrently is for pgvector"),
        (["index", "build", "--engine", "faiss", "--output", "x", "--storage", "halfvec"],
         "--engine faiss is for --storage vector"),
        (["search", "x", "--tmd", "7"], "--tmd is domain.task.modifier"),
        (["search", "x", "--without", "7"], "--without is a concept's id"),
        (["report", "leaderboard", "--format", "png"], "--format png is for learning_curve"),
        (["db", "start"], "this is for the embedded server"),
    ],
    ids=str,
)  # fmt: skip
def test_usage(refused: Callable[..., str], arguments: list[str], said: str) -> None:
    refused(arguments, said, code=2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (_create("--context", "12"), "no article of dataset 'wiki' is longer than 12 concepts"),
        (_create("--context", "2", "--split", "80/1/19"), "split val of 's' has no window"),
        (_create(name="wiki2"), "there is a sequence set 'wiki2' already"),
        (["sequences", "delete", "wiki2", "--yes"], "experiment_run"),
        (["sequences", "export", DRAFTED, "x.npz"], "is a draft: run 'lvmdb sequences freeze"),
        (_plan(sequences=DRAFTED), "is a draft: run 'lvmdb sequences freeze draft'"),
        (_plan("--set", "hidden=abc"), "hidden must be a whole number, not 'abc'"),
        (_plan("--set", "hidden=-1"), "hidden must be at least 1, not -1"),
        (_plan("--set", "lr=nan"), "lr must be above 0 and below 1"),
        (_plan("--set", "residual=maybe"), "residual must be true or false"),
        (["evaluate", "--run-id", str(PLANNED)], f"run {PLANNED} is planned: 'lvmdb train"),
        (["evaluate", "--run-id", str(CANCELLED)], f"run {CANCELLED} is cancelled"),
        (["train", "--run-id", str(CANCELLED)], f"'lvmdb runs retry {CANCELLED}' plans it again"),
        (["runs", "cancel", str(SUCCEEDED)], "is succeeded and cannot be cancelled"),
        (["runs", "retry", str(PLANNED)], "only a failed or cancelled one is retried"),
        (["runs", "promote", str(PLANNED)], "is planned: only one that has succeeded is promoted"),
        (["runs", "fork", str(SUCCEEDED)], f"run {SUCCEEDED} is a baseline: only the run of a"),
        (["runs", "enqueue", str(SUCCEEDED)], "has succeeded: there is nothing to queue"),
        (["runs", "enqueue", str(PLANNED), str(CANCELLED)], f"run {CANCELLED} was cancelled"),
        (["runs", "reproduce", str(PLANNED)], f"run {PLANNED} is planned: 'lvmdb train"),
        (["search", "x"], "has no vector index: run 'lvmdb index build --dataset wiki'"),
        (["search", "x", "--exact"], "run 'lvmdb encoders verify test-encoder' first"),
        (["report", "learning_curve", "--format", "png", "--output", "x.png"],
         "no model has finished an epoch yet"),
        (["export", "concepts", "none/x.npz"], "cannot write none/x.npz: No such file"),
        (["-q", "report", "leaderboard", "--output", "none/x.csv"], "cannot write none/x.csv"),
        (["db", "dump", "none/x.dump"], "cannot write none/x.dump: there is no folder none"),
        (["db", "restore", "none.dump", "--yes"], "none.dump: no such file"),
        (["db", "restore", "not.dump", "--yes"], "pg_restore: error"),
    ],
    ids=str,
)  # fmt: skip
def test_states(refused: Callable[..., str], arguments: list[str], said: str) -> None:
    refused(arguments, said)


@pytest.mark.parametrize("device", ["cuda", "mps"])
@pytest.mark.parametrize("command", ["train --run-id", "evaluate --run-id", "worker --threads"])
def test_a_device_that_is_not_there(refused: Callable[..., str], command: str, device: str) -> None:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if there[device]:
        pytest.skip(f"this machine has {device}")
    refused([*command.split(), str(PLANNED), "--device", device], f"--device {device}: ")


def test_a_run_that_is_running_elsewhere(house: House, refused: Callable[..., str]) -> None:
    with house.db.raw_connection() as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", [claims.LOCK_CLASS, PLANNED])
        for arguments in (["train", "--run-id"], ["runs", "delete", "--yes"]):
            refused([*arguments, str(PLANNED)], f"run {PLANNED} is running elsewhere")


def test_a_run_whose_data_changed(
    house: House, seen: list[Snapshot], refused: Callable[..., str]
) -> None:
    def change(text: str) -> None:
        seen.clear()
        with house.db.raw_connection() as connection:
            connection.execute("SET LOCAL session_replication_role = replica")
            changed = connection.execute(
                "UPDATE cpe_entry SET concept_text = %s WHERE seq = 3 AND article_id = "
                "(SELECT min(article_id) FROM sequence_article WHERE split = 'train')", [text]
            )  # fmt: skip
            assert changed.rowcount == 1

    with house.db.raw_connection() as connection:
        (before,) = connection.execute(
            "SELECT concept_text FROM cpe_entry WHERE seq = 3 AND article_id = "
            "(SELECT min(article_id) FROM sequence_article WHERE split = 'train')"
        ).fetchone() or ("",)
    change("Another text")
    try:
        refused(["train", "--run-id", str(PLANNED)], "is not what was frozen")
    finally:
        change(before)


def test_a_server_whose_disk_is_full(
    house: House,
    seen: list[Snapshot],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen.clear()
    monkeypatch.setenv("LVMDB_DSN", house.db.dsn)
    monkeypatch.chdir(house.files)
    before = snapshot(house.db)
    with house.db.raw_connection(autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE "
            "'could not extend file' USING ERRCODE = 'disk_full'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER full_disk AFTER INSERT ON cpe_entry EXECUTE FUNCTION full_disk()"
        )
        try:
            result = call(capsys, *_import("good.npz", dataset="new"))
        finally:
            connection.execute("DROP FUNCTION full_disk CASCADE")
            # What the failed job says of itself stays; nothing else does.
            (jobs,) = connection.execute(
                "SELECT array_agg(status) FROM ingest_job WHERE dataset_source = 'new'"
            ).fetchone() or (None,)
            connection.execute("DELETE FROM ingest_job WHERE dataset_source = 'new'")
            connection.execute("DELETE FROM dataset WHERE dataset_source = 'new'")
    assert result.code == 1
    assert "could not extend file (the server's disk is full: free space" in result.err
    assert "Traceback" not in result.err
    assert jobs == ["failed"]
    after = snapshot(house.db)
    assert after == {**before, "pipeline_timing": after["pipeline_timing"]}


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "concepts", "x.npz"],
        ["sequences", "export", "wiki2", "x.npz", "-q"],
        ["report", "predictions", "--format", "csv", "--output", "x.csv"],
        ["db", "dump", "x.dump"],
    ],
    ids=str,
)
def test_a_disk_of_ones_own_that_is_full(refused: Callable[..., str], arguments: list[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        refused(arguments, "" if arguments[0] == "db" else "File too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def empty(fresh_database: Fresh) -> Iterator[Database]:
    """A database without lvmdb's tables."""
    with fresh_database(migrated=False) as database:
        yield database


def test_a_database_at_another_revision(
    empty: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    def said() -> str:
        before = snapshot(empty)
        result = call(capsys, "--dsn", empty.dsn, "runs", "list")
        assert (result.code, result.err.count("\n"), result.out) == (1, 1, "")
        assert snapshot(empty) == before
        return result.err

    assert "the database has no lvmdb tables yet: run 'lvmdb migrate'" in said()
    migrate.upgrade(empty, "0003")
    assert f"at revision 0003, the program at {revisions.head()}: run 'lvmdb migrate'" in said()
    with empty.raw_connection() as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    unknown = "at revision 9999, which this program does not know: upgrade lvmdb"
    assert unknown in said()
    result = call(capsys, "--dsn", empty.dsn, "migrate")
    assert (result.code, unknown in result.err) == (1, True)


@pytest.mark.parametrize(
    ("view", "said"),
    [
        ("SELECT * FROM pg_catalog.pg_available_extensions WHERE name <> 'vector'",
         "the server has no pgvector extension: install pgvector 0.8.4 or newer"),
        ("SELECT name, '0.8.3' AS default_version, NULL AS installed_version "
         "FROM pg_catalog.pg_available_extensions",
         "pgvector 0.8.3 is too old: lvmdb needs 0.8.4 or newer"),
    ],
    ids=["none", "old"],
)  # fmt: skip
def test_a_server_without_pgvector_or_with_an_old_one(
    empty: Database, capsys: pytest.CaptureFixture[str], view: str, said: str
) -> None:
    with empty.raw_connection() as connection:
        connection.execute("CREATE SCHEMA pretence")
        connection.execute(f"CREATE VIEW pretence.pg_available_extensions AS {view}".encode())
    dsn = conninfo.make_conninfo(empty.dsn, options="-c search_path=pretence,pg_catalog,public")
    for command in (["migrate"], ["runs", "list"]):
        result = call(capsys, "--dsn", dsn, *command)
        assert (result.code, result.err.count("\n")) == (1, 1)
        assert said in result.err
    assert snapshot(empty) == {}


def test_a_server_that_is_too_old(
    empty: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lvmdb.db.engine.MIN_SERVER", 99)
    result = call(capsys, "--dsn", empty.dsn, "migrate")
    assert result.code == 1
    assert "is too old: lvmdb needs 99 or newer" in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["runs", "show", "99"], 1, "lvmdb: unknown run '99'"),
        (["sequences", "create", "a b"], 2, "lvmdb: 'a b' cannot name"),
        (["import", "vectors", "half.npz", "--texts", "good.jsonl", "--dataset", "new",
          "--encoder", "e"], 1, "lvmdb: half.npz"),
    ],
    ids=str,
)  # fmt: skip
def test_the_same_as_a_process(house: House, arguments: list[str], code: int, said: str) -> None:
    before = snapshot(house.db)
    done = subprocess.run(
        [sys.executable, "-m", "lvmdb", *arguments],
        capture_output=True,
        text=True,
        cwd=house.files,
        env={**os.environ, "LVMDB_DSN": house.db.dsn, "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
    assert snapshot(house.db) == before
