"""A prediction as a learnt weighting of the context, plus what a model adds to it.

    prediction = sum_l w_l context_l + f(context) / sqrt(output_dim)

Concepts that follow each other are alike, so a weighted mean of the context predicts well, and a
model without it spends its training on learning to copy. `f` starts at zero: training begins at
the weighting. It answers in units of a unit vector's standard deviation per dimension: without the
division, the first steps of Adam, each of the same size for every weight, throw the prediction
several times its own length away from the weighting (measured: Mamba-2 on a thousand windows then
ended at a test cosine of .458, with it at .509).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmdb.errors import ModelError
from lvmdb.models.base import LatentModel, read_context
from lvmdb.models.statistics import Statistics


def ramp(context_len: int) -> Tensor:
    """Weights `(time,)` that sum to one and rise linearly to three times the first.

    For five: .1, .15, .2, .25, .3, oldest first.
    """
    if context_len == 1:
        return torch.ones(1)
    return (0.5 + torch.arange(context_len) / (context_len - 1)) / context_len


class LagResidual(LatentModel):
    """`sum_l w_l context_l + f(context) / sqrt(output_dim)`.

    From `(batch, time, input_dim)` to `(batch, output_dim)`, or to `(batch, time, output_dim)` by
    `every`. There each position is weighed with the `context_len - 1` before it, while `f` reads
    all that came before, and a sequence may be longer than `context_len`.

    Padding has weight zero, and the weights of the concepts that are there are scaled up to make
    good for it. A context shorter than `context_len` counts as padded on the left.

    Args:
        body: f. Its output projection is set to zero.
        context_len: number of weights.
    """

    def __init__(self, body: LatentModel, context_len: int) -> None:
        super().__init__(body.input_dim)
        self.body = body
        self.generates = body.generates
        self.output_dim = body.head.out_features
        self._scale = 1 / math.sqrt(self.output_dim)
        self.lag_weights = nn.Parameter(ramp(context_len))  # (time,), oldest first
        nn.init.zeros_(body.head.weight)
        nn.init.zeros_(body.head.bias)

    @property
    def kernel(self) -> str:
        return self.body.kernel

    @property
    def head(self) -> nn.Linear:
        return self.body.head

    def fit(self, statistics: Statistics) -> None:
        self.body.fit(statistics)

    def last_state(self, context: Tensor, mask: Tensor) -> Tensor:
        return self.body.last_state(context, mask)

    def states(self, context: Tensor, mask: Tensor) -> Tensor:
        return self.body.states(context, mask)

    def predict(self, state: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        weigh = self.weighted if state.dim() == 2 else self.weighted_every
        return weigh(context, mask) + self.body.predict(state, context, mask) * self._scale

    def start(self, context: Tensor, mask: Tensor, *, every: bool) -> Tensor:
        """The weighting alone."""
        return (self.weighted_every if every else self.weighted)(context, mask)

    def forward(self, context: Tensor, mask: Tensor) -> Tensor:
        # Not by a state: a body that generates has none.
        added: Tensor = self.body(context, mask)
        return self.weighted(context, mask) + added * self._scale

    def every(self, context: Tensor, mask: Tensor) -> Tensor:
        added = self.body.every(context, mask)
        return self.weighted_every(context, mask) + added * self._scale

    def extra_terms(self, state: Tensor, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        return self.body.extra_terms(state, prediction, target)

    def denoised(self, context: Tensor, mask: Tensor, target: Tensor) -> Tensor:
        weigh = self.weighted if target.dim() == 2 else self.weighted_every
        base = weigh(context, mask)
        return base + self.body.denoised(context, mask, (target - base) / self._scale) * self._scale

    def weighted(self, context: Tensor, mask: Tensor) -> Tensor:
        """The weighting alone, `(batch, output_dim)`; zero where nothing is there."""
        context, padding = read_context(context, mask, self.input_dim)
        context = context[..., : self.output_dim]
        time, lags = context.shape[1], self.lag_weights.shape[0]
        if time > lags:
            raise ModelError(
                f"the model was made for contexts of {lags} concepts, not of {time}: "
                "give the last ones only"
            )
        weights = self.lag_weights[lags - time :]
        if padding is None and time == lags:
            return torch.matmul(weights, context)
        present = weights * mask  # (batch, time)
        # Sizes, not values: the sum of learnt weights of both signs may pass through zero.
        scale = self._made_good(present.abs().sum(-1, keepdim=True))
        return torch.einsum("bt,btd->bd", present * scale, context)

    def weighted_every(self, context: Tensor, mask: Tensor) -> Tensor:
        """The weighting alone after each position, `(batch, time, output_dim)`.

        At each position it is `weighted` of the last `context_len` concepts up to and including it.
        """
        context, _ = read_context(context, mask, self.input_dim)
        context = context[..., : self.output_dim]
        time = context.shape[1]
        weights = self.lag_weights[-time:]  # those that any position reaches
        # One matrix (time, time) for all sequences: row t has the last weight at t, the one before
        # at t - 1, and so on. One product with it costs less than a pass over the context per lag.
        shifted = F.pad(weights, (time - len(weights), time - 1)).unfold(0, time, 1)
        summed = torch.matmul(shifted.flip(0), context)
        # The weights in reach, latest first; no index into them, whose gradient is slow on a GPU.
        sizes = weights.flip(0).abs()  # (lags,)
        there = mask.cumsum(1).unsqueeze(-1)  # (batch, time, 1), concepts so far
        reached = torch.arange(len(sizes), device=sizes.device) < there
        scale = self._made_good((sizes * reached).sum(-1, keepdim=True))
        # Where nothing is missing the scale is one, without rounding, and has no gradient.
        complete = there >= self.lag_weights.shape[0]
        return summed * torch.where(complete, torch.ones_like(scale), scale)

    def _made_good(self, size: Tensor) -> Tensor:
        """What makes good for absent weights, `(..., 1)`, from the size of those that are there."""
        smallest = torch.finfo(size.dtype).tiny
        scale = self.lag_weights.abs().sum() / size.clamp(min=smallest)
        return torch.where(size > smallest, scale, torch.zeros_like(scale))
