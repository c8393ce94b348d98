"""Listings in every format, and what goes to standard output."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvmdb.cli import main as program
from lvmdb.db.engine import Database
from lvmdb.models import registry
from lvmdb.training import catalogue

Fresh = Callable[..., AbstractContextManager[Database]]
Run = Callable[..., str]

LISTINGS = {
    "db status": {"item", "value"},
    "encoders list": {"name", "kind", "endpoint", "precision", "fingerprint", "length"},
    "sequences list": {"name", "dataset", "context", "train_windows", "fingerprint"},
    "sequences show two": {"name", "dataset", "context"},
    "runs list": {"run", "architecture", "status"},
    "schedule list": {"name", "entries", "to_be_chosen"},
    "runs show 1": set(),
    "runs diff 1 2": {"part", "item", "a", "b", "difference", "low", "high", "note"},
    "runs reproduce 1": {"what", "original", "reproduced", "same"},
    "index list": {"name", "storage", "vectors", "stale", "searches"},
    "index ranks --run-id 1": {"by", "recall@10", "same_rank", "not_found"},
    "index tune --queries 9": {"ef_search", "recall", "p5", "chosen"},
    "ingest errors": {"message", "tries"},
    "ingest errors --all": {"message", "tries", "resolved"},
    "ingest status": {"job", "dataset", "pending", "concepts_s", "steps", "vanished"},
    "ingest vanished": {"dataset", "article", "source"},
    "verify": {"dataset", "check", "value", "wanted", "result"},
    "verify --show lengths": {"words_from", "concepts", "mean_characters"},
    "verify --show tmd": {"tmd_code", "domain", "concepts", "share"},
    "architectures": {"name", "kind", "parameters"},
    "architectures mamba2": {"option", "default", "of"},
    "evaluate --run-id 1": {"run", "metric", "value", "chance"},
    "search --exact --cpe-id {cpe_id}": {"cosine", "title", "concept_text", "cpe_id"},
    "report leaderboard": {"run", "architecture", "cosine", "cosine_gain"},
    "report corpus_health": {"dataset_source"},
    "report learning_curve": set(),
    "report architectures": {"architecture", "best_run", "cosine_mean", "parameters", "seconds"},
    "report decoding": {"dataset", "calibrated_on", "threshold", "hit_rate", "in_use"},
    "report generation": {"run", "step", "truth", "none", "snapped", "copy"},
    "report cost": {"run", "parameters", "seconds", "cosine", "nothing_cheaper"},
    "report hyperparameters": {"option", "value", "cosine_difference", "pairs"},
    "report strategies": {"strategy", "value", "seeds", "cosine_difference", "verdict"},
    "report weeks": {"schedule", "week", "best_run", "val_cosine", "test_cosine"},
    "schedule status": {"week", "architecture", "done", "hours_left", "share", "share_planned"},
    "report predictions --run-id 1": set(),
    "report lineage": {"section", "item", "value"},
    "report ranks": {"run", "recall_at", "exact", "index", "same_rank", "lost"},
    "report targets": {"run", "target", "wanted", "reached", "verdict"},
    "report tmd_distribution": set(),
}
"""Listings, and columns that they must have."""

EMPTY = (
    "ingest errors",
    "ingest errors --all",
    "ingest vanished",
    "report decoding",
    "report generation",
    "report hyperparameters",
    "report learning_curve",
    "report strategies",
    "report weeks",
    "schedule list",
    "schedule status",
)


@pytest.fixture(scope="module")
def small(fresh_database: Fresh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database with a corpus, a set, an index and an evaluated run, all made by the program."""
    folder = tmp_path_factory.mktemp("files")
    vectors = np.random.default_rng(0).standard_normal((60, 768)).astype("<f4")
    np.save(folder / "v.npy", vectors)
    (folder / "t.jsonl").write_text(
        "".join(
            json.dumps({"article_title": f"Title, {k // 6}", "article_index": k // 6,
                        "chunk_index": k % 6, "concept_text": f'Text "{k}"'}) + "\n"
            for k in range(60)
        )
    )  # fmt: skip
    with fresh_database() as database, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LVMDB_DSN", database.dsn)
        for arguments in (
            ["import", "vectors", str(folder / "v.npy"), "--texts", str(folder / "t.jsonl"),
             "--dataset", "wiki", "--encoder", "test", "--normalize"],
            ["sequences", "create", "two", "--context", "2"],
            ["index", "build"],
            ["runs", "create", "--architecture", "copy-last", "--sequences", "two"],
            ["train", "--run-id", "1"],
            ["evaluate", "--run-id", "1"],
            ["runs", "create", "--architecture", "context-mean", "--sequences", "two"],
        ):  # fmt: skip
            patch.setattr(sys, "argv", ["lvmdb", "-q", *arguments])
            with pytest.raises(SystemExit) as ended:
                program.main()
            assert not ended.value.code, arguments
        yield database


@pytest.fixture
def run(
    small: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """`run("runs", "list")`: what the program prints on standard output."""
    monkeypatch.setenv("LVMDB_DSN", small.dsn)

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["lvmdb", *arguments])
        with pytest.raises(SystemExit) as ended:
            program.main()
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        return said.out

    return call


def _words(database: Database, listing: str) -> list[str]:
    with database.raw_connection() as connection:
        row = connection.execute("SELECT min(cpe_id::text) FROM cpe_entry").fetchone()
    (cpe_id,) = row or ("",)
    return listing.format(cpe_id=cpe_id).split()


@pytest.mark.parametrize("listing", LISTINGS)
def test_the_same_rows_in_every_format(
    small: Database, run: Run, monkeypatch: pytest.MonkeyPatch, listing: str
) -> None:
    # Counted once for the three formats: each architecture is built for it.
    count = catalogue.parameters
    counted = cache(lambda name, preset: count(registry.get(name), preset))
    monkeypatch.setattr(catalogue, "parameters", lambda of, preset: counted(of.name, preset))
    words = _words(small, listing)
    rows: list[dict[str, Any]] = json.loads(run(*words, "--format", "json"))
    header, *lines = csv.reader(io.StringIO(run(*words, "--format", "csv")))
    assert set(header) >= LISTINGS[listing]
    assert len(header) == len(set(header)) > 0
    if not listing.startswith("db status"):  # sizes grow
        assert len(lines) == len(rows)
    assert bool(rows) == (listing not in EMPTY), listing
    for row, line in zip(rows, lines, strict=False):
        assert list(row) == header
        for value, cell in zip(row.values(), line, strict=True):
            if isinstance(value, str):
                assert cell == value
            elif value is None:
                assert cell == ""
    table = run(*words)
    if listing != "runs show 1":
        assert all(name in table for name in header)


def test_search_through_the_index_finds_what_exact_search_finds(small: Database, run: Run) -> None:
    words = _words(small, "search --cpe-id {cpe_id} --format json")
    assert json.loads(run(*words)) == json.loads(run(*words, "--exact"))


def test_commands_that_plan_print_ids_alone(small: Database, run: Run) -> None:
    """So that they stand in `$(...)`; what an alias moves from and to is said."""
    first, second = run("ensemble", "create", "pair", "--members", "1,2"), "2"
    assert run("train", "--run-id", second).endswith("is fitted\n")
    said = run("train", "--run-id", first.strip())
    assert said == f"run {first.strip()} is fitted: 'lvmdb evaluate --run-id {first.strip()}'\n"
    assert run("sequences", "create", "inner", "--within", "two").startswith("inner: 10 articles")
    model = ["--architecture", "lstm", "--set", "hidden=4"]
    stages = run("runs", "stages", *model, "--sequences", "inner,two", "--epochs", "1,2").split()
    fork = run("runs", "fork", stages[1], "--set", "lr=1e-4").strip()
    assert [*stages, fork] == sorted({*stages, fork}, key=int)
    (shown,) = json.loads(run("runs", "show", fork, "--format", "json"))
    assert (shown["parent"], shown["hyperparameters"]["lr"]) == (int(stages[1]), 1e-4)
    assert run("runs", "promote", "1") == "production: no run -> run 1\n"
    assert run("runs", "promote", second) == "production: run 1 -> run 2\n"
    (shown,) = json.loads(run("runs", "show", second, "--format", "json"))
    assert shown["promoted_as"] == "production"


def test_a_report_as_a_page_and_in_a_file(run: Run, tmp_path: Path) -> None:
    assert "<table>" in run("report", "leaderboard", "--format", "html")
    file = tmp_path / "board.csv"
    assert run("report", "leaderboard", "--format", "csv", "--output", str(file)) == ""
    assert file.read_text().startswith("sequence_set,")
    assert list(tmp_path.glob(".*")) == []


def test_exports_of_ones_own_data(run: Run, tmp_path: Path) -> None:
    for file, words in (("c.npz", "export concepts"), ("s.npz", "sequences export two")):
        said = run(*words.split(), str(tmp_path / file))
        assert said.startswith(f"wrote {tmp_path / file}: ")
    with np.load(tmp_path / "c.npz") as concepts:
        assert set(concepts) == {"cpe_ids", "concept_texts", "vectors", "tmd_codes"}
        assert concepts["vectors"].shape == (60, 768)
        assert concepts["concept_texts"][59] == 'Text "59"'
    with np.load(tmp_path / "s.npz") as windows:
        assert windows["train_contexts"].shape == (32, 2, 768)


def test_an_id_from_one_command_is_the_argument_of_the_next(small: Database, run: Run) -> None:
    done = subprocess.run(
        [
            "bash",
            "-ec",
            "lvmdb train --run-id $(lvmdb runs create --architecture lstm --sequences two "
            "--set hidden=8 --set epochs=1 --seed 5)",
        ],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
        },
    )
    assert done.returncode == 0, done.stderr
    run_id = json.loads(run("runs", "list", "--format", "json"))[0]["run"]
    assert done.stdout.startswith(f"run {run_id}: 1 epochs, best validation loss ")
    assert f"run {run_id} epoch 1/1: train loss" in done.stderr
    again = run("train", "--run-id", str(run_id))
    assert again == f"run {run_id} has succeeded already: 'lvmdb evaluate --run-id {run_id}'\n"
