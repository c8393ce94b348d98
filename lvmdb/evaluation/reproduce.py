"""`lvmdb runs reproduce`: a run trained again from its row, and held against what it gave before.

The new run has the original's architecture, options, loss, data and seed, and as many threads. All
that training measured, the best weights and the evaluations must come out as the same bits; where
they do not, the new run stays as evidence. An interrupted reproduction goes on by the same command.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from sqlalchemy import Connection, select, update

from lvmdb.db import claims, runs
from lvmdb.db.engine import Database
from lvmdb.db.provenance import provenance
from lvmdb.db.runs import Run
from lvmdb.db.schema.evaluations import evaluation
from lvmdb.db.schema.runs import experiment_run
from lvmdb.errors import ModelError, RunError
from lvmdb.evaluation.evaluate import Evaluator
from lvmdb.evaluation.run_checks import Check, check_runs, differing_conditions, shown
from lvmdb.metrics.text_definitions import POOL
from lvmdb.models import registry
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences import sets
from lvmdb.training import options
from lvmdb.training.environment import resolve_device
from lvmdb.training.reading import DEFAULT, Reading
from lvmdb.training.round_trip import RoundTrip
from lvmdb.training.train import check_data, train

IDENTICAL, DIFFERS = "reproduction=identical", "reproduction=differs"
"""Stamps of a reproduction that has been compared."""

_OF = "reproduces="
"""Begins the stamp that names the original."""

_OURS = (_OF, "reproduction=", "cache=")
"""Stamps of what happened to a run, which are not a new run's."""


@dataclass(frozen=True)
class Reproduction:
    """How a reproduction came out.

    Attributes:
        original, run_id: the two runs.
        checks: all that was compared.
        conditions: code, machine and device as far as they differ: name, then, now.
        kept: whether the new run is still there.
    """

    original: int
    run_id: int
    checks: list[Check]
    conditions: list[tuple[str, object, object]]
    kept: bool

    @property
    def first_difference(self) -> Check | None:
        """The earliest in training; after it the weights and the evaluations."""
        wrong = [check for check in self.checks if check.same is False]
        return min(wrong, key=lambda c: (c.epoch is None, c.epoch or 0), default=None)

    @property
    def verdict(self) -> str:
        """What came out, in a line."""
        fate = "kept" if self.kept else "deleted"
        wrong = self.first_difference
        if wrong is None:
            values = sum(check.values for check in self.checks if check.same)
            left = sum(check.same is None for check in self.checks)
            rest = f", {left} could not be compared" if left else ""
            return (
                f"run {self.original} is reproduced bit for bit ({values} values{rest}); "
                f"run {self.run_id} is {fate}"
            )
        where = "" if wrong.epoch is None else f" in epoch {wrong.epoch}"
        told = ", ".join(f"{name} ({then} then, {now} now)" for name, then, now in self.conditions)
        return (
            f"run {self.original} is not reproduced: {wrong.what} differs first{where} "
            f"({shown(wrong.original)} then, {shown(wrong.reproduced)} now); "
            + (
                f"what may explain it: {told}"
                if told
                else "code version, environment, threads and device are the same"
            )
            + f"; run {self.run_id} is {fate}"
        )


def reproduce(
    db: Database,
    run_id: int,
    *,
    again: int | None = None,
    device: str | None = None,
    reading: Reading = DEFAULT,
    keep: bool = False,
    progress: Progress = SILENT,
    round_trip: RoundTrip | None = None,
) -> Reproduction:
    """Train a run again, evaluate it on the same splits and pools, and compare.

    Args:
        db: the database.
        run_id: a run that has succeeded.
        again: the run that reproduces it; by default the one that was begun and not yet compared,
            or a new one.
        device: where to train and evaluate; by default where the original was trained.
        reading: how it reads, and how often it is saved.
        keep: leave the new run also where it is identical.
        progress: told of epochs and windows.
        round_trip: vectors to text and back, for a run with `roundtrip_every`.

    Raises:
        UnknownNameError: there is no such run, or its architecture is no longer there.
        RunError: it has not succeeded, or did not begin from its row alone, or another process has
            the new run.
        SequenceError: its data changed.
        ModelError: its device is not there.
    """
    original = runs.get(db, run_id)
    place = _check_can(db, original, device)
    new_id = _planned(db, original) if again is None else again
    progress.say(f"run {new_id} trains run {run_id} again")
    with _threads(db, run_id):
        train(db, new_id, device=place, reading=reading, progress=progress, round_trip=round_trip)
        evaluator = Evaluator(db, device=place, progress=progress)
        with claims.claim(db, new_id):
            _evaluate(db, evaluator, run_id, new_id)
    with db.begin() as connection:
        checks = check_runs(connection, run_id, new_id)
        conditions = differing_conditions(connection, run_id, new_id)
        identical = not any(check.same is False for check in checks)
        stamps = [*runs.read(connection, new_id).stamps, IDENTICAL if identical else DIFFERS]
        connection.execute(
            update(experiment_run).where(experiment_run.c.run_id == new_id).values(stamps=stamps)
        )
    kept = keep or not identical
    if not kept:
        runs.remove(db, new_id)
    return Reproduction(run_id, new_id, checks, conditions, kept)


def original_of(run: Run) -> int | None:
    """The run that this one reproduces, if it does and has not been compared with it yet."""
    if {IDENTICAL, DIFFERS} & set(run.stamps):
        return None
    named = [stamp.removeprefix(_OF) for stamp in run.stamps if stamp.startswith(_OF)]
    return int(named[0]) if named else None


def check_same_device(db: Database, original: int, device: str) -> None:
    """Refuse to train a run again where its numbers cannot come out.

    Args:
        db: the database.
        original: the run that is to be trained again.
        device: where; the number of a GPU does not matter.

    Raises:
        ModelError: it was trained on a device of another type.
    """
    with db.connect() as connection:
        then = provenance(connection, original)
    place = str(then.machine["device"] or "cpu").partition(":")[0]
    here = device.partition(":")[0]
    # Baselines are fitted on the CPU wherever they are.
    if then.configuration["kind"] != "baseline" and here != place:
        raise ModelError(
            f"run {original} was trained on {place}, and what {here} gives cannot be compared with "
            f"it: queue it where 'lvmdb worker --device {place}' takes it"
        )


def _check_can(db: Database, run: Run, device: str | None) -> str:
    """The device to train on, if all that the row asks for is there."""
    if run.status != "succeeded":
        raise RunError(
            f"run {run.run_id} is {run.status}: 'lvmdb train --run-id {run.run_id}' comes first"
        )
    if run.kind == "ensemble":
        raise RunError(f"run {run.run_id} is an ensemble, which is not trained: name its members")
    if run.parent_run_id is not None:
        raise RunError(
            f"run {run.run_id} went on from run {run.parent_run_id}: its row alone does not say "
            "where it began"
        )
    options.from_row(registry.get(run.architecture), run.hyperparameters)
    with db.connect() as connection:
        sequences = sets.get_by_id(connection, run.sequence_set_id)
        trained_on = provenance(connection, run.run_id).machine["device"]
    place = device or str(trained_on or "cpu").partition(":")[0]
    resolve_device(place)
    check_data(db, run, sequences)
    return place


def begin(connection: Connection, run: Run, **more: Any) -> int:
    """A planned run that is to train another again, stamped with its id.

    Args:
        connection: in a transaction.
        run: the original.
        more: columns that `runs.create` takes, for a place in a schedule.
    """
    return _copy(connection, run, [f"{_OF}{run.run_id}"], run.seed, more)


def copy(connection: Connection, run: Run, *, seed: int, **more: Any) -> int:
    """A planned run of the same configuration on the same data, with another seed.

    Args:
        connection, run, more: as for `begin`.
        seed: of the new run.
    """
    return _copy(connection, run, [], seed, more)


def _copy(
    connection: Connection, run: Run, stamps: Sequence[str], seed: int, more: Mapping[str, Any]
) -> int:
    return runs.create(
        connection,
        kind=run.kind,
        architecture=run.architecture,
        hyperparameters=run.hyperparameters,
        loss=run.loss,
        sequence_set_id=run.sequence_set_id,
        sequence_fingerprint=run.sequence_fingerprint,
        seed=seed,
        stamps=[*(s for s in run.stamps if not s.startswith(_OURS)), *stamps],
        **more,
    )


def _planned(db: Database, run: Run) -> int:
    """The reproduction that was begun and not yet compared, or a new one.

    One that has a place in a schedule is left to it.
    """
    columns = experiment_run.c
    with db.begin() as connection:
        # Two that ask at once are given the same run.
        row = select(columns.run_id).where(columns.run_id == run.run_id)
        connection.execute(row.with_for_update())
        begun = connection.execute(
            select(columns.run_id)
            .where(
                columns.stamps.contains([f"{_OF}{run.run_id}"]),
                ~columns.stamps.overlap([IDENTICAL, DIFFERS]),
                columns.status != "cancelled",
                columns.schedule_week.is_(None),
            )
            .order_by(columns.run_id)
        ).scalar()
        return begin(connection, run) if begun is None else int(begun)


@contextmanager
def _threads(db: Database, run_id: int) -> Iterator[None]:
    """As many threads of torch as the run had: sums depend on how they are cut."""
    with db.connect() as connection:
        then = provenance(connection, run_id).machine.get("torch_threads")
    before = torch.get_num_threads()
    torch.set_num_threads(then if isinstance(then, int) and then > 0 else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _evaluate(db: Database, evaluator: Evaluator, original: int, again: int) -> None:
    wanted = _pools(db, original)
    for split, pools in wanted.items():
        if len(pools) > 1:
            evaluator.evaluate(again, split)
        for pool in sorted(pools - _pools(db, again).get(split, set())):
            evaluator.evaluate(again, split, pool)


def _pools(db: Database, run_id: int) -> dict[str, set[str]]:
    """The pools that a run was evaluated in, by split; decoded texts are asked for apart."""
    found: dict[str, set[str]] = defaultdict(set)
    with db.connect() as connection:
        rows = connection.execute(
            select(evaluation.c.split, evaluation.c.pool)
            .where(evaluation.c.run_id == run_id)
            .distinct()
            .order_by(evaluation.c.split)
        )
        for split, pool in rows:
            if not pool.startswith(POOL):
                found[split].add(pool)
    return dict(found)
