"""Reports by name: the query of `sql/reports/`, run as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from sqlalchemy import text

from lvmdb.db.engine import Database, raw
from lvmdb.db.queries import query, report_sql


@dataclass(frozen=True)
class Report:
    """A report's answer.

    Attributes:
        name: of the question.
        run_id: of the run that it is about; None for all.
        sql: what was run, as psql takes it.
        columns: names, in order.
        rows: one mapping each.
    """

    name: str
    run_id: int | None
    sql: str
    columns: list[str]
    rows: list[dict[str, Any]]

    @property
    def comment(self) -> list[str]:
        """The lines above the query: the question first, then what must be known of the answer."""
        return comment(self.name)


def comment(name: str) -> list[str]:
    """The comment that a report begins with, without signs and without how to choose a run.

    Raises:
        UnknownNameError: there is no such report.
    """
    lines = takewhile(lambda line: line.startswith("--"), report_sql(name).splitlines())
    said = [line.removeprefix("--").strip() for line in lines]
    return [line for line in said if not line.startswith("For one run: SET ")]


def run_report(db: Database, name: str, *, run_id: int | None = None) -> Report:
    """Ask a named question.

    Args:
        db: the database.
        name: of a file in `sql/reports/`.
        run_id: for questions about one run; None asks about all.

    Raises:
        UnknownNameError: there is no such report.
    """
    statement = report_sql(name)
    shown = statement if run_id is None else f"SET lvmdb.run_id = {run_id};\n{statement}"
    with db.begin() as connection:
        connection.execute(
            text("SELECT set_config('lvmdb.run_id', :run_id, true)"),
            {"run_id": "" if run_id is None else str(run_id)},
        )
        # Straight to psycopg: a report has no parameters, and may hold any sign.
        cursor = raw(connection).execute(statement.encode())
        columns = [column.name for column in cursor.description or ()]
        rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    return Report(name, run_id, shown, columns, rows)


def listing(
    db: Database, file: str, name: str, parameters: Mapping[str, object] | None = None
) -> tuple[Sequence[str], list[dict[str, Any]]]:
    """Columns and rows of a named query that lists something."""
    with db.connect() as connection:
        result = connection.execute(query(file, name), dict(parameters or {}))
        return list(result.keys()), [dict(row) for row in result.mappings()]
