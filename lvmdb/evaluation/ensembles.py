"""Ensembles: runs made of runs, planned, fitted and evaluated like any other.

What other runs are trained for is an ensemble's fit: its members must have succeeded, weights come
from the validation split where the method has some, and what decides the ensemble's predictions is
stored as its checkpoint. See `combining` for the methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from lvmdb.db import checkpoints, claims, ensembles, runs
from lvmdb.db.checkpoints import Checkpoint
from lvmdb.db.claims import Claim
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.runs import Metric, Run
from lvmdb.db.types import checked_name
from lvmdb.errors import RunCancelledError, RunError, SequenceError, UsageError
from lvmdb.evaluation.combining import METHODS, StackedRegression
from lvmdb.evaluation.predictor import (
    Predictor,
    combined,
    kernels,
    load_members,
    pack_ensemble,
    reads_tmd,
)
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.stream import SequenceStream, StreamOptions
from lvmdb.training.environment import code_version, describe, resolve_device
from lvmdb.training.fork import INHERITED
from lvmdb.training.plan import ENSEMBLE, exceptions
from lvmdb.training.train import Outcome, check_data
from lvmdb.training.validation import measured

BATCH = 256

_TO_COME = ("planned", "queued", "running", "succeeded")


def create(db: Database, name: str, members: Sequence[int], method: str = "mean") -> int:
    """A planned ensemble; returns its run's id.

    Args:
        db: the database.
        name: `[a-z0-9_-]+`, of no other ensemble.
        members: runs that have succeeded or are to be trained yet, at least two, of one set.
        method: one of `METHODS`.

    Raises:
        UsageError: name, method or members cannot be.
        UnknownNameError: there is no such run.
        RunError: a member is none that an ensemble can have, or there is an ensemble of that name.
    """
    with db.begin() as connection:
        return create_on(connection, name, members, method)


def create_on(
    connection: Connection,
    name: str,
    members: Sequence[int],
    method: str = "mean",
    *,
    experiment_id: int | None = None,
    schedule_week: int | None = None,
    schedule_slot: int | None = None,
) -> int:
    """As `create`, in the connection's transaction, and with a place in a schedule."""
    checked_name("ensemble", name)
    if method not in METHODS:
        raise UsageError(f"--method is {', '.join(METHODS[:-1])} or {METHODS[-1]}, not '{method}'")
    if len(members) < 2:
        raise UsageError("--members names two runs at least: one alone is no ensemble")
    if twice := next((run_id for run_id in members if list(members).count(run_id) > 1), None):
        raise UsageError(f"--members names run {twice} twice")
    connection.execute(query("runs", "lock_ensemble_name"), {"name": name})
    taken = connection.execute(query("runs", "ensemble_of_name"), {"name": name}).scalar()
    if taken is not None:
        raise RunError(f"there is an ensemble '{name}' already (run {taken}): choose another name")
    first, *others = (runs.read(connection, run_id) for run_id in members)
    for run in (first, *others):
        _check_member(run, first)
    sequences = sets.get_by_id(connection, first.sequence_set_id)
    inherited = {s for run in (first, *others) for s in run.stamps if s.startswith(INHERITED)}
    run_id = runs.create(
        connection,
        kind="ensemble",
        architecture=ENSEMBLE,
        hyperparameters={"name": name, "method": method},
        loss=None,
        sequence_set_id=first.sequence_set_id,
        sequence_fingerprint=first.sequence_fingerprint,
        seed=0,
        stamps=[*exceptions(sequences), *sorted(inherited)],
        experiment_id=experiment_id,
        schedule_week=schedule_week,
        schedule_slot=schedule_slot,
    )
    ensembles.add_members(connection, run_id, members)
    return run_id


def fit(db: Database, run_id: int, *, device: str = "auto", progress: Progress = SILENT) -> Outcome:
    """Fit an ensemble; one that has succeeded is left as it is.

    Args:
        db: the database.
        run_id: of the ensemble.
        device: where its members predict.
        progress: told of what is read, and of the result.

    Raises:
        UnknownNameError: there is no such run.
        RunWaitsError: a member is in the queue, or runs.
        RunCancelledError: it was cancelled.
        RunError: it runs elsewhere, a member has not succeeded and will not by itself, or no
            member points the way of the truth.
        SequenceError: its data changed, or weights are to be fitted without validation windows.
        ModelError: a member cannot be loaded, or the device is not there.
    """
    runs.get(db, run_id)
    place = resolve_device(device)
    with claims.claim(db, run_id) as claimed:
        # Read again: another process may have fitted it in the meantime.
        run = runs.get(db, run_id)
        if run.status == "succeeded":
            return Outcome(trained=False)
        if run.status == "cancelled":
            raise RunCancelledError(
                f"run {run_id} was cancelled: 'lvmdb runs retry {run_id}' plans it again"
            )
        with db.connect() as connection:
            sequences = sets.get_by_id(connection, run.sequence_set_id)
            listed = ensembles.members(connection, run_id)
        seen = check_data(db, run, sequences)
        members = load_members(db, run, sequences, place)
        parameters = sum(member.parameter_count or 0 for member in listed)
        version, dirty = code_version()
        runs.start(
            claimed,
            device=str(place),
            kernel=kernels(members),
            parameter_count=parameters,
            code_version=version,
            code_dirty=dirty,
            environment=describe(device=place),
            seen_fingerprint=seen,
        )
        with claims.failure_recorded(db, run_id, worker=claims.worker_name()):
            weights = {member.run_id: member.weight for member in listed}
            means = _fit(db, claimed, run, sequences, members, weights, progress)
            runs.finish(claimed, parameter_count=parameters)
    shown = f", validation cosine {means['cosine']:.4f}" if means else ""
    progress.say(f"run {run_id} {run.hyperparameters['name']}: fitted{shown}")
    return Outcome(trained=True)


def _fit(
    db: Database,
    claimed: Claim,
    run: Run,
    sequences: SequenceSet,
    members: Mapping[int, Predictor],
    weights: dict[int, float],
    progress: Progress,
) -> dict[str, float]:
    """Write weights, checkpoint and what validation measured; returns the last."""
    method = str(run.hyperparameters["method"])
    if method == "weighted":
        weights = _fitted_weights(db, run, sequences, members)
    read = StreamOptions(batch_size=BATCH, tmd=reads_tmd(members))
    validation = SequenceStream(db, sequences, "val", read)
    means = measured(combined(db, sequences, method, members, weights), validation)
    metrics = [Metric(name, "val", 1, 1, value) for name, value in means.items()]
    saved = Checkpoint(
        kind="best",
        epoch=1,
        step=1,
        architecture=run.architecture,
        config=run.hyperparameters,
        progress={},
        data=pack_ensemble(method, members, weights),
    )

    def write(connection: Connection) -> None:
        ensembles.write_weights(connection, run.run_id, list(weights.items()))
        runs.write_metrics(connection, run.run_id, metrics)
        checkpoints.save(connection, run.run_id, saved)

    claimed.write(write, progress)
    return means


def _fitted_weights(
    db: Database, run: Run, sequences: SequenceSet, members: Mapping[int, Predictor]
) -> dict[int, float]:
    if not sequences.window_count("val"):
        raise SequenceError(
            f"sequence set '{sequences.name}' has no validation windows, by which members are "
            "weighted: use --method mean or vote"
        )
    regression = StackedRegression(len(members))
    read = StreamOptions(batch_size=BATCH, tmd=reads_tmd(members))
    for batch in SequenceStream(db, sequences, "val", read):
        predictions = [member.predict(batch) for member in members.values()]
        regression.add(predictions, batch.target)
    found = regression.weights()
    if not any(found):
        raise RunError(
            f"no member of ensemble {run.run_id} points the way of the truth on the validation "
            "split, so that there are no weights: use --method mean or vote"
        )
    return dict(zip(members, found, strict=True))


def _check_member(run: Run, first: Run) -> None:
    """Refuse a run that cannot be in an ensemble with another."""
    if run.kind == "ensemble":
        raise RunError(f"run {run.run_id} is an ensemble: name its members instead")
    if run.status not in _TO_COME:
        raise RunError(
            f"run {run.run_id} is {run.status}: 'lvmdb runs retry {run.run_id}' plans it again"
        )
    if run.sequence_set_id != first.sequence_set_id:
        raise RunError(
            f"runs {first.run_id} and {run.run_id} are on two sequence sets: the members of an "
            "ensemble are trained and validated on the same windows"
        )
