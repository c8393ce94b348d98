"""One step of training: forward, loss, backward, clip, AdamW."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lvmdb.models.base import LatentModel
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.training.losses import Loss
from lvmdb.training.options import TrainingOptions


class Stepper:
    """A model with its optimiser.

    Args:
        model: on the device where it is to train.
        loss: what is trained on.
        options: weight decay and clipping.
    """

    def __init__(self, model: LatentModel, loss: Loss, options: TrainingOptions) -> None:
        self.model = model
        self.loss = loss
        self.device = next(model.parameters()).device
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model, options.weight_decay),
            lr=options.lr,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self._clip = options.clip

    def step(self, batch: SequenceBatch, rate: float) -> dict[str, Tensor]:
        """Train on a batch at a learning rate; returns the loss and its terms, on the device."""
        batch = batch.to(self.device, non_blocking=True)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        value = self.loss(self.model(batch.context, batch.mask), batch.target)
        self.optimizer.zero_grad(set_to_none=True)
        value.total.backward()  # type: ignore[no-untyped-call]
        if self._clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._clip)
        self.optimizer.step()
        return {"loss": value.total.detach(), **value.terms}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms, step sizes, lag weights and other vectors do not."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
