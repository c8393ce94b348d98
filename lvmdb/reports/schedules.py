"""`lvmdb schedule status`: how far schedules are, as rows and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import select

from lvmdb.db.engine import Database
from lvmdb.db.schema.runs import experiment
from lvmdb.db.schema.schedules import schedule_entry
from lvmdb.errors import UnknownNameError
from lvmdb.reports.plots import duration, finite, number
from lvmdb.reports.render import Rows


def require_schedule(db: Database, name: str) -> None:
    """See that there is a schedule of that name.

    Raises:
        UnknownNameError: there is none.
    """
    with db.connect() as connection:
        known = connection.execute(
            select(experiment.c.name).join(schedule_entry).distinct()
        ).scalars()
        names = sorted(map(str, known))
    if name not in names:
        hint = None if names else "there is none yet: 'lvmdb schedule create' makes one"
        raise UnknownNameError("schedule", name, names, hint=hint)


def in_words(rows: Rows) -> Iterator[str]:
    """What must be known of each schedule, a line or two each.

    Args:
        rows: of the report `schedule_status`.
    """
    for row in rows:
        if row["week"] != "all":
            continue
        if row["share_planned"] is not None and finite(number(row["share"])):
            share, planned = number(row["share"]), number(row["share_planned"])
            at_end = number(row["share_at_end"])
            told = f", {at_end:.1%} when all is done" if finite(at_end) else ""
            yield (
                f"{row['schedule']}: {row['architecture']} has had {share:.1%} of the compute"
                f"{told}; the plan gives it {planned:.0%}"
            )
        if row["architecture"] == "all":
            yield f"{row['schedule']}: {_left(row)}"


def _left(row: Mapping[str, object]) -> str:
    done = f"{row['done']} of {row['entries']} done"
    if row["failed"]:
        done += f", {row['failed']} failed ('lvmdb runs retry' plans them again)"
    hours, clock = number(row["hours_left"]), number(row["by_the_clock"])
    if not finite(hours):
        return f"{done}; hours left are not known before a run has succeeded"
    alive = int(str(row["at_once"]))
    if hours == 0:
        return done
    left = f"{done}; about {duration(3600 * hours)} left, {duration(3600 * clock)} by the clock"
    if alive > 1:
        return f"{left} with {alive} at once, as they run now"
    return f"{left} with one at a time" + ("" if alive else "; none is running now")
