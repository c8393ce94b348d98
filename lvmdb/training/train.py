"""`lvmdb train`: whatever a run row says, on whatever device is there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch

from lvmdb.db import checkpoints, claims, runs
from lvmdb.db.checkpoints import Checkpoint
from lvmdb.db.claims import Claim
from lvmdb.db.engine import Database
from lvmdb.db.runs import Metric, Run
from lvmdb.errors import RunError, SequenceError
from lvmdb.models import registry
from lvmdb.models.base import LatentModel
from lvmdb.models.baselines.base import Baseline
from lvmdb.models.config import ModelConfig
from lvmdb.models.options import to_options
from lvmdb.models.registry import Architecture
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.stream import SequenceStream, StreamOptions
from lvmdb.training import losses, options
from lvmdb.training.checkpoint import pack_state
from lvmdb.training.environment import code_version, describe, resolve_device
from lvmdb.training.loop import Averages, Trainer

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


def train(
    db: Database, run_id: int, *, device: str = "auto", progress: Progress = SILENT
) -> Outcome:
    """Train a run, or go on with it; one that has succeeded is left as it is.

    Raises:
        UnknownNameError: there is no such run.
        RunError: it is running elsewhere, or was cancelled.
        SequenceError: its data changed since it was frozen.
        ModelError: device or kernel are not there, or its checkpoint does not fit.
    """
    runs.get(db, run_id)
    place = resolve_device(device)
    with claims.claim(db, run_id) as claimed:
        # Read again: another process may have finished it in the meantime.
        run = runs.get(db, run_id)
        if run.status == "succeeded":
            return Outcome(trained=False)
        if run.status == "cancelled":
            raise RunError(
                f"run {run_id} was cancelled: 'lvmdb runs retry {run_id}' plans it again"
            )
        with db.connect() as connection:
            sequences = sets.get_by_id(connection, run.sequence_set_id)
        check_data(db, run, sequences)
        architecture = registry.get(run.architecture)
        config, training = options.from_row(architecture, run.hyperparameters)
        if training is None:
            baseline = cast("Baseline", architecture.build(config))
            return _fit(db, run, claimed, baseline, config, sequences, progress)
        if not sequences.window_count("val"):
            raise SequenceError(
                f"sequence set '{sequences.name}' has no validation windows, by which the best "
                "epoch is found: create one with a share for them, as in --split 80/10/10"
            )
        model = _model(db, run, architecture, config, place)
        parameters = registry.count_parameters(model)
        _start(db, run, place, model.kernel, parameters)
        progress.say(
            f"run {run_id} {run.architecture}: {parameters:,} parameters on {place}, "
            f"kernel {model.kernel}"
        )
        with claims.failure_recorded(db, run_id):
            stream = StreamOptions(
                batch_size=training.batch_size,
                buffer_size=training.buffer_size,
                seed=run.seed,
                pin_memory=place.type == "cuda",
            )
            trainer = Trainer(
                db,
                run,
                claimed,
                model,
                config,
                training,
                SequenceStream(db, sequences, "train", replace(stream, shuffle=True)),
                SequenceStream(db, sequences, "val", stream),
                progress,
            )
            state = trainer.run()
            runs.finish(db, claimed, parameter_count=parameters)
        return Outcome(True, state.epoch, state.best_epoch, state.best_loss)


def check_data(db: Database, run: Run, sequences: SequenceSet) -> None:
    """Hold a sequence set against what it was when the run was made, and when it was frozen.

    Raises:
        SequenceError: the data changed.
    """
    if sequences.frozen_fingerprint != run.sequence_fingerprint:
        raise SequenceError(
            f"run {run.run_id} was made for other data than sequence set "
            f"'{sequences.name}' holds now: create a new run"
        )
    sets.verify(db, sequences)


def fit(db: Database, run: Run, baseline: Baseline, sequences: SequenceSet) -> None:
    """Fit a baseline on the run's data; the same data and seed give the same fit."""
    stream = StreamOptions(batch_size=BASELINE_BATCH)
    train_split = SequenceStream(db, sequences, "train", stream)
    validation = SequenceStream(db, sequences, "val", stream)
    baseline.fit(lambda: train_split, lambda: validation, run.seed)


def _model(
    db: Database, run: Run, architecture: Architecture, config: ModelConfig, place: torch.device
) -> LatentModel:
    """The model on its device; what does not fit into memory is the run's failure."""
    torch.manual_seed(run.seed)
    try:
        model = cast("LatentModel", architecture.build(config)).to(place)
        # Asked for here: a kernel that is not there is refused before anything is written.
        _ = model.kernel
    except (RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        with claims.failure_recorded(db, run.run_id):
            raise RunError(f"the model of run {run.run_id} cannot be made: {reason}") from error
    return model


def _fit(
    db: Database,
    run: Run,
    claimed: Claim,
    baseline: Baseline,
    config: ModelConfig,
    sequences: SequenceSet,
    progress: Progress,
) -> Outcome:
    _start(db, run, torch.device("cpu"), baseline.kernel, 0)
    with claims.failure_recorded(db, run.run_id):
        fit(db, run, baseline, sequences)
        averages = Averages()
        validation = SequenceStream(db, sequences, "val", StreamOptions(batch_size=BASELINE_BATCH))
        for batch in validation:
            prediction = baseline.predict(batch)
            distance = losses.cosine_distance(prediction, batch.target)
            averages.add(
                {
                    "mse": losses.mse_mean(prediction, batch.target),
                    "mse_sum": losses.mse_sum(prediction, batch.target),
                    "cosine_distance": distance,
                    "cosine": 1.0 - distance,
                },
                len(batch),
            )
        means = averages.means() if averages.windows else {}
        saved = Checkpoint(
            kind="best",
            epoch=1,
            step=1,
            architecture=run.architecture,
            config=to_options(config),
            progress={},
            data=pack_state(baseline.state()),
        )
        with db.begin() as connection:
            claimed.check(connection)
            metrics = [Metric(name, "val", 1, 1, value) for name, value in means.items()]
            runs.write_metrics(connection, run.run_id, metrics)
            checkpoints.save(connection, run.run_id, saved)
        runs.finish(db, claimed, parameter_count=registry.count_parameters(baseline))
    shown = f", validation cosine {means['cosine']:.4f}" if means else ""
    progress.say(f"run {run.run_id} {run.architecture}: fitted on the CPU{shown}")
    return Outcome(trained=True)


def _start(db: Database, run: Run, device: torch.device, kernel: str, parameter_count: int) -> None:
    version, dirty = code_version()
    runs.start(
        db,
        run.run_id,
        device=str(device),
        kernel=kernel,
        parameter_count=parameter_count,
        code_version=version,
        code_dirty=dirty,
        environment=describe(),
    )
