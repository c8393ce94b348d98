"""Two runs of one configuration held against each other, value by value."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import Connection, select

from lvmdb.db.checkpoints import checkpoint_sha256
from lvmdb.db.provenance import provenance
from lvmdb.db.queries import query
from lvmdb.db.schema.runs import run_metric
from lvmdb.metrics.text_definitions import POOL


@dataclass(frozen=True)
class Check:
    """One thing that was compared.

    Attributes:
        what: e.g. `val loss`, `best checkpoint`, `test cosine, pool corpus`.
        values: how many values that is.
        epoch: of the values shown: the first that differ, else the last; None outside training.
        original, reproduced: those values.
        same: None where they cannot be compared.
        note: why not.
    """

    what: str
    values: int
    epoch: int | None
    original: object
    reproduced: object
    same: bool | None
    note: str | None = None


def check_runs(connection: Connection, original: int, again: int) -> list[Check]:
    """What training measured, the best weights and the evaluations of the original."""
    return [
        *_curves(connection, original, again),
        _weights(connection, original, again),
        *_evaluations(connection, original, again),
    ]


def differing_conditions(
    connection: Connection, original: int, again: int
) -> list[tuple[str, object, object]]:
    """What differs of code, machine and device: name, then, now; threads first."""
    then, now = (provenance(connection, each).conditions for each in (original, again))
    names = sorted(then.keys() | now.keys(), key=lambda name: (name != "torch_threads", name))
    return [
        (name, shown(then.get(name)), shown(now.get(name)))
        for name in names
        if then.get(name) != now.get(name)
    ]


def shown(value: object) -> object:
    """A value for a line of text: hashes are cut."""
    if isinstance(value, str) and len(value) >= 40 and set(value) <= set("0123456789abcdef"):
        return value[:12]
    return "none" if value is None else value


def _curves(connection: Connection, original: int, again: int) -> list[Check]:
    """What training measured: one check for each metric, of all its values."""
    ours, theirs = _series(connection, original), _series(connection, again)
    checks: list[Check] = []
    for name in dict.fromkeys([*ours, *theirs]):
        then, now = ours.get(name, {}), theirs.get(name, {})
        steps = sorted(then.keys() | now.keys())
        wrong = [step for step in steps if then.get(step) != now.get(step)]
        shown = wrong[0] if wrong else steps[-1]
        none = (None, None)
        (then_epoch, before), (now_epoch, after) = then.get(shown, none), now.get(shown, none)
        epoch = now_epoch if then_epoch is None else then_epoch
        checks.append(Check(name, len(steps), epoch, before, after, not wrong))
    return checks


def _series(connection: Connection, run_id: int) -> dict[str, dict[int, tuple[int, float]]]:
    """Epoch and value by step, by metric."""
    found: dict[str, dict[int, tuple[int, float]]] = defaultdict(dict)
    rows = connection.execute(
        select(run_metric)
        .where(run_metric.c.run_id == run_id)
        .order_by(run_metric.c.split, run_metric.c.name, run_metric.c.step)
    ).mappings()
    for row in rows:
        found[f"{row['split']} {row['name']}"][row["step"]] = row["epoch"], row["value"]
    return found


def _weights(connection: Connection, original: int, again: int) -> Check:
    then, now = (checkpoint_sha256(connection, each, "best") for each in (original, again))
    return Check("best checkpoint", 1, None, then and then.hex(), now and now.hex(), then == now)


def _evaluations(connection: Connection, original: int, again: int) -> list[Check]:
    ours, theirs = (
        {
            (row["split"], row["metric"], row["pool"], row["version"]): row
            for row in connection.execute(
                query("comparison", "newest_evaluations"), {"run_id": run_id}
            ).mappings()
            # Texts are not decoded again.
            if not row["pool"].startswith(POOL)
        }
        for run_id in (original, again)
    )
    checks: list[Check] = []
    for key, then in ours.items():
        split, metric, pool, version = key
        now = theirs.get(key)
        note = None
        if not then["of_best"]:
            note = "the original's is of other weights than it has now"
        elif now is None:
            note = f"version {version} of the metric is not computed any more"
        elif now["pool_fingerprint"] != then["pool_fingerprint"]:
            note = "other pool: the dataset or the pool is not what it was"
        before, after = then["value"], now and now["value"]
        same = None if note else before == after
        checks.append(Check(f"{split} {metric}, pool {pool}", 1, None, before, after, same, note))
    return checks
