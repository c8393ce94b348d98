"""The training loop: epochs of batches from SQL, validation, checkpoints, early stopping.

After each epoch, and every few minutes within one, what was measured and the last checkpoint, with
the position of the next batch, are written in one transaction; the best checkpoint with the epoch
that it is of. A run that dies goes on at that batch, and ends with the numbers of a run that was
never disturbed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace

from sqlalchemy import Connection
from torch import Tensor

from lvmdb.db import checkpoints, runs, snapshots
from lvmdb.db.checkpoints import Checkpoint
from lvmdb.db.claims import Claim
from lvmdb.db.engine import Database
from lvmdb.db.patience import patiently
from lvmdb.db.runs import Metric, Run
from lvmdb.errors import DivergedError
from lvmdb.models.base import LatentModel
from lvmdb.models.config import ModelConfig, TrainedConfig
from lvmdb.models.options import to_options
from lvmdb.models.statistics import measure
from lvmdb.progress import Progress
from lvmdb.sequences.stream import SequenceStream
from lvmdb.training import stopping
from lvmdb.training.averages import Averages, Totals, added
from lvmdb.training.checkpoint import pack, unpack
from lvmdb.training.curriculum import Curriculum
from lvmdb.training.data import verify_all
from lvmdb.training.distributed import World
from lvmdb.training.options import TrainingOptions
from lvmdb.training.round_trip import ROWS, RoundTrip, makes_trip
from lvmdb.training.schedule import learning_rate
from lvmdb.training.state import State
from lvmdb.training.step import Stepper, seed_step
from lvmdb.training.validation import validation_totals

STEP_LOSS_EVERY = 50
"""Batches between two values of the curve within an epoch (metric `step_loss`)."""


class Trainer:
    """Trains one run.

    Args:
        db: the database.
        run: the run's row.
        claimed: this process's claim on it; None in processes that do not lead.
        model: on the device where it is to train.
        config: the model's.
        options: of training.
        train, validation: the streams, of this process's part.
        world: the processes that train together.
        checkpoint_every: seconds between two checkpoints within an epoch; 0: after every batch.
        progress: told of batches and epochs.
        round_trip: vectors to text and back, for a run that asks for it.
    """

    def __init__(
        self,
        db: Database,
        run: Run,
        claimed: Claim | None,
        model: LatentModel,
        config: ModelConfig,
        options: TrainingOptions,
        train: SequenceStream,
        validation: SequenceStream,
        world: World,
        checkpoint_every: float,
        progress: Progress,
        round_trip: RoundTrip | None = None,
    ) -> None:
        self._db, self._run, self._claim, self._progress = db, run, claimed, progress
        self._model, self._config, self._options = model, config, options
        self._train, self._validation = train, validation
        self._world, self._every = world, checkpoint_every
        context_len = train.sequences.context_len
        self._stepper = Stepper(model, run.loss or "", options, world, context_len, round_trip)
        self._curriculum: Curriculum | None = None
        self._saved_at = time.monotonic()
        self._verified = 1  # sessions of the claim since whose beginning the data was verified
        self._unsaved: list[Metric] = []
        self.state = State()

    def run(self) -> State:
        """Train until the last epoch, or until validation stops getting better.

        Raises:
            DivergedError: the loss is no longer a number.
            RunError: another process has the run, or it was cancelled.
            SequenceError: the data changed.
        """
        self._resume()
        if self._options.curriculum != "none":
            self._curriculum = self._measured_curriculum()
        while self.state.epoch < self._options.epochs and not self._exhausted():
            epoch = self.state.epoch + 1
            train_loss = self._train_epoch(epoch)
            measured = self._validate()
            self._note("val", epoch, measured)
            best = self.state.best_loss
            better = best is None or measured["loss"] < best
            if better:
                self.state.best_epoch, self.state.best_loss = epoch, measured["loss"]
            self.state.epoch, self.state.batch, self.state.unfinished = epoch, 0, Totals()
            self._save(better=better)
            self._progress.say(
                f"run {self._run.run_id} epoch {epoch}/{self._options.epochs}: "
                f"train loss {train_loss:.5f}, validation loss {measured['loss']:.5f}, "
                f"cosine {measured['cosine']:.4f}{'  * best' if better else ''}"
            )
        return self.state

    def _train_epoch(self, epoch: int) -> float:
        """Train what is left of an epoch; returns its mean loss, over all of it."""
        state, world = self.state, self._world
        averages = Averages(state.unfinished if world.leads else None)
        self._model.train()
        name = f"run {self._run.run_id} epoch {epoch}"
        left = max(self._train.windows - state.batch * self._options.batch_size, 0)
        with self._progress.task(name, left, "windows") as advance, self._one_state() as shown:
            for read in self._train.at(epoch, state.batch, snapshot=shown) if left else ():
                if self._claim is not None:
                    self._claim.refuse_if_cancelled()
                batch = self._curriculum.select(epoch, read) if self._curriculum else read
                own = batch.targets
                # The leader's clock decides, so that all agree.
                overdue = time.monotonic() - self._saved_at >= self._every
                late = world.leads and (overdue or stopping.asked())
                windows, targets, due = world.add(len(read), own, late)
                seed_step(self._run.seed, state.step, world.rank)
                values = {}
                if targets:
                    trip = makes_trip(state.step + 1, self._options.roundtrip_every)
                    values = self._stepper.step(batch, self._rate(state.step), targets, trip)
                state.step += 1
                state.batch += 1
                if (term := values.pop("round_trip", None)) is not None:
                    self._note("train", epoch, {"round_trip": self._mean(term, min(own, ROWS))})
                averages.add(values, own)
                if targets and state.step % STEP_LOSS_EVERY == 0:
                    self._note("train", epoch, {"step_loss": self._mean(values["loss"], own)})
                if due:
                    state.unfinished = self._summed(averages)
                    for total in state.unfinished.sums.values():
                        self._finite("training", total)
                    self._save(better=False)
                    stopping.end_if_asked()
                advance(windows)
        means = self._summed(averages).means()
        self._note("train", epoch, {"lr": self._rate(state.step - 1), **means})
        return means["loss"]

    def _measured_curriculum(self) -> Curriculum:
        options = self._options
        return self._world.share(
            lambda: Curriculum.measured(options.curriculum, options.epochs, self._whole_split())
        )

    def _rate(self, step: int) -> float:
        return learning_rate(
            step,
            len(self._train) * self._options.epochs,
            lr=self._options.lr,
            warmup=self._options.warmup,
            final_lr=self._options.final_lr,
        )

    @contextmanager
    def _one_state(self) -> Iterator[str | None]:
        """The snapshot that the streams of all processes import; alone, a stream takes its own."""
        self._verify_after_restart()
        if self._world.size == 1:
            yield None
            return
        with ExitStack() as held:

            def export() -> str:
                # Kept open while the block lasts: others may come to it later.
                return snapshots.export(held.enter_context(snapshots.reading(self._db)))

            yield self._world.share(lambda: patiently(export, self._progress))
            # Until all have imported it, nobody leaves.
            self._world.add(0)

    def _verify_after_restart(self) -> None:
        """A server that went away since the last stream was opened may show other data now."""
        if self._claim is None:
            return
        patiently(self._claim.keep, self._progress)
        if self._claim.sessions > self._verified:
            run, data = self._run, self._train.sequences
            patiently(lambda: verify_all(self._db, run, data), self._progress)
            self._verified = self._claim.sessions

    def _validate(self) -> dict[str, float]:
        with self._one_state() as shown:
            validation = self._validation.at(0, snapshot=shown)
            own = validation_totals(self._stepper, validation)
        return added(self._world.gather(own)).means()

    def _summed(self, averages: Averages) -> Totals:
        return added(self._world.gather(averages.totals()))

    def _mean(self, value: Tensor, count: int) -> float:
        """The mean over all processes of what is a mean over `count` on this one."""
        found = float(value)
        if self._world.size == 1:
            return found
        own = Totals(count, {"value": found * count} if count else {})
        return added(self._world.gather(own)).means()["value"]

    def _resume(self) -> None:
        def load() -> Checkpoint | None:
            with self._db.begin() as connection:
                last = checkpoints.load(connection, self._run.run_id, "last")
                if self._world.leads:
                    step = last.step if last else 0
                    runs.forget_metrics_after(connection, self._run.run_id, step)
            return last

        last = patiently(load, self._progress)
        if last is None:
            self._begin()
            return
        unpack(last.data, self._model, self._config, self._stepper.optimizer)
        self.state = State.from_progress(last.progress)
        within = f" and {last.batch} of {len(self._train)} batches" if last.batch else ""
        self._progress.say(f"run {self._run.run_id} goes on after epoch {last.epoch}{within}")

    def _begin(self) -> None:
        """What must be known of the training windows before the first step; a fork knows it."""
        config, forked = self._config, self._run.parent_run_id is not None
        if not forked and isinstance(config, TrainedConfig) and config.needs_statistics:
            self._model.fit(
                self._world.share(lambda: measure(batch.target for batch in self._whole_split()))
            )

    def _whole_split(self) -> SequenceStream:
        """The training windows, all of them in corpus order, for one process."""
        options = self._train.options
        whole = replace(
            options, shuffle=False, rank=0, world_size=1, first_batch=0, objective="last"
        )
        return SequenceStream(self._db, self._train.sequences, "train", whole, self._progress)

    def _save(self, *, better: bool) -> None:
        """What was measured since the last time, where to go on, and the best, all or nothing."""
        if self._claim is None:
            self._unsaved.clear()
            return
        saved = [self._checkpoint("last", pack(self._model, self._config, self._stepper.optimizer))]
        if better:
            saved.append(self._checkpoint("best", pack(self._model, self._config)))

        def write(connection: Connection) -> None:
            runs.write_metrics(connection, self._run.run_id, self._unsaved)
            for checkpoint in saved:
                checkpoints.save(connection, self._run.run_id, checkpoint)

        self._claim.write(write, self._progress)
        self._unsaved.clear()
        self._saved_at = time.monotonic()

    def _checkpoint(self, kind: str, data: bytes) -> Checkpoint:
        return Checkpoint(
            kind=kind,
            epoch=self.state.epoch,
            batch=self.state.batch,
            step=self.state.step,
            architecture=self._run.architecture,
            config=to_options(self._config),
            progress=asdict(self.state),
            data=data,
        )

    def _exhausted(self) -> bool:
        # Patience begins where all windows are trained on: before, loss may well rise for a while.
        banded = self._curriculum.banded_epochs if self._curriculum else 0
        waited = self.state.epoch - max(self.state.best_epoch, banded)
        stops = 0 < self._options.patience <= waited
        if stops:
            why = f"{waited} epochs without a better validation loss"
            self._progress.say(f"run {self._run.run_id} stops: {why}")
        return stops

    def _note(self, split: str, epoch: int, values: Mapping[str, float]) -> None:
        """Keep metrics of this step until they are written."""
        which = "training" if split == "train" else "validation"
        for name, value in values.items():
            self._finite(which, value)
            self._unsaved.append(Metric(name, split, self.state.step, epoch, value))

    def _finite(self, which: str, value: float) -> None:
        if not math.isfinite(value):
            raise DivergedError(
                f"the {which} loss of run {self._run.run_id} became {value} at step "
                f"{self.state.step}: try a lower rate (--set lr=...)"
            )
