"""Reports as files: pages, pictures, recall by hand, whole texts, and what goes wrong."""

from __future__ import annotations

import builtins
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lvmdb.cli import main as program
from lvmdb.db.engine import Database
from lvmdb.errors import InputError
from lvmdb.reports.files import replace
from lvmdb.reports.named import settable
from lvmdb.reports.pictures import PICTURES

Fresh = Callable[..., AbstractContextManager[Database]]
Run = Callable[..., tuple[int, str, str]]

EVIL = '<script>alert({k})</script> & "text" of many words, '
PNG = b"\x89PNG\r\n\x1a\n"
PICTURED = ("leaderboard", "learning_curve", "recall_curve", "architectures", "cost")
"""Reports whose pictures two evaluated runs can fill."""

KS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@pytest.fixture(scope="module")
def small(fresh_database: Fresh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A corpus with hostile texts, run 1 (copy-last) and run 2 (lstm), trained and evaluated."""
    folder = tmp_path_factory.mktemp("files")
    vectors = np.random.default_rng(0).standard_normal((60, 768)).astype("<f4")
    np.save(folder / "v.npy", vectors)
    (folder / "t.jsonl").write_text(
        "".join(
            json.dumps({"article_title": f"<b>Title</b> {k // 6}", "article_index": k // 6,
                        "chunk_index": k % 6, "concept_text": EVIL.format(k=k) * 5}) + "\n"
            for k in range(60)
        )
    )  # fmt: skip
    with fresh_database() as database, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LVMDB_DSN", database.dsn)
        for arguments in (
            ["import", "vectors", str(folder / "v.npy"), "--texts", str(folder / "t.jsonl"),
             "--dataset", "wiki", "--encoder", "test", "--normalize"],
            ["sequences", "create", "two", "--context", "2"],
            ["runs", "create", "--architecture", "copy-last", "--sequences", "two"],
            ["runs", "create", "--architecture", "lstm", "--sequences", "two",
             "--set", "hidden=4", "--set", "epochs=1"],
            ["train", "--run-id", "1"],
            ["train", "--run-id", "2"],
            ["evaluate", "--run-id", "1"],
            ["evaluate", "--run-id", "2"],
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
    """`run("leaderboard", "--format", "html")`: exit code, standard output, standard error."""
    monkeypatch.setenv("LVMDB_DSN", small.dsn)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lvmdb", "-q", "report", *arguments])
        with pytest.raises(SystemExit) as ended:
            program.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


def test_recall_is_that_of_the_predictions(small: Database, run: Run) -> None:
    rows = json.loads(run("recall_curve", "--format", "json")[1])
    assert [row["k"] for row in rows] == [*KS, *KS]
    with small.raw_connection() as connection:
        stored = connection.execute(
            "SELECT run_id, better, tied, candidates FROM prediction WHERE split = 'test'"
        ).fetchall()
        measured = connection.execute(
            "SELECT run_id, split_part(metric, '@', 2)::int, value, chance FROM evaluation "
            "WHERE metric LIKE 'recall@%' AND pool = 'corpus' AND split = 'test'"
        ).fetchall()
    for row in rows:
        better, tied, candidates = np.array([s[1:] for s in stored if s[0] == row["run"]]).T
        k = row["k"]
        assert row["queries"] == len(better)
        assert row["recall"] == pytest.approx(
            np.clip((k - better) / (tied + 1), 0, 1).mean(), abs=1e-6
        )
        assert row["chance"] == pytest.approx(np.minimum(1, k / candidates).mean(), abs=1e-6)
    found = {(row["run"], row["k"]): (row["recall"], row["chance"]) for row in rows}
    assert len(measured) > 4
    for run_id, k, value, chance in measured:
        assert found[run_id, k] == pytest.approx((value, chance), abs=1e-6)


def test_ties_share_what_they_can_reach(small: Database, run: Run) -> None:
    with small.raw_connection() as connection:
        connection.execute(
            "CREATE TEMP TABLE prediction AS SELECT 2::bigint AS run_id, 'val' AS split, "
            "1 AS better, 3 AS tied, 8 AS candidates"
        )
        connection.execute("SET search_path = pg_temp, public")
        report = run("recall_curve", "--show-sql")[1]
        rows = connection.execute(report.encode()).fetchall()
        connection.rollback()
    # A second to fifth rank is equally likely, so the first k hold it with (k - 1) / 4.
    assert [(row[5], float(row[6]), float(row[7])) for row in rows[:5]] == [
        (1, 0, 0.125), (2, 0.25, 0.25), (5, 1, 0.625), (10, 1, 1), (20, 1, 1),
    ]  # fmt: skip
    assert rows[0][1] == "val"


@pytest.mark.parametrize("name", PICTURED)
def test_pictures_alone_and_in_a_page(run: Run, tmp_path: Path, name: str) -> None:
    file = tmp_path / "x.png"
    assert run(name, "--format", "png", "--output", str(file)) == (0, "", "")
    assert file.read_bytes().startswith(PNG)
    code, page, _ = run(name, "--format", "html")
    assert code == 0
    assert '<img src="data:image/png;base64,iVBOR' in page
    if "run_id" in settable(name):
        assert run(name, "--run-id", "2", "--format", "png", "--output", str(file))[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_predictions_are_whole_in_a_page_and_cut_in_a_table(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "x.html"
    assert run("predictions", "--format", "html", "--output", str(file))[0] == 0
    page = file.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;b&gt;Title&lt;/b&gt;" in page
    assert page.count("<h2>") == 2
    rows = json.loads(run("predictions", "--run-id", "1", "--format", "json")[1])
    assert {row["windows"] for row in rows} == {"best", "hardest"}
    assert all(len(row["truth"]) > 200 and len(row["context"]) > 400 for row in rows)
    best = [row["cosine"] for row in rows if row["windows"] == "best"]
    hardest = [row["cosine"] for row in rows if row["windows"] == "hardest"]
    assert best == sorted(best, reverse=True)
    assert hardest == sorted(hardest)
    assert min(best) >= max(hardest)
    table = run("predictions", "--run-id", "1")[1]
    assert max(map(len, table.splitlines())) < 500
    assert "…" in table


def test_every_report_is_a_page(run: Run) -> None:
    for line in run()[1].splitlines():
        code, page, error = run(line.split()[0], "--format", "html")
        assert code == 0, error
        assert page.startswith("<!doctype html>")
        assert "<script" not in page


@pytest.mark.parametrize("name", ["lineage", "predictions", "targets"])
def test_other_reports_have_no_picture(run: Run, name: str) -> None:
    code, out, error = run(name, "--format", "png", "--output", "x.png")
    assert (code, out) == (2, "")
    assert error == (
        "lvmdb: --format png is for learning_curve, leaderboard, recall_curve, architectures, "
        "cost, strategies and weeks, with --output FILE\n"
    )
    assert run("recall_curve", "--format", "png")[0] == 2


def test_what_a_report_is_asked_about(run: Run) -> None:
    code, page, _ = run("architectures", "--split", "val", "--format", "html")
    assert code == 0
    assert "<h1>Architectures, split val</h1>" in page
    assert "There are no rows." in page
    assert "SET lvmdb.split = &#x27;val&#x27;;" in page
    assert run("weeks", "--schedule", "x-1", "--show-sql")[1].startswith(
        "SET lvmdb.schedule = 'x-1';\n-- How did a schedule get on"
    )
    assert run("leaderboard", "--run-id", "2", "--show-sql")[1].startswith(
        "SET lvmdb.run_id = 2;\n-- What is each run worth"
    )
    code, _, error = run("weeks", "--schedule", "x-1")
    assert (code, error) == (
        1, "lvmdb: unknown schedule 'x-1'; there is none yet: 'lvmdb schedule create' makes one\n"
    )  # fmt: skip
    assert run("weeks", "--schedule", "x'; DROP TABLE article", "--show-sql")[0] == 2
    for words, told in (
        (("cost", "--run-id", "1"), "--run-id: the report cost is not about runs"),
        (("leaderboard", "--split", "val"), "--split: the report leaderboard has no split to"),
        (("cost", "--schedule", "x"), "--schedule: the report cost is not about schedules"),
    ):
        code, _, error = run(*words)
        assert code == 2
        assert told in error


def test_without_matplotlib_the_page_says_how_to_get_the_picture(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    code, page, _ = run("leaderboard", "--format", "html")
    assert code == 0
    assert "<img" not in page
    assert "needs the package &#x27;matplotlib&#x27;: pip install" in page
    code, _, error = run("leaderboard", "--format", "png", "--output", str(tmp_path / "x.png"))
    assert code == 1
    assert error.startswith("lvmdb: drawing a picture needs the package 'matplotlib'")
    assert error.count("\n") == 1


def test_nothing_evaluated_is_one_line_or_a_page_without_rows(
    fresh_database: Fresh, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with fresh_database() as empty:
        monkeypatch.setenv("LVMDB_DSN", empty.dsn)
        for name in PICTURES:
            code, _, error = run(name, "--format", "png", "--output", str(tmp_path / "x.png"))
            assert code == 1
            assert error.count("\n") == 1
            code, page, _ = run(name, "--format", "html")
            assert code == 0
            assert "There are no rows." in page
    assert list(tmp_path.iterdir()) == []


def test_a_page_for_another_encoding_is_ascii(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    with monkeypatch.context() as patch:
        stream = io.TextIOWrapper(raw, encoding="latin-1")
        patch.setattr(sys, "stdout", stream)
        assert run("leaderboard", "--format", "html")[0] == 0
        stream.flush()
    written = raw.getvalue()
    assert written.isascii()
    assert b"&#8211;" in written


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "curve.png"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*curve\.png: No space left on device"):
        replace(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError, match="cannot write"):
        replace(tmp_path / "none" / "x.png", b"new")
