"""Are stored evaluations what their own sums say? Numbers written by hand are found."""

from __future__ import annotations

from lvmdb.db.engine import Database
from lvmdb.db.queries import query


def doubtful_evaluations(db: Database) -> list[str]:
    """One line for each run with a value, or a difference, that its sums by article do not give."""
    with db.connect() as connection:
        rows = connection.execute(query("evaluation", "doubtful_evaluations")).all()
    return [
        f"run {row.run_id} has {row.wrong} evaluations or differences that are not what was "
        f"computed, e.g. {row.metric}: 'lvmdb evaluate --run-id {row.run_id}' computes them again"
        for row in rows
    ]
