"""One weight per lag, fitted on the training windows for cosine.

Objective: the mean over windows of `cos(sum_l w_l context_l, target)`. With
`b_l = context_l . target / |target|` and the Gram matrix `G_lm = context_l . context_m`, a window's
cosine is `(b . w) / sqrt(w' G w)`: a function of a few numbers, with exact gradient and Hessian.

Method: Newton's, damped as Levenberg (1944) does, one pass over the windows per step, so memory
does not grow with them. Least squares would be one pass, but its optimum is that of squared error,
where long weightings count more. The start is the best of copy-last, the context's mean and the
linear ramp, and only steps that gain are taken: on train the fit is never behind any of those.

A cosine leaves the length of `w` free; it is set so that squared error to the targets, as unit
vectors, is least.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lvmdb.models.baselines.base import Baseline, Passes, fitted, no_windows
from lvmdb.models.baselines.config import LagWeightsConfig
from lvmdb.models.lag_residual import ramp
from lvmdb.sequences.batch import SequenceBatch


class LagWeights(Baseline):
    """`sum_l w_l context_l`; padding counts as zero."""

    def __init__(self, config: LagWeightsConfig) -> None:
        super().__init__(config)
        self.options = config
        self._weights: Tensor | None = None  # (time,), oldest first

    def fit(self, train: Passes, validation: Passes, seed: int) -> None:
        """Newton steps until one gains less than the tolerance."""
        lags = self.config.context_len
        starts = torch.stack(
            [F.one_hot(torch.tensor(lags - 1), lags), torch.ones(lags), ramp(lags)]
        )
        first = self._measure(train(), F.normalize(starts.double(), dim=1))
        best = first[max(range(len(first)), key=lambda i: first[i].cosine)]
        damping = 1e-3
        for _ in range(self.options.max_iterations):
            step = _newton_step(best, damping)
            (tried,) = self._measure(train(), F.normalize(best.weights + step, dim=0).unsqueeze(0))
            gain = tried.cosine - best.cosine
            if gain > 0:
                best, damping = tried, damping / 10
            else:
                damping *= 10
            if abs(gain) < self.options.tolerance:
                break
        self._weights = (best.weights * best.length).float()

    def predict(self, batch: SequenceBatch) -> Tensor:
        weights = fitted(self._weights).to(batch.context.device)
        return torch.matmul(weights, self.context(batch)[..., : self.config.output_dim])

    def state(self) -> dict[str, Tensor]:
        return {"lag_weights": fitted(self._weights)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._check(state, {"lag_weights": (self.config.context_len,)})
        self._weights = state["lag_weights"]

    def _measure(self, batches: Iterable[SequenceBatch], weights: Tensor) -> list[_Point]:
        """The objective and its derivatives at each row of `(points, time)`, in one pass."""
        points, lags = weights.shape
        cosine, count = torch.zeros(points, dtype=torch.float64), 0
        gradient = torch.zeros(points, lags, dtype=torch.float64)
        hessian = torch.zeros(points, lags, lags, dtype=torch.float64)
        along, square = torch.zeros_like(cosine), torch.zeros_like(cosine)
        for batch in batches:
            context = self.context(batch)[..., : self.config.output_dim].cpu().double()
            target = F.normalize(batch.target.cpu().double(), dim=1)
            b = torch.einsum("btd,bd->bt", context, target)
            gram = context @ context.transpose(1, 2)  # (batch, time, time)
            count += len(batch)
            for i, w in enumerate(weights):
                a, gw = b @ w, gram @ w  # (batch,), (batch, time)
                q = (gw @ w).clamp(min=1e-12)
                cosine[i] += (a * q.rsqrt()).sum()
                along[i] += a.sum()
                square[i] += q.sum()
                one, three, five = q**-0.5, a * q**-1.5, 3 * a * q**-2.5
                gradient[i] += one @ b - three @ gw
                cross = torch.einsum("n,nt,ns->ts", q**-1.5, b, gw)
                hessian[i] += torch.einsum("n,nt,ns->ts", five, gw, gw) - cross - cross.T
                hessian[i] -= torch.einsum("n,nts->ts", three, gram)
        if not count:
            raise no_windows("train")
        return [
            _Point(
                weights[i],
                float(cosine[i]) / count,
                gradient[i] / count,
                hessian[i] / count,
                float(along[i] / square[i].clamp(min=1e-12)),
            )
            for i in range(points)
        ]


@dataclass(frozen=True)
class _Point:
    """The objective at one vector of weights of length one.

    Attributes:
        weights: `(time,)`.
        cosine: the mean cosine.
        gradient, hessian: of the mean cosine, `(time,)` and `(time, time)`.
        length: the factor for the weights that makes squared error least.
    """

    weights: Tensor
    cosine: float
    gradient: Tensor
    hessian: Tensor
    length: float


def _newton_step(point: _Point, damping: float) -> Tensor:
    """The damped step `(|H| + damping)^-1 gradient`, across the weights' own direction.

    Eigenvalues are taken by their size, so that the step goes up also where the objective is not
    concave (Dauphin et al. 2014, arXiv 1406.2572).
    """
    lags = point.weights.shape[0]
    across = torch.eye(lags, dtype=torch.float64) - torch.outer(point.weights, point.weights)
    values, vectors = torch.linalg.eigh(across @ point.hessian @ across)
    curved = vectors.T @ (across @ point.gradient) / (values.abs() + damping)
    step: Tensor = across @ (vectors @ curved)
    return step
