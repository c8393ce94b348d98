"""Named SQL: every statement parses, has a purpose, and is found by its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lvmdb.db import queries
from lvmdb.db.files import project_folder
from lvmdb.errors import LvmdbError, UnknownNameError

FILES = sorted(path.stem for path in project_folder("sql").glob("*.sql"))


@pytest.fixture
def sql_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `sql/` of the test's own."""
    (tmp_path / "reports").mkdir()
    monkeypatch.setattr(queries, "project_folder", lambda _: tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _no_statement_of_another_test() -> None:
    queries._statements.cache_clear()
    queries.psycopg_sql.cache_clear()


@pytest.mark.parametrize("file", FILES)
def test_each_statement_has_a_name_a_purpose_and_an_end(file: str) -> None:
    source = (project_folder("sql") / f"{file}.sql").read_text(encoding="utf-8")
    names = re.findall(r"^-- name: *(.*)$", source, re.MULTILINE)
    assert names
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z0-9_]+", name)
        body = str(queries.query(file, name))
        assert body.startswith("-- "), f"{name} does not say what it is for"
        statement = re.sub(r"--.*", "", body).rstrip()
        statement = re.sub(r"\$\$.*?\$\$", "", statement, flags=re.DOTALL)
        assert statement.count(";") == 1, f"{name} is not one statement"
        assert statement.endswith(";")


@pytest.mark.parametrize("file", FILES)
def test_statements_for_psycopg_have_its_placeholders(file: str) -> None:
    for name in queries._statements(file):
        statement = queries.psycopg_sql(file, name)
        parameters = set(queries.query(file, name)._bindparams)
        assert set(re.findall(r"%\((\w+)\)s", statement)) == parameters
        # Outside of comments no percent sign is left that psycopg would take for a placeholder.
        assert "%" not in re.sub(r"%\(\w+\)s|%%", "", statement)


def test_statements_are_cut_at_their_names(sql_folder: Path) -> None:
    (sql_folder / "x.sql").write_text(
        "-- A file.\n\n-- name: one\n-- First.\nSELECT :a ::bigint, '-- name: no';\n\n"
        "-- name: two_2  \n-- Second.\nSELECT 2;\n",
        encoding="utf-8",
    )
    assert str(queries.query("x", "one")) == "-- First.\nSELECT :a ::bigint, '-- name: no';"
    assert str(queries.query("x", "two_2")) == "-- Second.\nSELECT 2;"
    assert queries.psycopg_sql("x", "one").splitlines()[1].startswith("SELECT %(a)s ::bigint")


def test_an_unknown_statement_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'stream_spans'"):
        queries.query("sequences", "stream_span")


def test_reports_are_the_files_there_are(sql_folder: Path) -> None:
    assert queries.report_names() == []
    for name in ("b", "a"):
        (sql_folder / "reports" / f"{name}.sql").write_text(f"SELECT '{name}';", encoding="utf-8")
    assert queries.report_names() == ["a", "b"]
    assert queries.report_sql("a") == "SELECT 'a';"
    for wrong in ("c", "../x", ""):
        with pytest.raises(UnknownNameError, match="known: a, b"):
            queries.report_sql(wrong)


def test_a_broken_installation_is_told() -> None:
    with pytest.raises(LvmdbError, match="install lvmdb again"):
        project_folder("nowhere")
