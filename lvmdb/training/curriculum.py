"""Curriculum: windows whose context holds together come first, looser ones later, then all.

A context's coherence is the mean cosine of its neighbouring concepts. The epochs of a run are cut
into four phases, as equal as they can be: the most coherent third or band, the middle one, the
loosest, and all windows mixed.

bands       above .8, .6 to .8, .4 to .6: the same in every corpus, where it has such contexts
quantiles   thirds of the training windows of this corpus: neighbours on Wikipedia average .53

Batches stay what they are in the stream, so that order, resume and processes do too; an epoch
trains on those of their windows that are in its band (Bengio et al. 2009, "Curriculum learning").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lvmdb.db.types import DIMENSION
from lvmdb.errors import ModelError
from lvmdb.sequences.batch import SequenceBatch

KINDS = ("bands", "quantiles")
PHASES = 4
BANDS = ((0.8, float("inf")), (0.6, 0.8), (0.4, 0.6))
"""Least coherence and what it stays below, phase by phase; in the last phase all windows are in."""


def coherence(batch: SequenceBatch) -> Tensor:
    """Mean cosine of neighbours in each context, `(batch,)`; NaN where there are no neighbours."""
    concepts = F.normalize(batch.context[..., :DIMENSION], dim=-1)
    cosine = (concepts[:, 1:] * concepts[:, :-1]).sum(-1)  # (batch, time - 1)
    pairs = batch.mask[:, 1:] & batch.mask[:, :-1]
    return (cosine * pairs).sum(1) / pairs.sum(1)


@dataclass(frozen=True)
class Curriculum:
    """Which windows each epoch trains on.

    Attributes:
        bands: of the first phases, as `BANDS`; none of them is empty.
        epochs: of the run.
    """

    bands: tuple[tuple[float, float], ...]
    epochs: int

    @classmethod
    def measured(cls, kind: str, epochs: int, batches: Iterable[SequenceBatch]) -> Curriculum:
        """The curriculum for the training windows.

        Args:
            kind: one of `KINDS`.
            epochs: of the run.
            batches: all training windows, once.

        Raises:
            ModelError: a band holds no window, or contexts are too short to have neighbours.
        """
        found = torch.cat([coherence(batch) for batch in batches])
        if bool(found.isnan().any()):
            raise ModelError(
                "curriculum needs contexts of two concepts or more: create the sequence set with "
                "--context 2 or more"
            )
        if kind == "bands":
            bands = BANDS
        else:
            low, high = np.quantile(found.double().numpy(), (1 / 3, 2 / 3)).tolist()
            bands = ((high, float("inf")), (low, high), (-2.0, low))
        for least, below in bands:
            if not bool(((found >= least) & (found < below)).any()):
                raise ModelError(
                    f"no training window has a coherence of {least:.2g} or more and below "
                    f"{below:.2g}: use --set curriculum=quantiles"
                )
        return cls(bands, epochs)

    @property
    def banded_epochs(self) -> int:
        """The epochs before the first one that trains on all windows."""
        return -(-(PHASES - 1) * self.epochs // PHASES)

    def phase(self, epoch: int) -> int:
        """The phase of an epoch, both from 0 and 1."""
        return (epoch - 1) * PHASES // self.epochs

    def select(self, epoch: int, batch: SequenceBatch) -> SequenceBatch:
        """The windows of a batch that this epoch trains on; it may be empty."""
        phase = self.phase(epoch)
        if phase >= len(self.bands):
            return batch
        least, below = self.bands[phase]
        found = coherence(batch)
        return batch.select((found >= least) & (found < below))
