"""The four baselines that learn nothing, or only a mean."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lvmdb.models.baselines.base import Baseline, Passes, fitted, no_windows
from lvmdb.models.config import ModelConfig
from lvmdb.sequences.batch import SequenceBatch


class CopyLast(Baseline):
    """The last concept of the context again."""

    def fit(self, train: Passes, validation: Passes, seed: int) -> None:
        """Nothing to learn."""

    def predict(self, batch: SequenceBatch) -> Tensor:
        return self.context(batch)[:, -1, : self.config.output_dim]


class ContextMean(Baseline):
    """The arithmetic mean of the concepts in the context."""

    def fit(self, train: Passes, validation: Passes, seed: int) -> None:
        """Nothing to learn."""

    def predict(self, batch: SequenceBatch) -> Tensor:
        total = self.context(batch)[..., : self.config.output_dim].sum(1)
        return total / batch.mask.sum(1, keepdim=True).clamp(min=1)


class TrainMean(Baseline):
    """The arithmetic mean of all training targets, whatever the context."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self._mean: Tensor | None = None  # (output_dim,)

    def fit(self, train: Passes, validation: Passes, seed: int) -> None:
        total, count = torch.zeros(self.config.output_dim, dtype=torch.float64), 0
        for batch in train():
            total += batch.target.double().sum(0).cpu()
            count += len(batch)
        if not count:
            raise no_windows("train")
        self._mean = (total / count).float()

    def predict(self, batch: SequenceBatch) -> Tensor:
        return fitted(self._mean).to(batch.context.device).repeat(len(batch), 1)

    def state(self) -> dict[str, Tensor]:
        return {"mean": fitted(self._mean)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._check(state, {"mean": (self.config.output_dim,)})
        self._mean = state["mean"]


class Random(Baseline):
    """A unit vector drawn uniformly for every query.

    It is a function of the run's seed and of the target's article and position alone: neither
    batches nor devices change it. Numbers come from a counter-based generator (the finaliser of
    SplitMix64, Steele, Lea & Flood 2014), which needs no state between queries.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self._seed: Tensor | None = None  # ()

    def fit(self, train: Passes, validation: Passes, seed: int) -> None:
        """Remember the seed."""
        self._seed = torch.tensor(seed, dtype=torch.int64)

    def predict(self, batch: SequenceBatch) -> Tensor:
        device = batch.context.device
        key = _mix(fitted(self._seed).to(device) + _STEP)
        for part in (batch.article_id, batch.target_seq):
            key = _mix(key ^ _mix(part.to(device, torch.int64) + _STEP))  # (batch,)
        counter = torch.arange(1, 2 * self.config.output_dim + 1, device=device)
        bits = _mix(key.unsqueeze(1) + counter * _STEP)  # (batch, 2 * output_dim)
        # The upper 53 bits, in (0, 1]; pairs of them to normal numbers by Box and Muller (1958).
        uniform = (_shift_right(bits, 11) + 1).double() / 2.0**53
        radius, angle = uniform.chunk(2, dim=1)
        normal = torch.sqrt(-2.0 * torch.log(radius)) * torch.cos(2.0 * math.pi * angle)
        return torch.nn.functional.normalize(normal, dim=1).float()

    def state(self) -> dict[str, Tensor]:
        return {"seed": fitted(self._seed)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._check(state, {"seed": ()})
        self._seed = state["seed"]


# SplitMix64's constants as signed numbers: torch's int64 wraps as unsigned arithmetic does.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64


def _mix(bits: Tensor) -> Tensor:
    bits = (bits ^ _shift_right(bits, 30)) * _FIRST
    bits = (bits ^ _shift_right(bits, 27)) * _SECOND
    return bits ^ _shift_right(bits, 31)


def _shift_right(bits: Tensor, by: int) -> Tensor:
    """The logical shift: torch's own copies the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
