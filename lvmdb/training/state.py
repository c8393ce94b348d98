"""Where a training is: what its checkpoints hold beside weights and optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lvmdb.training.averages import Totals


@dataclass
class State:
    """What the loop carries from batch to batch, beside weights and optimiser.

    Attributes:
        epoch: epochs done.
        batch: global batches done of the epoch after those.
        step: global batches done in all.
        best_epoch: the epoch of the lowest validation loss, from 1.
        best_loss: that loss; None before the first epoch's end.
        unfinished: what was measured in the epoch that is not done.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_loss: float | None = None
    unfinished: Totals = field(default_factory=Totals)

    @classmethod
    def from_progress(cls, progress: Mapping[str, Any]) -> State:
        """What `asdict` gave; a checkpoint of an epoch's end may leave out what is of within."""
        return cls(**{**progress, "unfinished": Totals(**progress.get("unfinished", {}))})
