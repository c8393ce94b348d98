"""`lvmdb train`: whatever a run row says, on whatever device is there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from sqlalchemy import Connection

from lvmdb.db import checkpoints, claims, runs
from lvmdb.db.checkpoints import Checkpoint
from lvmdb.db.claims import Claim
from lvmdb.db.engine import Database
from lvmdb.db.runs import Metric, Run
from lvmdb.errors import RunCancelledError, RunError, SequenceError
from lvmdb.models import registry
from lvmdb.models.architecture import Architecture
from lvmdb.models.base import LatentModel
from lvmdb.models.baselines.base import Baseline
from lvmdb.models.config import ModelConfig
from lvmdb.models.options import to_options
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.stream import SequenceStream, StreamOptions
from lvmdb.training import initial, options, stopping
from lvmdb.training.checkpoint import pack_state
from lvmdb.training.data import check_beside, streams
from lvmdb.training.distributed import ALONE, World, lost_processes_named
from lvmdb.training.environment import code_version, describe, resolve_device
from lvmdb.training.fork import start_from_parent
from lvmdb.training.loop import Trainer
from lvmdb.training.reading import DEFAULT, Reading
from lvmdb.training.round_trip import RoundTrip, stamps_of
from lvmdb.training.validation import measured

BASELINE_BATCH = 512


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        trained: False if the run had succeeded before, and nothing was done.
        epochs: epochs done.
        best_epoch, best_loss: of the lowest validation loss; None for a baseline.
    """

    trained: bool
    epochs: int | None = None
    best_epoch: int | None = None
    best_loss: float | None = None


@dataclass(frozen=True)
class _Admitted:
    """What the leader found out about a run that is to be trained, for all processes.

    Attributes:
        run: the run's row, once it was claimed.
        sequences: its sequence set.
        seen: fingerprint of the set's data, computed again.
        worker: what the row will name.
    """

    run: Run
    sequences: SequenceSet
    seen: bytes
    worker: str


def train(
    db: Database,
    run_id: int,
    *,
    device: str = "auto",
    reading: Reading = DEFAULT,
    world: World = ALONE,
    progress: Progress = SILENT,
    round_trip: RoundTrip | None = None,
) -> Outcome:
    """Train a run, or go on with it; one that has succeeded is left as it is.

    Args:
        db: the database.
        run_id: of the run.
        device: where to compute; `auto` takes the best that is there.
        reading: how it reads, and how often it is saved.
        world: the processes that train it together; each of them calls this.
        progress: told of epochs and windows, in the process that leads.
        round_trip: vectors to text and back, for a run with `roundtrip_every`.

    Raises:
        UnknownNameError: there is no such run.
        RunError: it is running elsewhere, or was cancelled, or another process of the world ended,
            or it asks for a round trip and none is there.
        SequenceError: its data changed since it was frozen.
        ModelError: device or kernel are not there, or its checkpoint does not fit.
    """
    runs.get(db, run_id)
    place = world.place(resolve_device(device))
    progress = progress if world.leads else SILENT
    with claims.claim(db, run_id) if world.leads else nullcontext() as claimed:
        admitted = world.share(lambda: _admit(db, run_id))
        if admitted is None:
            return Outcome(trained=False)
        run, sequences = admitted.run, admitted.sequences
        architecture = registry.get(run.architecture)
        config, training = options.from_row(architecture, run.hyperparameters)
        if training is None:
            # A fit has no steps to share: the leader does it, and the others are done.
            if claimed is None:
                return Outcome(trained=True)
            baseline = cast("Baseline", architecture.build(config))
            return _fit(db, claimed, admitted, baseline, config, progress)
        if training.roundtrip_every and round_trip is None:
            raise RunError(
                f"run {run_id} sends predictions through text and back, and no decoder is "
                "installed: plan it with roundtrip_every=0"
            )
        if not sequences.window_count("val"):
            raise SequenceError(
                f"sequence set '{sequences.name}' has no validation windows, by which the best "
                "epoch is found: create one with a share for them, as in --split 80/10/10"
            )
        model = _model(db, run, architecture, config, place, world)
        if training.init is not None and not _begun(db, run):
            initial.start(architecture, config, training.init, training.init_sha256, model)
        parameters = registry.count_parameters(model)
        if claimed is not None:
            stamps = [*reading.stamps, *stamps_of(round_trip)]
            _start(claimed, admitted, place, model.kernel, parameters, world.size, stamps)
        together = f", {world.size} processes" if world.size > 1 else ""
        progress.say(
            f"run {run_id} {run.architecture}: {parameters:,} parameters on {place}, "
            f"kernel {model.kernel}{together}"
        )
        with (
            claims.failure_recorded(
                db, run_id, worker=admitted.worker, reports=world.first_to_fail
            ),
            lost_processes_named(),
        ):
            trained_on, validation = streams(
                db, run, sequences, config, training, reading, world, place, progress
            )
            trainer = Trainer(
                db,
                run,
                claimed,
                model,
                config,
                training,
                trained_on,
                validation,
                world,
                reading.checkpoint_every,
                progress,
                round_trip,
            )
            with stopping.after_a_checkpoint(reading.saves_when_stopped and world.size == 1):
                state = trainer.run()
            if claimed is not None:
                runs.finish(claimed, parameter_count=parameters)
        return Outcome(True, state.epoch, state.best_epoch, state.best_loss)


def _admit(db: Database, run_id: int) -> _Admitted | None:
    """A run that was just claimed, if there is something left to train; None if not."""
    # Read again: another process may have finished it in the meantime.
    run = runs.get(db, run_id)
    if run.status == "succeeded":
        return None
    if run.status == "cancelled":
        raise RunCancelledError(
            f"run {run_id} was cancelled: 'lvmdb runs retry {run_id}' plans it again"
        )
    with db.connect() as connection:
        sequences = sets.get_by_id(connection, run.sequence_set_id)
    seen = check_data(db, run, sequences)
    check_beside(db, run, sequences)
    return _Admitted(run, sequences, seen, claims.worker_name())


def _begun(db: Database, run: Run) -> bool:
    """Whether the run goes on from a checkpoint, its own or that of the run it was forked from."""
    if run.parent_run_id is not None:
        return True
    with db.connect() as connection:
        return checkpoints.checkpoint_sha256(connection, run.run_id, "last") is not None


def check_data(db: Database, run: Run, sequences: SequenceSet) -> bytes:
    """Hold a sequence set against what it was when the run was made, and when it was frozen.

    Returns:
        The fingerprint of the data as it is now.

    Raises:
        SequenceError: the data changed.
    """
    if sequences.frozen_fingerprint != run.sequence_fingerprint:
        raise SequenceError(
            f"run {run.run_id} was made for other data than sequence set "
            f"'{sequences.name}' holds now: create a new run"
        )
    return sets.verify(db, sequences)


def fit(db: Database, run: Run, baseline: Baseline, sequences: SequenceSet) -> None:
    """Fit a baseline on the run's data; the same data and seed give the same fit."""
    stream = StreamOptions(batch_size=BASELINE_BATCH)
    train_split = SequenceStream(db, sequences, "train", stream)
    validation = SequenceStream(db, sequences, "val", stream)
    baseline.fit(lambda: train_split, lambda: validation, run.seed)


def _model(
    db: Database,
    run: Run,
    architecture: Architecture,
    config: ModelConfig,
    place: torch.device,
    world: World,
) -> LatentModel:
    """The model on its device, as it is before training; what does not fit is the run's failure."""
    torch.manual_seed(run.seed)
    try:
        model = cast("LatentModel", architecture.build(config)).to(place)
        # Asked for here: a kernel that is not there is refused before anything is written.
        _ = model.kernel
    except (RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        with claims.failure_recorded(db, run.run_id, reports=world.first_to_fail):
            raise RunError(f"the model of run {run.run_id} cannot be made: {reason}") from error
    start_from_parent(db, run, model, config)
    return model


def _fit(
    db: Database,
    claimed: Claim,
    admitted: _Admitted,
    baseline: Baseline,
    config: ModelConfig,
    progress: Progress,
) -> Outcome:
    run, sequences = admitted.run, admitted.sequences
    _start(claimed, admitted, torch.device("cpu"), baseline.kernel, 0)
    with claims.failure_recorded(db, run.run_id, worker=admitted.worker):
        fit(db, run, baseline, sequences)
        validation = SequenceStream(db, sequences, "val", StreamOptions(batch_size=BASELINE_BATCH))
        means = measured(baseline.predict, validation)
        metrics = [Metric(name, "val", 1, 1, value) for name, value in means.items()]
        saved = Checkpoint(
            kind="best",
            epoch=1,
            step=1,
            architecture=run.architecture,
            config=to_options(config),
            progress={},
            data=pack_state(baseline.state()),
        )

        def write(connection: Connection) -> None:
            runs.write_metrics(connection, run.run_id, metrics)
            checkpoints.save(connection, run.run_id, saved)

        claimed.write(write, progress)
        runs.finish(claimed, parameter_count=registry.count_parameters(baseline))
    shown = f", validation cosine {means['cosine']:.4f}" if means else ""
    progress.say(f"run {run.run_id} {run.architecture}: fitted on the CPU{shown}")
    return Outcome(trained=True)


def _start(
    claimed: Claim,
    admitted: _Admitted,
    device: torch.device,
    kernel: str,
    parameter_count: int,
    world_size: int = 1,
    stamps: Sequence[str] = (),
) -> None:
    version, dirty = code_version()
    runs.start(
        claimed,
        device=str(device),
        kernel=kernel,
        parameter_count=parameter_count,
        code_version=version,
        code_dirty=dirty,
        environment=describe(world_size, device),
        seen_fingerprint=admitted.seen,
        stamps=stamps,
    )
