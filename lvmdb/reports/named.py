"""Reports by name: the query of `sql/reports/`, run as it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from sqlalchemy import text

from lvmdb.db.engine import Database, raw
from lvmdb.db.queries import query, report_sql

SETTINGS = ("run_id", "split", "schedule")
"""What a report can be asked about: `SET lvmdb.run_id = 7` and so on, before its query."""

_HOW_TO_CHOOSE = re.compile(r"For .+: SET lvmdb\.")


@dataclass(frozen=True)
class Report:
    """A report's answer.

    Attributes:
        name: of the question.
        run_id: of the run that it is about; None for all.
        sql: what was run, as psql takes it.
        columns: names, in order.
        rows: one mapping each.
        chosen: what else it is about, by the name of the setting.
    """

    name: str
    run_id: int | None
    sql: str
    columns: list[str]
    rows: list[dict[str, Any]]
    chosen: Mapping[str, str] = field(default_factory=dict)

    @property
    def comment(self) -> list[str]:
        """The lines above the query: the question first, then what must be known of the answer."""
        return comment(self.name)


def comment(name: str) -> list[str]:
    """The comment that a report begins with, without signs and without how to choose a run or so.

    Raises:
        UnknownNameError: there is no such report.
    """
    lines = takewhile(lambda line: line.startswith("--"), report_sql(name).splitlines())
    said = [line.removeprefix("--").strip() for line in lines]
    return [line for line in said if not _HOW_TO_CHOOSE.match(line)]


def settable(name: str) -> list[str]:
    """Which of `SETTINGS` a report looks at.

    Raises:
        UnknownNameError: there is no such report.
    """
    statement = report_sql(name)
    return [setting for setting in SETTINGS if f"'lvmdb.{setting}'" in statement]


def as_psql_takes_it(name: str, chosen: Mapping[str, str]) -> str:
    """The query with the settings before it.

    Args:
        name: of the report.
        chosen: values by the name of the setting; a value has no quotes.
    """
    lines = [
        f"SET lvmdb.{setting} = {value if setting == 'run_id' else repr(value)};\n"
        for setting, value in chosen.items()
    ]
    return "".join([*lines, report_sql(name)])


def run_report(
    db: Database,
    name: str,
    *,
    run_id: int | None = None,
    split: str | None = None,
    schedule: str | None = None,
) -> Report:
    """Ask a named question.

    Args:
        db: the database.
        name: of a file in `sql/reports/`.
        run_id: for questions about one run; None asks about all.
        split: of what was evaluated; None takes what the report takes by itself.
        schedule: name of one, for questions about schedules; None asks about all.

    Raises:
        UnknownNameError: there is no such report.
    """
    statement = report_sql(name)
    given = {"run_id": run_id, "split": split, "schedule": schedule}
    chosen = {setting: str(value) for setting, value in given.items() if value is not None}
    with db.begin() as connection:
        for setting in SETTINGS:
            connection.execute(
                text("SELECT set_config('lvmdb.' || CAST(:setting AS text), :value, true)"),
                {"setting": setting, "value": chosen.get(setting, "")},
            )
        # Straight to psycopg: a report has no parameters, and may hold any sign.
        cursor = raw(connection).execute(statement.encode())
        columns = [column.name for column in cursor.description or ()]
        rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    shown = as_psql_takes_it(name, chosen)
    chosen.pop("run_id", None)
    return Report(name, run_id, shown, columns, rows, chosen)


def listing(
    db: Database, file: str, name: str, parameters: Mapping[str, object] | None = None
) -> tuple[Sequence[str], list[dict[str, Any]]]:
    """Columns and rows of a named query that lists something."""
    with db.connect() as connection:
        result = connection.execute(query(file, name), dict(parameters or {}))
        return list(result.keys()), [dict(row) for row in result.mappings()]
