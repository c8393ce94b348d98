"""Schedules: the hundred runs as rows, and those of the last week once it is known which they are.

`create` plans and queues what is fixed. `advance` is called by every worker, again and again: when
the runs of a stage are settled it chooses those of the next, by SQL, on the validation split alone.

    stage 1   the best three architectures, each with its best configuration and three new seeds
    stage 2   ensembles of the best run of each
    stage 3   the best run of each trained again from its row: nothing final rests on a number that
              nobody could get twice
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from sqlalchemy import Connection, Row, insert, select

from lvmdb.db import needed, runs
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.schema.runs import experiment
from lvmdb.db.schema.schedules import schedule_entry
from lvmdb.db.types import checked_name
from lvmdb.errors import ModelError, RunError, SequenceError, UnknownNameError, UsageError
from lvmdb.evaluation import ensembles, reproduce
from lvmdb.models import registry
from lvmdb.scheduling import queue
from lvmdb.scheduling.hundred import BEST, SCALES, Entry, hundred
from lvmdb.sequences import sets
from lvmdb.training.plan import Planned, prepare

BASELINES = 100
"""Priority of baselines: without them no run has a verdict. A week's is below that of the week
before."""


_IMPOSSIBLE = (ModelError, RunError, SequenceError, UnknownNameError, UsageError)
"""What leaves a place empty. The server's troubles do not: the next who asks chooses again."""


class Enqueue(Protocol):
    """What puts a run into the queue, in the transaction of a connection; see `queue.enqueue`."""

    def __call__(self, connection: Connection, run_id: int, *, priority: int) -> None: ...


def create(
    db: Database,
    name: str,
    sequences: str,
    *,
    scale: str = "small",
    seed: int = 0,
    entries: Sequence[Entry] | None = None,
    enqueue: Enqueue = queue.enqueue,
) -> int:
    """Plan a schedule on a sequence set and queue what is fixed of it; all or nothing.

    Baselines that the set has no run of are planned and queued before; they are none of its runs.

    Args:
        db: the database.
        name: `[a-z0-9_-]+`, of no other schedule.
        sequences: name of a frozen set.
        scale: `toy`, `small` or `full`.
        seed: of the fixed runs; new seeds follow it.
        entries: by default the hundred.
        enqueue: puts a run into the queue.

    Returns:
        The id of its `experiment`.

    Raises:
        UsageError, UnknownNameError, ModelError: something of it cannot be.
        SequenceError: the set is a draft or has no validation windows.
        RunError: the name is taken.
    """
    checked_name("schedule", name)
    if scale not in SCALES:
        raise UsageError(f"--scale is {', '.join(SCALES[:-1])} or {SCALES[-1]}, not '{scale}'")
    entries = entries or hundred()
    chosen = sets.get(db, sequences)
    if not chosen.window_count("val"):
        raise SequenceError(
            f"sequence set '{sequences}' has no validation windows, by which the best runs are "
            "chosen: create one with a share for them, as in --split 80/10/10"
        )
    planned = {
        (entry.week, entry.slot): prepare(
            entry.architecture, chosen, entry.at(scale), loss=entry.loss, seed=seed
        )
        for entry in entries
        if entry.architecture is not None
    }
    baselines = {a: prepare(a, chosen, {}) for a in registry.names(trained=False)}
    with db.begin() as connection:
        taken = select(experiment.c.name).where(experiment.c.name == name)
        if connection.execute(taken).first() is not None:
            raise RunError(f"there is a schedule '{name}' already: choose another name")
        about = f"{len(entries)} runs on {sequences}, scale {scale}, seed {seed}"
        experiment_id = int(
            connection.execute(
                insert(experiment)
                .values(name=name, description=about)
                .returning(experiment.c.experiment_id)
            ).scalar_one()
        )
        _queue_baselines(connection, chosen.sequence_set_id, baselines, enqueue)
        for entry in entries:
            run_id = None
            fixed = planned.get((entry.week, entry.slot))
            if fixed is not None:
                place = _place(experiment_id, entry.week, entry.slot)
                run_id = fixed.create(connection, **place)
                enqueue(connection, run_id, priority=_priority(entry.week))
            row = _row(experiment_id, entry, seed)
            connection.execute(insert(schedule_entry).values(**row, run_id=run_id))
    return experiment_id


def advance(db: Database, enqueue: Enqueue = queue.enqueue) -> int:
    """Choose and queue the runs whose turn has come, in every schedule.

    Cheap where nothing is due. Of several that ask at once one chooses, and the others wait for it:
    whoever is told 0 finds what was queued.

    Args:
        db: the database.
        enqueue: puts a run into the queue.

    Returns:
        How many runs were queued.
    """
    with db.connect() as connection:
        if _due(connection) is None:
            return 0
    queued = 0
    with db.begin() as connection:
        connection.execute(query("schedule", "lock"))
        # What finds nothing to choose from makes the stage after it due.
        while (due := _due(connection)) is not None:
            queued += _choose(connection, due.experiment_id, due.stage, enqueue)
    return queued


def _due(connection: Connection) -> Row[Any] | None:
    """A schedule and the stage of it that is to be chosen now, if there is one."""
    gone = sorted(needed.abandoned(connection))
    return connection.execute(query("schedule", "due"), {"abandoned": gone}).first()


def _choose(connection: Connection, experiment_id: int, stage: int, enqueue: Enqueue) -> int:
    """Fill the open entries of a stage, or say why they stay empty; returns how many have a run."""
    key = {"experiment_id": experiment_id}
    rows = connection.execute(query("schedule", "open_entries"), {**key, "stage": stage}).all()
    filled = 0
    for row in rows:
        place = {**key, "week": row.week, "slot": row.slot}
        try:
            with connection.begin_nested():
                run_id, chosen = _CHOICES[row.rule["choose"]](connection, experiment_id, row)
                values = {**place, "run_id": run_id, "chosen": json.dumps(chosen)}
                connection.execute(query("schedule", "fill"), values)
                enqueue(connection, run_id, priority=_priority(row.week))
        except _IMPOSSIBLE as error:
            connection.execute(query("schedule", "leave_out"), {**place, "reason": str(error)})
        else:
            filled += 1
    return filled


def _new_seed(
    connection: Connection, experiment_id: int, row: Row[Any]
) -> tuple[int, dict[str, object]]:
    """The best configuration of the architecture of this rank, with another seed."""
    found = connection.execute(
        query("schedule", "best_architectures"), {"experiment_id": experiment_id, "best": BEST}
    ).all()
    rank = row.rule["rank"]
    if rank > len(found):
        raise RunError(_too_few(rank, len(found)))
    best = found[rank - 1]
    run_id = reproduce.copy(
        connection,
        runs.read(connection, best.run_id),
        seed=row.rule["seed"],
        **_place(experiment_id, row.week, row.slot),
    )
    return run_id, {
        "architecture": best.architecture,
        "from_run": best.run_id,
        "val_cosine": best.cosine,
    }


def _ensemble(
    connection: Connection, experiment_id: int, row: Row[Any]
) -> tuple[int, dict[str, object]]:
    """An ensemble of the best run of each finalist."""
    members = [found.run_id for found in _finalists(connection, experiment_id).values()]
    if len(members) < 2:
        raise RunError(f"an ensemble is of two runs at least, and there are {len(members)}")
    name = connection.execute(
        select(experiment.c.name).where(experiment.c.experiment_id == experiment_id)
    ).scalar_one()
    run_id = ensembles.create_on(
        connection,
        f"{name}-{row.rule['method']}",
        members,
        row.rule["method"],
        **_place(experiment_id, row.week, row.slot),
    )
    return run_id, {"from_runs": members}


def _again(
    connection: Connection, experiment_id: int, row: Row[Any]
) -> tuple[int, dict[str, object]]:
    """The best run of the finalist of this rank, to be trained again from its row."""
    finalists, rank = _finalists(connection, experiment_id), row.rule["rank"]
    if rank not in finalists:
        raise RunError(_too_few(rank, len(finalists)))
    original = runs.read(connection, finalists[rank].run_id)
    run_id = reproduce.begin(connection, original, **_place(experiment_id, row.week, row.slot))
    return run_id, {
        "architecture": original.architecture,
        "from_run": original.run_id,
        "val_cosine": finalists[rank].cosine,
    }


_Choice = Callable[[Connection, int, Row[Any]], tuple[int, dict[str, object]]]
_CHOICES: Mapping[str, _Choice] = {"seed": _new_seed, "ensemble": _ensemble, "again": _again}


def _finalists(connection: Connection, experiment_id: int) -> dict[int, Row[Any]]:
    rows = connection.execute(query("schedule", "finalists"), {"experiment_id": experiment_id})
    return {row.rank: row for row in rows}


def _too_few(rank: int, found: int) -> str:
    have = "1 architecture has" if found == 1 else f"{found} architectures have"
    return f"there is no best architecture {rank}: {have} a run that was trained and validated"


def _queue_baselines(
    connection: Connection,
    sequence_set_id: int,
    baselines: Mapping[str, Planned],
    enqueue: Enqueue,
) -> None:
    """Every baseline has a run on the set that is done or on its way."""
    missing = connection.execute(
        query("schedule", "missing_baselines"),
        {"sequence_set_id": sequence_set_id, "architectures": list(baselines)},
    ).all()
    for row in missing:
        run_id = row.run_id or baselines[row.architecture].create(connection)
        enqueue(connection, run_id, priority=BASELINES)


def _row(experiment_id: int, entry: Entry, seed: int) -> dict[str, Any]:
    rule = None if entry.rule is None else dict(entry.rule)
    if rule is not None and "seed" in rule:
        rule["seed"] = seed + cast("int", rule["seed"])
    return {
        "experiment_id": experiment_id,
        "week": entry.week,
        "slot": entry.slot,
        "stage": entry.stage,
        "title": entry.title,
        "rule": rule,
    }


def _place(experiment_id: int, week: int, slot: int) -> dict[str, int]:
    return {"experiment_id": experiment_id, "schedule_week": week, "schedule_slot": slot}


def _priority(week: int) -> int:
    return BASELINES - 10 * week
