"""`lvmdb runs diff`: what differs between two runs, in what they were made from and in results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection

from lvmdb.db.engine import Database
from lvmdb.db.provenance import Provenance, provenance
from lvmdb.db.queries import query
from lvmdb.errors import UsageError
from lvmdb.metrics.intervals import Interval, difference_interval, verdict

COLUMNS = ("part", "item", "a", "b", "difference", "low", "high", "note")


@dataclass(frozen=True)
class Line:
    """One thing that two runs have, or one of them.

    Attributes:
        part: configuration, data, code, machine or result.
        item: its name.
        a, b: of the first and of the second run; None where there is none.
        difference: a less b, where the two can be compared.
        low, high: ends of the difference's 95 % interval; None with too few articles.
        note: what the difference says, or why there is none.
    """

    part: str
    item: str
    a: object
    b: object
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    note: str | None = None

    @property
    def differs(self) -> bool:
        """Whether it belongs to what differs; a result that cannot be compared does."""
        return self.a != self.b or (self.note or "").startswith("not comparable")


def compare(db: Database, a: int, b: int) -> list[Line]:
    """All that can be said of two runs, what is equal included.

    Raises:
        UsageError: it is one run.
        UnknownNameError: there is no such run.
    """
    if a == b:
        raise UsageError(f"runs diff compares two runs, and {a} is one")
    with db.connect() as connection:
        first, second = provenance(connection, a), provenance(connection, b)
        lines = [Line("run", "run", a, b)]
        for part in ("configuration", "data", "code", "machine"):
            left: Mapping[str, object] = getattr(first, part)
            right: Mapping[str, object] = getattr(second, part)
            names = dict.fromkeys([*left, *right])
            lines += [Line(part, name, left.get(name), right.get(name)) for name in names]
        return lines + _losses(first, second) + _evaluations(connection, first, second)


def _losses(first: Provenance, second: Provenance) -> list[Line]:
    a, b = first.best_val_loss, second.best_val_loss
    if a is None and b is None:
        return []
    difference, note = None, None
    if a is None or b is None:
        note = _only(a)
    elif first.fingerprint != second.fingerprint:
        note = "not comparable: other data"
    elif first.loss != second.loss:
        note = "not comparable: other loss"
    else:
        difference = a - b
    return [
        Line("result", "best validation loss", a, b, difference, note=note),
        Line("result", "its epoch", first.best_epoch, second.best_epoch),
    ]


def _evaluations(connection: Connection, first: Provenance, second: Provenance) -> list[Line]:
    mine, theirs = (
        {
            (row["split"], row["pool"], row["metric"]): row
            for row in connection.execute(
                query("comparison", "newest_evaluations"), {"run_id": run.run_id}
            ).mappings()
        }
        for run in (first, second)
    )
    lines: list[Line] = []
    for key in dict.fromkeys([*mine, *theirs]):
        split, pool, metric = key
        item = f"{metric}, {split}" + ("" if pool == "corpus" else f", pool {pool}")
        a, b = mine.get(key), theirs.get(key)
        if a is None or b is None:
            left, right = a and a["value"], b and b["value"]
            lines.append(Line("result", item, left, right, note=_only(a)))
            continue
        reason = _incomparable(first, second, a, b)
        if reason is not None:
            lines.append(Line("result", item, a["value"], b["value"], note=reason))
            continue
        ends, note = _interval(connection, a, b)
        low, high = ends or (None, None)
        difference = a["value"] - b["value"]
        note += _stale(a, b)
        lines.append(Line("result", item, a["value"], b["value"], difference, low, high, note))
    return lines


def _only(a: object) -> str:
    return "only b was measured" if a is None else "only a was measured"


def _incomparable(
    first: Provenance, second: Provenance, a: Mapping[Any, Any], b: Mapping[Any, Any]
) -> str | None:
    if first.fingerprint != second.fingerprint:
        return "not comparable: other data"
    if a["pool_fingerprint"] != b["pool_fingerprint"]:
        return "not comparable: other pool"
    if a["version"] != b["version"]:
        return f"not comparable: versions {a['version']} and {b['version']} of the metric"
    return None


def _interval(
    connection: Connection, a: Mapping[Any, Any], b: Mapping[Any, Any]
) -> tuple[Interval | None, str]:
    """Of the difference, articles paired; and what it says."""
    rows = connection.execute(
        query("comparison", "paired_articles"),
        {"evaluation_a": a["evaluation_id"], "evaluation_b": b["evaluation_id"]},
    ).all()
    if not rows or any(value is None for row in rows for value in row):
        return None, "no interval: evaluate both again"
    sums = np.array([tuple(row) for row in rows], dtype=np.float64)
    ends = difference_interval(*sums.T)
    if a["direction"] == 0:
        return ends, "a gauge: decides nothing"
    found = verdict(ends, a["direction"])
    return ends, f"a is {found}" if found in ("better", "worse") else found


def _stale(a: Mapping[Any, Any], b: Mapping[Any, Any]) -> str:
    names = [name for name, row in (("a", a), ("b", b)) if not row["of_best"]]
    return f"; {' and '.join(names)}: of other weights than the run has now" if names else ""
