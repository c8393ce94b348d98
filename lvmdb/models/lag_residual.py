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
from torch import Tensor, nn

from lvmdb.errors import ModelError
from lvmdb.models.base import LatentModel, read_context


def ramp(context_len: int) -> Tensor:
    """Weights `(time,)` that sum to one and rise linearly to three times the first.

    For five: .1, .15, .2, .25, .3, oldest first.
    """
    if context_len == 1:
        return torch.ones(1)
    return (0.5 + torch.arange(context_len) / (context_len - 1)) / context_len


class LagResidual(LatentModel):
    """`sum_l w_l context_l + f(context) / sqrt(output_dim)`.

    From `(batch, time, input_dim)` to `(batch, output_dim)`.

    Padding has weight zero, and the weights of the concepts that are there are scaled up to make
    good for it. A context shorter than `context_len` counts as padded on the left.

    Args:
        body: f. Its output projection is set to zero.
        context_len: number of weights.
    """

    def __init__(self, body: LatentModel, context_len: int) -> None:
        super().__init__(body.input_dim)
        self.body = body
        self.output_dim = body.output_projection.out_features
        self._scale = 1 / math.sqrt(self.output_dim)
        self.lag_weights = nn.Parameter(ramp(context_len))  # (time,), oldest first
        nn.init.zeros_(body.output_projection.weight)
        nn.init.zeros_(body.output_projection.bias)

    @property
    def kernel(self) -> str:
        return self.body.kernel

    def forward(self, context: Tensor, mask: Tensor) -> Tensor:
        added: Tensor = self.body(context, mask)
        return self.weighted(context, mask) + added * self._scale

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
        size = present.abs().sum(-1, keepdim=True)
        smallest = torch.finfo(size.dtype).tiny
        scale = self.lag_weights.abs().sum() / size.clamp(min=smallest)
        scale = torch.where(size > smallest, scale, torch.zeros_like(scale))
        return torch.einsum("bt,btd->bd", present * scale, context)
