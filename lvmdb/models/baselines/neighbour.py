"""The nearest training context: what came next there is predicted here (Cover & Hart 1967)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lvmdb.models.baselines.base import Baseline, Passes, fitted, no_windows
from lvmdb.models.baselines.config import NearestNeighbourConfig
from lvmdb.sequences.batch import SequenceBatch

# Similarities this close are equal: equal contexts in two places of a matrix product may differ in
# the last bits. Of equal ones the first in the order of training wins.
TIE = 1e-6


class NearestNeighbour(Baseline):
    """The target of the training context with the greatest cosine to the query's.

    Contexts are compared whole, concatenated; the search is exact. Memory: 4 bytes for each number
    of every training window. Those numbers are the training set, so `state` is empty and a loaded
    run fits again: a copy in a checkpoint would be a second truth.
    """

    refit_on_load = True

    def __init__(self, config: NearestNeighbourConfig) -> None:
        super().__init__(config)
        self.options = config
        self._contexts: Tensor | None = None  # (windows, time * input_dim), unit length
        self._targets: Tensor | None = None  # (windows, output_dim)

    def fit(self, train: Passes, validation: Passes, seed: int) -> None:
        contexts, targets = [], []
        for batch in train():
            contexts.append(self._unit(batch))
            targets.append(batch.target)
        if not contexts:
            raise no_windows("train")
        self._contexts, self._targets = torch.cat(contexts), torch.cat(targets)

    def predict(self, batch: SequenceBatch) -> Tensor:
        contexts, targets = fitted(self._contexts), fitted(self._targets)
        query = self._unit(batch).to(contexts.device)  # (batch, features)
        best = query.new_full((len(query),), -torch.inf)
        nearest = torch.zeros(len(query), dtype=torch.int64, device=query.device)
        for start in range(0, len(contexts), self.options.block):
            similarity = query @ contexts[start : start + self.options.block].T  # (batch, block)
            top = similarity.amax(1)
            first = (similarity >= top.unsqueeze(1) - TIE).int().argmax(1)
            closer = top > best + TIE
            nearest = torch.where(closer, start + first, nearest)
            best = torch.where(closer, top, best)
        return targets[nearest].to(batch.context.device)

    def _unit(self, batch: SequenceBatch) -> Tensor:
        return F.normalize(self.context(batch).flatten(1), dim=1)
