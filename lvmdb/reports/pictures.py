"""Which reports have a picture, and what it is drawn from."""

from __future__ import annotations

from collections.abc import Callable

from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.errors import RunError
from lvmdb.reports.architectures import architectures
from lvmdb.reports.cost import cost
from lvmdb.reports.forest import forest
from lvmdb.reports.learning import learning_curves
from lvmdb.reports.named import Report, listing
from lvmdb.reports.progress import progress
from lvmdb.reports.recall import recall_curves
from lvmdb.reports.render import Rows
from lvmdb.reports.strategies import strategies

SPLIT_NAMES = {"val": "validation"}


def pictured() -> str:
    """The reports that have a picture, in words."""
    *names, last = PICTURES
    return f"{', '.join(names)} and {last}"


def picture(db: Database, answer: Report) -> bytes:
    """The picture of a report in `PICTURES`, as the bytes of a PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RunError: there is nothing to draw.
    """
    return PICTURES[answer.name](db, answer)


def learning_picture(db: Database, rows: Rows) -> bytes:
    """Train and validation loss of every epoch, the best baseline's as a line where it compares.

    Args:
        db: the database.
        rows: of the report `learning_curve`.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RunError: no model has finished an epoch.
    """
    drawn = [
        {**row, "split": SPLIT_NAMES.get(str(row["split"]), row["split"])}
        for row in rows
        if row["name"] == "loss"
    ]
    if not drawn:
        raise RunError("no model has finished an epoch yet: there is no curve to draw")
    run_ids = sorted({row["run_id"] for row in rows}, key=str)
    with db.connect() as connection:
        best = connection.execute(
            query("runs", "best_baseline_loss"), {"run_ids": run_ids}
        ).one_or_none()
    return learning_curves(
        drawn,
        reference=None if best is None else float(best.value),
        reference_label=None if best is None else f"best baseline: {best.architecture}",
    )


def _leaderboard(db: Database, answer: Report) -> bytes:
    _, rows = listing(db, "pictures", "leaderboard", {"run_id": answer.run_id})
    return forest(rows)


def _architectures(db: Database, answer: Report) -> bytes:
    chosen = {"split": answer.chosen.get("split", "test")}
    return architectures(listing(db, "pictures", "architectures", chosen)[1])


def _weeks(db: Database, answer: Report) -> bytes:
    chosen = {"schedule": answer.chosen.get("schedule")}
    return progress(listing(db, "pictures", "weeks", chosen)[1])


PICTURES: dict[str, Callable[[Database, Report], bytes]] = {
    "learning_curve": lambda db, answer: learning_picture(db, answer.rows),
    "leaderboard": _leaderboard,
    "recall_curve": lambda _, answer: recall_curves(answer.rows),
    "architectures": _architectures,
    "cost": lambda _, answer: cost(answer.rows),
    "strategies": lambda _, answer: strategies(answer.rows),
    "weeks": _weeks,
}
"""By the report's name."""
