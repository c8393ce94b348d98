"""Runs as TensorBoard reads them, and as rows: read back by a reader that is not the writer's."""

from __future__ import annotations

import builtins
import csv
import io
import json
import struct
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lvmdb.cli import main as program
from lvmdb.db.engine import Database
from lvmdb.errors import InputError
from lvmdb.reports import run_export
from lvmdb.reports.run_export import export_events

Result = Callable[..., int]
Run = Callable[..., tuple[int, str, str]]

BEGAN = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def crc32c(data: bytes) -> int:
    """Castagnoli's, bit by bit (RFC 3720, B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


def records(data: bytes) -> Iterator[bytes]:
    """TFRecord: length, its checksum, bytes, their checksum."""
    while data:
        (length, check) = struct.unpack("<QI", data[:12])
        assert check == masked(data[:8])
        body = data[12 : 12 + length]
        assert len(body) == length
        assert struct.unpack("<I", data[12 + length : 16 + length])[0] == masked(body)
        yield body
        data = data[16 + length :]


def fields(data: bytes) -> dict[int, list[Any]]:
    """A message of protocol buffers by field number: numbers, or bytes."""
    found: dict[int, list[Any]] = {}

    def varint() -> int:
        nonlocal data
        value = shift = 0
        while True:
            byte, data = data[0], data[1:]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while data:
        key = varint()
        value: Any
        match key & 7:
            case 0:
                value = varint()
            case 1:
                value, data = struct.unpack("<d", data[:8])[0], data[8:]
            case 5:
                value, data = struct.unpack("<f", data[:4])[0], data[4:]
            case kind:
                assert kind == 2
                length = varint()
                value, data = data[:length], data[length:]
        found.setdefault(key >> 3, []).append(value)
    return found


def read(folder: Path) -> tuple[list[tuple[str, int, float, float]], str]:
    """Scalars as (tag, step, value, time) in order, and the text `run`."""
    (file,) = folder.iterdir()
    assert file.name.startswith("events.out.tfevents.")
    first, *events = map(fields, records(file.read_bytes()))
    assert first[3] == [b"brain.Event:2"]
    scalars, texts = [], {}
    for event in events:
        (value,) = (fields(value) for value in fields(event[5][0])[1])
        tag = value[1][0].decode()
        if 2 in value:
            scalars.append((tag, event[2][0], value[2][0], event[1][0]))
        else:
            texts[tag] = fields(value[8][0])[8][0].decode()
            assert b"text" in value[9][0]
    (told,) = texts.values()
    assert list(texts) == ["run/text_summary"]
    return scalars, told


@pytest.fixture
def trained(db: Database, result: Result) -> list[int]:
    """A model with three numbers, a baseline with one, a run that was never trained."""
    runs = [
        result("lstm", {"hidden": 4, "kernel": "a|b"}, seed=3, parameter_count=99, device="cpu"),
        result("copy-last", kind="baseline"),
        result("gru", status="planned"),
    ]
    with db.raw_connection() as connection:
        for run, split, name, step, value in (
            (runs[0], "train", "loss", 1000, 0.25),
            (runs[0], "val", "loss", 1000, 0.1),
            (runs[0], "train", "step_loss", 50, 1e-30),
            (runs[1], "val", "cosine", 1, 0.5),
        ):
            connection.execute(
                "INSERT INTO run_metric (run_id, name, split, step, epoch, value, recorded_at) "
                "VALUES (%s, %s, %s, %s, 1, %s, %s)",
                [run, name, split, step, value, BEGAN + timedelta(seconds=step)],
            )
    return runs


@pytest.fixture
def run(db: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("7", "--format", "csv")`: exit code, standard output, standard error."""
    monkeypatch.setenv("LVMDB_DSN", db.dsn)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lvmdb", "-q", "runs", "export", *arguments])
        with pytest.raises(SystemExit) as ended:
            program.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


def test_tensorboard_gets_every_number(trained: list[int], run: Run, tmp_path: Path) -> None:
    model, baseline, planned = trained
    folder = tmp_path / "board"
    code, out, error = run("--all", "--format", "tensorboard", "--output", str(folder))
    assert (code, out, error) == (0, f"wrote {folder}: 4 numbers of 3 runs\n", "")
    names = [
        f"run-{model:04}-lstm-seed3",
        f"run-{baseline:04}-copy-last-seed0",
        f"run-{planned:04}-gru-seed0",
    ]
    assert sorted(path.name for path in folder.iterdir()) == names
    scalars, told = read(folder / names[0])
    began = BEGAN.timestamp()
    single = struct.unpack("<f", struct.pack("<f", 1e-30))[0]
    assert scalars == [
        ("train/step_loss", 50, single, began + 50),
        ("train/loss", 1000, 0.25, began + 1000),
        ("val/loss", 1000, struct.unpack("<f", struct.pack("<f", 0.1))[0], began + 1000),
    ]
    lines = told.splitlines()
    assert lines[:2] == ["| | |", "|---|---|"]
    assert {
        f"| run | {model} |", "| architecture | lstm |", "| seed | 3 |", "| hidden | 4 |",
        r"| kernel | a\|b |", "| parameters | 99 |", "| sequences | s |",
    } <= set(lines)  # fmt: skip
    assert read(folder / names[1])[0] == [("val/cosine", 1, 0.5, began + 1)]
    assert read(folder / names[2])[0] == []
    # An ordinary folder, and nothing beside it.
    assert folder.stat().st_mode & 0o777 == 0o777 & ~_umask()
    assert [path.name for path in tmp_path.iterdir() if path.name != "lvmdb-home"] == ["board"]


def _umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_rows_of_some_runs(trained: list[int], run: Run, tmp_path: Path) -> None:
    model, baseline, _ = map(str, trained)
    rows = json.loads(run(model, model, "--format", "json")[1])
    assert [(row["split"], row["name"], row["step"], row["value"]) for row in rows] == [
        ("train", "step_loss", 50, 1e-30),
        ("train", "loss", 1000, 0.25),
        ("val", "loss", 1000, 0.1),
    ]
    assert (rows[0]["run"], rows[0]["architecture"], rows[0]["seed"]) == (trained[0], "lstm", 3)
    assert datetime.fromisoformat(rows[0]["recorded_at"]) == BEGAN + timedelta(seconds=50)
    file = tmp_path / "m.csv"
    file.write_text("old")
    code, out, _ = run(model, baseline, "--format", "csv", "--output", str(file))
    assert (code, out) == (0, f"wrote {file}: 4 numbers of 2 runs\n")
    assert len(list(csv.DictReader(io.StringIO(file.read_text())))) == 4


def test_what_is_there_is_kept(trained: list[int], run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "board"
    to_folder = ("--format", "tensorboard", "--output", str(folder))
    folder.mkdir()
    assert run("--all", *to_folder)[0] == 0  # an empty folder is no loss
    before = sorted(folder.rglob("*"))
    code, _, error = run("--all", *to_folder)
    assert code == 1
    assert "is not empty: name another, or give --overwrite" in error
    assert sorted(folder.rglob("*")) == before
    assert run(str(trained[0]), *to_folder, "--overwrite")[0] == 0
    assert len(list(folder.iterdir())) == 1
    # What no export wrote is never replaced.
    for precious in (folder / "notes.txt", next(folder.iterdir()) / "thesis.tex"):
        precious.write_text("mine")
        code, _, error = run("--all", *to_folder, "--overwrite")
        assert code == 1
        assert "is of no export" in error
        assert precious.read_text() == "mine"
        precious.unlink()
    code, _, error = run("--all", "--format", "tensorboard", "--output", __file__)
    assert (code, "is not a folder" in error) == (1, True)


def test_a_failure_leaves_what_was_there(
    db: Database, trained: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "board"
    export_events(db, trained[:1], folder)
    before = sorted(folder.rglob("*"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("_sync", "_described"):
        with monkeypatch.context() as patch:
            patch.setattr(run_export, name, full)
            with pytest.raises(InputError, match=r"cannot write .*board: No space left on device"):
                export_events(db, trained, folder, overwrite=True)
        assert sorted(folder.rglob("*")) == before
    with monkeypatch.context() as patch:
        rename = Path.rename
        patch.setattr(Path, "rename", lambda a, b: full() if a.name == "new" else rename(a, b))
        with pytest.raises(InputError, match="No space left"):
            export_events(db, trained, folder, overwrite=True)
    assert sorted(folder.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["board"]
    with pytest.raises(InputError, match="cannot write"):
        export_events(db, trained, tmp_path / "none" / "board")


def test_what_cannot_be_exported(
    run: Run, trained: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = str(trained[0])
    assert run("--format", "csv")[0] == 2
    assert run(one, "--all", "--format", "csv")[0] == 2
    assert run(one, "--format", "tensorboard")[0] == 2
    assert run(one, "--format", "csv", "--overwrite")[0] == 2
    assert run(one, "--format", "csv", "--output", str(tmp_path))[0] == 2
    code, _, error = run(one, "999", "--format", "csv")
    assert (code, error) == (
        1,
        "lvmdb: unknown run '999'; 'lvmdb runs list' shows those that exist\n",
    )
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("tensorboardX"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    code, _, error = run(one, "--format", "tensorboard", "--output", str(tmp_path / "board"))
    assert code == 1
    assert "needs the package 'tensorboardX': pip install 'lvmdb[tensorboard]'" in error
    assert not (tmp_path / "board").exists()


def test_no_runs_at_all(run: Run) -> None:
    code, _, error = run("--all", "--format", "json")
    assert (code, error) == (1, "lvmdb: there are no runs to export\n")
