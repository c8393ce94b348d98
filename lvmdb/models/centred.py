"""A model that works on vectors less the mean of the training targets.

    prediction = m + f(context - m)

Sentence vectors share a mean (its norm is .22 on Wikipedia's): without it, what tells one concept
from another is a larger part of what a model reads and writes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmdb.models.base import LatentModel
from lvmdb.models.statistics import Statistics


class Centred(LatentModel):
    """`m + f(context - m)`, of the shapes of `f`; `m` is zero until `fit`.

    Args:
        body: f.
    """

    mean: Tensor

    def __init__(self, body: LatentModel) -> None:
        super().__init__(body.input_dim)
        self.body = body
        self.generates = body.generates
        self.output_dim = body.head.out_features
        self.register_buffer("mean", torch.zeros(self.output_dim))

    @property
    def kernel(self) -> str:
        return self.body.kernel

    @property
    def head(self) -> nn.Linear:
        return self.body.head

    def fit(self, statistics: Statistics) -> None:
        self.mean.copy_(statistics.mean)
        self.body.fit(statistics)

    def last_state(self, context: Tensor, mask: Tensor) -> Tensor:
        return self.body.last_state(self._moved(context), mask)

    def states(self, context: Tensor, mask: Tensor) -> Tensor:
        return self.body.states(self._moved(context), mask)

    def predict(self, state: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        return self.body.predict(state, self._moved(context), mask) + self.mean

    def start(self, context: Tensor, mask: Tensor, *, every: bool) -> Tensor:
        return self.body.start(self._moved(context), mask, every=every) + self.mean

    def forward(self, context: Tensor, mask: Tensor) -> Tensor:
        predicted: Tensor = self.body(self._moved(context), mask)
        return predicted + self.mean

    def every(self, context: Tensor, mask: Tensor) -> Tensor:
        return self.body.every(self._moved(context), mask) + self.mean

    def extra_terms(self, state: Tensor, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        return self.body.extra_terms(state, prediction, target)

    def denoised(self, context: Tensor, mask: Tensor, target: Tensor) -> Tensor:
        return self.body.denoised(self._moved(context), mask, target - self.mean) + self.mean

    def _moved(self, context: Tensor) -> Tensor:
        """The context less the mean; what stands behind the concept's own numbers stays."""
        if context.shape[-1] != self.input_dim:
            return context  # refused by the body, which says why
        return context - F.pad(self.mean, (0, self.input_dim - self.output_dim))
