"""The typed batch: the contract between the data and every model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

OBJECTIVES = ("last", "every")
"""What is predicted: the vector that follows a context, or one after each of its positions."""


@dataclass(frozen=True)
class SequenceBatch:
    """A batch of training examples: contexts, and the vectors that follow them.

    A batch may be empty: where several processes share a global batch, one may have none of it.

    Attributes:
        context: `(batch, time, 768)` float32, oldest concept first; with TMD codes
            `(batch, time, 784)`, each behind its concept.
        mask: `(batch, time)` bool, True where `context` holds a concept; padding is on the left.
        target: for the objective `last`, `(batch, 768)` float32, the concept that follows the
            context; for `every`, `(batch, time, 768)`, the concept that follows each position, and
            zeros where `mask` is False.
        article_id: `(batch,)` int64, the target's article.
        target_seq: `(batch,)` int64, the (last) target's position within its article, from 0.
    """

    context: Tensor
    mask: Tensor
    target: Tensor
    article_id: Tensor
    target_seq: Tensor

    def __len__(self) -> int:
        return self.target.shape[0]

    @property
    def targets(self) -> int:
        """How many vectors are to be predicted. (On a GPU, the host waits for the mask once.)"""
        return int(self.mask.sum()) if self.target.dim() == 3 else len(self)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Self:
        """The same batch on another device."""
        return self._map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The same batch in page-locked memory, from which a GPU copies without waiting."""
        return self._map(lambda t: t.pin_memory())

    def select(self, rows: Tensor) -> Self:
        """The windows where `rows`, `(batch,)` bool, is True."""
        return self._map(lambda t: t[rows])

    def _map(self, move: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(**{each.name: move(getattr(self, each.name)) for each in fields(self)})


@dataclass(frozen=True)
class ProbeBatch(SequenceBatch):
    """Questions with their answers: the context is a probe alone, the target its concept.

    Attributes:
        soft, hard: `(batch, 3, 768)` float32, concepts that are like the target and are not it, and
            concepts that are not like it; zeros where there are fewer than three.
        soft_present, hard_present: `(batch, 3)` bool, True where there is one.
    """

    soft: Tensor
    soft_present: Tensor
    hard: Tensor
    hard_present: Tensor
