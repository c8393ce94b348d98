"""Coarser targets beside the whole one: three heads on one state, and their agreement.

    y_k = P_k' (y - m)                          the target in its k first principal components
    q_k = P_k' (s - m) + H_k state / sqrt(768)  what the coarse head says of it
    coarse_k    = |q_k - y_k|^2 / 2n            for each of the n resolutions
    consistency = sum_k |q_k - P_k' (p - m)|^2 / 2n

m and the components P (Pearson 1901) are those of the training targets; p is the prediction, which
stays what it was, and s what it starts from: the weighting of a residual model. The heads start at
zero, and with them the consistency of such a model.

No term drowns the loss: half a squared error pulls at a prediction of length one, at the angle t
from its target, with sin t along the sphere, as every term of a mixture does (`training.losses`),
and a projection makes an error no longer. So all coarse terms together, and the consistency, each
pull about as one such term, however many resolutions there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lvmdb.models.base import LatentModel
from lvmdb.models.statistics import Statistics


class MultiResolution(LatentModel):
    """A model that is also asked for the first principal components of what it predicts.

    Its state is the body's, `(..., width)`, and behind it `P' (s - m)`, `(..., finest)`.

    Args:
        body: the model; its predictions are the prediction.
        resolutions: numbers of components, the finest first.
    """

    mean: Tensor
    basis: Tensor

    adds_terms = True

    def __init__(self, body: LatentModel, resolutions: Sequence[int]) -> None:
        super().__init__(body.input_dim)
        self.body = body
        self.resolutions = tuple(resolutions)
        dim, width = body.head.out_features, body.head.in_features
        self._scale = 1 / math.sqrt(dim)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("basis", torch.zeros(dim, self.resolutions[0]))  # zero until `fit`
        self.heads = nn.ModuleList(nn.Linear(width, each) for each in self.resolutions)
        for parameter in self.heads.parameters():
            nn.init.zeros_(parameter)

    @property
    def kernel(self) -> str:
        return self.body.kernel

    @property
    def head(self) -> nn.Linear:
        return self.body.head

    def fit(self, statistics: Statistics) -> None:
        self.mean.copy_(statistics.mean)
        self.basis.copy_(principal_components(statistics.covariance, self.resolutions[0]))
        self.body.fit(statistics)

    def last_state(self, context: Tensor, mask: Tensor) -> Tensor:
        start = self._projected(self.body.start(context, mask, every=False))
        return torch.cat([self.body.last_state(context, mask), start], dim=-1)

    def states(self, context: Tensor, mask: Tensor) -> Tensor:
        start = self._projected(self.body.start(context, mask, every=True))
        return torch.cat([self.body.states(context, mask), start], dim=-1)

    def predict(self, state: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        return self.body.predict(self._parted(state)[0], context, mask)

    def start(self, context: Tensor, mask: Tensor, *, every: bool) -> Tensor:
        return self.body.start(context, mask, every=every)

    def forward(self, context: Tensor, mask: Tensor) -> Tensor:
        predicted: Tensor = self.body(context, mask)
        return predicted

    def extra_terms(self, state: Tensor, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        state, start = self._parted(state)
        terms = dict(self.body.extra_terms(state, prediction, target))
        true, said = self._projected(target), self._projected(prediction)  # (targets, finest)
        share = 1 / (2 * len(self.resolutions))
        apart = []
        for width, head in zip(self.resolutions, self.heads, strict=True):
            coarse = start[..., :width] + head(state) * self._scale  # (targets, width)
            terms[f"coarse_{width}"] = share * _squared_error(coarse, true[..., :width])
            apart.append(_squared_error(coarse, said[..., :width]))
        terms["consistency"] = share * torch.stack(apart).sum()
        return terms

    def _projected(self, vectors: Tensor) -> Tensor:
        """`(..., output_dim) -> (..., finest)`."""
        return torch.matmul(vectors - self.mean, self.basis)

    def _parted(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """The body's state, and where the coarse heads start from."""
        finest = self.resolutions[0]
        return state[..., :-finest], state[..., -finest:]


def principal_components(covariance: Tensor, count: int) -> Tensor:
    """The components of largest variance, `(dim, count)`, the largest first.

    Each is of length one, and its largest number, by size, is positive: a direction has two signs.
    """
    _, vectors = torch.linalg.eigh(covariance)  # ascending
    basis: Tensor = vectors.flip(1)[:, :count]
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))  # (1, count)
    return basis * largest.sign()


def _squared_error(said: Tensor, true: Tensor) -> Tensor:
    """Summed over dimensions, the mean over rows."""
    return (said - true).square().sum(-1).mean()
