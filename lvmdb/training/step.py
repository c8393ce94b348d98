"""One step of training: forward, loss, backward, clip, AdamW."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lvmdb.models.base import LatentModel
from lvmdb.models.gentle import GENTLE_RATE, gentle_parameters
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.training import losses
from lvmdb.training.distributed import ALONE, World
from lvmdb.training.losses import Answer, LossValue
from lvmdb.training.margins import MARGINS, Margins
from lvmdb.training.objective import answer
from lvmdb.training.options import TrainingOptions
from lvmdb.training.round_trip import RoundTrip, round_trip_term


class Stepper:
    """A model with its optimiser.

    Args:
        model: on the device where it is to train.
        loss: name of what is trained on.
        options: weight decay, clipping, and those of the loss.
        world: the processes that each have a part of every batch; all build a Stepper at once.
        context_len: concepts of a context, for a loss that tells the truth from others.
        round_trip: vectors to text and back, for steps that ask for it.
    """

    def __init__(
        self,
        model: LatentModel,
        loss: str,
        options: TrainingOptions,
        world: World = ALONE,
        context_len: int = 1,
        round_trip: RoundTrip | None = None,
    ) -> None:
        self.model = model
        mixed = options.objective == "probe" or options.roundtrip_every > 0 or model.adds_terms
        self.loss = losses.get(
            loss, options.temperature, weight=options.infonce_weight, mixed=mixed
        )
        self.device = next(model.parameters()).device
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model, options.weight_decay),
            lr=options.lr,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self._clip = options.clip
        self._world = world
        self._round_trip = round_trip
        contrasts = losses.contrastive(loss)
        self._exchanges = contrasts and world.size > 1
        self.objective = Objective(
            model,
            lags=context_len if contrasts else 0,
            with_context=contrasts and options.context_negatives,
            margins=Margins(options.margin_soft, options.margin_hard),
        )
        self._forward: nn.Module = self.objective
        if world.size > 1:
            self._forward = DistributedDataParallel(self._forward)

    def step(
        self,
        batch: SequenceBatch,
        rate: float,
        targets: int | None = None,
        there_and_back: bool = False,
    ) -> dict[str, Tensor]:
        """Train on a batch.

        Args:
            batch: this process's part of the global batch; it may be empty, if others' are not.
            rate: learning rate.
            targets: vectors that all processes together predict; needed where there are several.
            there_and_back: with the term `round_trip`, of some of the predictions.

        Returns:
            The loss and its terms by name: scalars on the device, means over this process's part,
            and of no meaning where that is empty.
        """
        own = batch.targets if self._world.size > 1 else 0
        if self._world.size > 1 and not own:
            batch = _stand_in(batch)
        batch = batch.to(self.device, non_blocking=True)
        for group in self.optimizer.param_groups:
            group["lr"] = min(rate, group.get("highest_lr", rate))
        answered: Answer = self._forward(batch)
        answered = self._among_others(answered, own)
        if there_and_back and self._round_trip is not None:
            term = round_trip_term(self._round_trip, answered.prediction)
            answered = replace(answered, extra={**answered.extra, "round_trip": term})
        value = self.loss(answered)
        total = value.total
        if self._world.size > 1:
            # Gradients are averaged over processes, but each process's mean is over its own part.
            assert targets, "several processes have a count of what they predict together"
            total = total * (own * self._world.size / targets)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        if self._clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._clip)
        self.optimizer.step()
        return {"loss": value.total.detach(), **value.terms}

    @torch.no_grad()
    def judge(self, batch: SequenceBatch) -> tuple[Answer, LossValue] | None:
        """What the model says to a batch and its loss, without training on it.

        Args:
            batch: this process's part of the global batch, on any device.

        Returns:
            None where the part is empty. Every process asks for each global batch.
        """
        moved = batch.to(self.device, non_blocking=True)
        if not len(batch):
            if self._exchanges:
                self._world.others(moved.target)
                self._world.others(moved.target.new_zeros(0, 2, dtype=torch.int64))
            return None
        answered = self.objective(moved)
        return answered, self.loss(self._among_others(answered, batch.targets))

    def _among_others(self, answered: Answer, own: int) -> Answer:
        """With the targets of the other processes, where the loss has them as negatives."""
        if not self._exchanges:
            return answered
        assert answered.place is not None, "as a loss with negatives asks"
        return replace(
            answered,
            others=self._world.others(answered.target[:own]),
            others_place=self._world.others(answered.place[:own]),
        )


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make the random numbers of a step, dropout's, a function of run, step and process.

    So a run goes on anywhere, in any number of processes, and no generator's state is kept.
    """
    sequence = np.random.SeedSequence([seed & (2**64 - 1), step, rank])
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))


class Objective(nn.Module):
    """What a model is trained for as one forward pass, which is all that DDP listens to.

    Args:
        model: what is trained.
        lags, with_context, margins: see `objective.answer`.
    """

    def __init__(
        self, model: LatentModel, *, lags: int, with_context: bool, margins: Margins = MARGINS
    ) -> None:
        super().__init__()
        self.model = model
        self._lags, self._with_context, self._margins = lags, with_context, margins

    def forward(self, batch: SequenceBatch) -> Answer:
        return answer(
            self.model,
            batch,
            self._lags,
            with_context=self._with_context,
            margins=self._margins,
        )


def _stand_in(batch: SequenceBatch) -> SequenceBatch:
    """One window of ones, for a process that has no part of a batch: all must take each step."""
    return batch._map(lambda t: t.new_ones([max(1, size) for size in t.shape]))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms, step sizes, lag weights and other vectors do not.

    A vector may lie in several dimensions: `(1, 1, width)`, as some published weights do. Where a
    model has parameters that are trained gently (`models.gentle`), they are a third group.
    """
    gentle = gentle_parameters(model)
    apart = {id(p) for p in gentle}
    rest = [p for p in model.parameters() if id(p) not in apart]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if _is_matrix(p)], "weight_decay": weight_decay},
        {"params": [p for p in rest if not _is_matrix(p)], "weight_decay": 0.0},
    ]
    if gentle:
        groups.append({"params": gentle, "weight_decay": 0.0, "highest_lr": GENTLE_RATE})
    return groups


def _is_matrix(parameter: nn.Parameter) -> bool:
    return sum(size > 1 for size in parameter.shape) > 1
