"""Named SQL: `sql/*.sql` holds statements by name, `sql/reports/*.sql` one question each.

A named statement begins with `-- name: NAME` and a comment saying what it is for. Parameters
are written `:name`, which both SQLAlchemy and psql understand.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from sqlalchemy import TextClause, text
from sqlalchemy.dialects import postgresql

from lvmdb.db.files import project_folder
from lvmdb.errors import UnknownNameError

_NAME = re.compile(r"^-- name: (?P<name>[a-z0-9_]+)\s*$", re.MULTILINE)


def query(file: str, name: str) -> TextClause:
    """The statement `name` of `sql/<file>.sql`, ready to execute with its parameters."""
    statements = _statements(file)
    if name not in statements:
        raise UnknownNameError(f"statement in sql/{file}.sql", name, statements)
    return text(statements[name])


def report_names() -> list[str]:
    """The reports that exist."""
    return sorted(path.stem for path in (project_folder("sql") / "reports").glob("*.sql"))


def report_sql(name: str) -> str:
    """The text of one report, as it stands in `sql/reports/`.

    Raises:
        UnknownNameError: there is no such report.
    """
    if name not in report_names():
        raise UnknownNameError("report", name, report_names())
    return (project_folder("sql") / "reports" / f"{name}.sql").read_text(encoding="utf-8")


@cache
def _statements(file: str) -> dict[str, str]:
    path: Path = project_folder("sql") / f"{file}.sql"
    source = path.read_text(encoding="utf-8")
    parts = _NAME.split(source)
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


@cache
def psycopg_sql(file: str, name: str) -> str:
    """The same statement with psycopg's placeholders, for cursors that SQLAlchemy cannot open."""
    dialect = postgresql.psycopg.dialect()  # type: ignore[no-untyped-call]
    compiled = query(file, name).compile(dialect=dialect)
    return str(compiled)
