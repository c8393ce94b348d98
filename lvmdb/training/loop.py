"""The training loop: epochs of batches from SQL, validation, checkpoints, early stopping.

After each epoch its metrics, the last checkpoint and, if it is better, the best one are written
in one transaction. A run that dies in the middle of an epoch goes on from the end of the one
before, and ends with the numbers of a run that was never disturbed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import torch

from lvmdb.db import checkpoints, runs
from lvmdb.db.checkpoints import Checkpoint
from lvmdb.db.claims import Claim
from lvmdb.db.engine import Database
from lvmdb.db.runs import Metric, Run
from lvmdb.errors import RunError
from lvmdb.models.base import LatentModel
from lvmdb.models.config import ModelConfig
from lvmdb.models.options import to_options
from lvmdb.progress import Progress
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.sequences.stream import SequenceStream
from lvmdb.training import losses
from lvmdb.training.checkpoint import pack, unpack
from lvmdb.training.options import TrainingOptions
from lvmdb.training.schedule import learning_rate
from lvmdb.training.step import Stepper

STEP_LOSS_EVERY = 50
"""Batches between two values of the curve within an epoch (metric `step_loss`)."""


@dataclass
class State:
    """What the loop carries from epoch to epoch, beside weights and optimiser.

    Attributes:
        epoch: epochs done.
        step: batches done.
        best_epoch: the epoch of the lowest validation loss, from 1.
        best_loss: that loss.
    """

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf


@dataclass
class Averages:
    """Means over the windows of a pass, summed where the tensors are.

    In float64, but on Apple's GPUs, which have none.
    """

    windows: int = 0
    sums: dict[str, torch.Tensor] = field(default_factory=dict)

    def add(self, values: dict[str, torch.Tensor], windows: int) -> None:
        """Values that are means over so many windows."""
        self.windows += windows
        for name, value in values.items():
            kind = torch.float32 if value.device.type == "mps" else torch.float64
            term = value.detach().to(kind) * windows
            self.sums[name] = self.sums[name] + term if name in self.sums else term

    def means(self) -> dict[str, float]:
        """The means, on the host."""
        return {name: float(total) / self.windows for name, total in self.sums.items()}


class Trainer:
    """Trains one run.

    Args:
        db: the database.
        run: the run's row.
        claimed: this process's claim on it.
        model: on the device where it is to train.
        config: the model's.
        options: of training.
        train, validation: the streams.
        progress: told of batches and epochs.
    """

    def __init__(
        self,
        db: Database,
        run: Run,
        claimed: Claim,
        model: LatentModel,
        config: ModelConfig,
        options: TrainingOptions,
        train: SequenceStream,
        validation: SequenceStream,
        progress: Progress,
    ) -> None:
        self._db, self._run, self._claim, self._progress = db, run, claimed, progress
        self._model, self._config, self._options = model, config, options
        self._train, self._validation = train, validation
        self._stepper = Stepper(model, losses.get(run.loss or ""), options)
        self.state = State()

    def run(self) -> State:
        """Train until the last epoch, or until validation stops getting better.

        Raises:
            RunError: the loss is no longer a number.
        """
        self._resume()
        while self.state.epoch < self._options.epochs and not self._exhausted():
            epoch = self.state.epoch + 1
            metrics = self._train_epoch(epoch)
            measured = self._validate()
            metrics += [
                Metric(name, "val", self.state.step, epoch, value)
                for name, value in measured.items()
            ]
            self.state.epoch = epoch
            better = measured["loss"] < self.state.best_loss
            if better:
                self.state.best_epoch, self.state.best_loss = epoch, measured["loss"]
            self._save(metrics, better=better)
            train_loss = next(m.value for m in metrics if m.name == "loss" and m.split == "train")
            self._progress.say(
                f"run {self._run.run_id} epoch {epoch}/{self._options.epochs}: "
                f"train loss {train_loss:.5f}, validation loss {measured['loss']:.5f}, "
                f"cosine {measured['cosine']:.4f}{'  * best' if better else ''}"
            )
        return self.state

    def _train_epoch(self, epoch: int) -> list[Metric]:
        steps = len(self._train) * self._options.epochs
        averages, metrics = Averages(), []
        self._model.train()
        name = f"run {self._run.run_id} epoch {epoch}"
        with self._progress.task(name, self._train.windows, "windows") as advance:
            for batch in self._train.at(epoch):
                rate = learning_rate(
                    self.state.step,
                    steps,
                    lr=self._options.lr,
                    warmup=self._options.warmup,
                    final_lr=self._options.final_lr,
                )
                values = self._stepper.step(batch, rate)
                self.state.step += 1
                averages.add(values, len(batch))
                if self.state.step % STEP_LOSS_EVERY == 0:
                    value = self._finite("training", float(values["loss"]))
                    metrics.append(Metric("step_loss", "train", self.state.step, epoch, value))
                advance(len(batch))
        metrics.append(Metric("lr", "train", self.state.step, epoch, rate))
        for name, value in averages.means().items():
            value = self._finite("training", value)
            metrics.append(Metric(name, "train", self.state.step, epoch, value))
        return metrics

    def _validate(self) -> dict[str, float]:
        measured = validation_metrics(self._model, self._stepper.loss, self._validation)
        self._finite("validation", measured["loss"])
        return measured

    def _resume(self) -> None:
        with self._db.begin() as connection:
            last = checkpoints.load(connection, self._run.run_id, "last")
            runs.forget_metrics_after(connection, self._run.run_id, last.epoch if last else 0)
        if last is not None:
            unpack(last.data, self._model, self._config, self._stepper.optimizer)
            self.state = State(**last.progress)
            self._progress.say(f"run {self._run.run_id} goes on after epoch {self.state.epoch}")

    def _save(self, metrics: list[Metric], *, better: bool) -> None:
        with self._db.begin() as connection:
            self._claim.check(connection)
            runs.write_metrics(connection, self._run.run_id, metrics)
            data = pack(self._model, self._config, self._stepper.optimizer)
            checkpoints.save(connection, self._run.run_id, self._checkpoint("last", data))
            if better:
                data = pack(self._model, self._config)
                checkpoints.save(connection, self._run.run_id, self._checkpoint("best", data))

    def _checkpoint(self, kind: str, data: bytes) -> Checkpoint:
        return Checkpoint(
            kind=kind,
            epoch=self.state.epoch,
            step=self.state.step,
            architecture=self._run.architecture,
            config=to_options(self._config),
            progress=asdict(self.state),
            data=data,
        )

    def _exhausted(self) -> bool:
        waited = self.state.epoch - self.state.best_epoch
        if self._options.patience and waited >= self._options.patience:
            self._progress.say(
                f"run {self._run.run_id} stops: {waited} epochs without a better validation loss"
            )
            return True
        return False

    def _finite(self, which: str, value: float) -> float:
        if not math.isfinite(value):
            raise RunError(
                f"the {which} loss of run {self._run.run_id} became {value} at step "
                f"{self.state.step}: try a lower rate (--set lr=...)"
            )
        return value


@torch.no_grad()
def validation_metrics(
    model: LatentModel, loss: losses.Loss, batches: Iterable[SequenceBatch]
) -> dict[str, float]:
    """Loss and its terms, mean squared error over dimensions and cosine, over a split."""
    averages = Averages()
    device = next(model.parameters()).device
    model.eval()
    for batch in batches:
        moved = batch.to(device, non_blocking=True)
        prediction = model(moved.context, moved.mask)
        value = loss(prediction, moved.target)
        averages.add(
            {
                "loss": value.total,
                **value.terms,
                "mse": losses.mse_mean(prediction, moved.target),
                "cosine": 1.0 - losses.cosine_distance(prediction, moved.target),
            },
            len(batch),
        )
    return averages.means()
