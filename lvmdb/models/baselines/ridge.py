"""Ridge regression from the whole context to the target (Hoerl & Kennard 1970).

    (Xc' Xc + lambda I) W = Xc' Yc,    bias = mean(Y) - mean(X) W

X are the contexts flattened to `(windows, time * input_dim)`, c means centred, so the bias is not
shrunk. One pass sums X'X and X'Y in float64; each strength costs one Cholesky factor of X'X, and
the one with the best mean cosine on validation is kept (the weaker of two equal ones). With fewer
windows than numbers in a context, the same weights come from the smaller matrix Xc Xc':

    W = Xc' (Xc Xc' + lambda I)^-1 Yc
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from lvmdb.models.baselines.base import Baseline, Passes, fitted, no_windows
from lvmdb.models.baselines.config import RidgeConfig
from lvmdb.sequences.batch import SequenceBatch

SMALLEST = 1e-12
"""Least unit of strength: data without any spread can be solved, too."""


class Ridge(Baseline):
    """`context W + bias`, the least squares estimate; padding counts as zero.

    Attributes:
        strength: the one of the grid that was chosen; lambda is this times the mean of the diagonal
            of Xc' Xc.
    """

    def __init__(self, config: RidgeConfig) -> None:
        super().__init__(config)
        self.options = config
        self.features = config.context_len * config.input_dim
        self._weight: Tensor | None = None  # (features, output_dim)
        self._bias: Tensor | None = None  # (output_dim,)
        self._strength: Tensor | None = None  # ()

    @property
    def strength(self) -> float:
        return float(fitted(self._strength))

    def fit(self, train: Passes, validation: Passes, seed: int) -> None:
        strengths = sorted(self.options.strengths)
        few = self._few(train)
        solved = self._primal(train, strengths) if few is None else _dual(*few, strengths)
        weights = [weight.float() for weight, _ in solved]
        biases = [bias.float() for _, bias in solved]

        cosines = torch.zeros(len(strengths), dtype=torch.float64)
        count = 0
        for batch in validation():
            x, target = self._flat(batch), batch.target.cpu()
            count += len(batch)
            for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
                predicted = torch.addmm(bias, x, weight)
                cosines[i] += F.cosine_similarity(predicted, target).double().sum()
        if not count:
            raise no_windows("validation")
        best = max(range(len(strengths)), key=lambda i: float(cosines[i]))
        self._weight, self._bias = weights[best], biases[best]
        self._strength = torch.tensor(strengths[best], dtype=torch.float64)

    def predict(self, batch: SequenceBatch) -> Tensor:
        device = batch.context.device
        weight, bias = fitted(self._weight).to(device), fitted(self._bias).to(device)
        return torch.addmm(bias, self.context(batch).flatten(1), weight)

    def state(self) -> dict[str, Tensor]:
        return {
            "weight": fitted(self._weight),
            "bias": fitted(self._bias),
            "strength": fitted(self._strength),
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        output_dim = self.config.output_dim
        shapes = {"weight": (self.features, output_dim), "bias": (output_dim,), "strength": ()}
        self._check(state, shapes)
        self._weight, self._bias = state["weight"], state["bias"]
        self._strength = state["strength"]

    def _flat(self, batch: SequenceBatch) -> Tensor:
        """`(batch, time * input_dim)` float32 on the CPU."""
        return self.context(batch).flatten(1).cpu()

    def _few(self, train: Passes) -> tuple[Tensor, Tensor] | None:
        """All contexts `(windows, features)` and targets, if there are no more than features."""
        contexts: list[Tensor] = []
        targets: list[Tensor] = []
        count = 0
        for batch in train():
            contexts.append(self._flat(batch))
            targets.append(batch.target.cpu())
            count += len(batch)
            if count > self.features:
                return None
        if not count:
            raise no_windows("train")
        return torch.cat(contexts).double(), torch.cat(targets).double()

    def _primal(self, train: Passes, strengths: list[float]) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases by strength, from X'X."""
        gram, cross, mean_x, mean_y = self._moments(train)
        unit = gram.diagonal().mean().clamp(min=SMALLEST)
        identity = torch.eye(self.features, dtype=torch.float64)
        solved = []
        for strength in strengths:
            factor = torch.linalg.cholesky(torch.add(gram, identity, alpha=float(strength * unit)))
            weight = torch.cholesky_solve(cross, factor)
            solved.append((weight, mean_y - mean_x @ weight))
        return solved

    def _moments(self, train: Passes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Centred X'X and X'Y, and the means of X and Y, in float64."""
        gram = torch.zeros(self.features, self.features, dtype=torch.float64)
        cross = torch.zeros(self.features, self.config.output_dim, dtype=torch.float64)
        sum_x = torch.zeros(self.features, dtype=torch.float64)
        sum_y = torch.zeros(self.config.output_dim, dtype=torch.float64)
        count = 0
        for batch in train():
            x, y = self._flat(batch).double(), batch.target.cpu().double()
            gram.addmm_(x.T, x)
            cross.addmm_(x.T, y)
            sum_x += x.sum(0)
            sum_y += y.sum(0)
            count += len(batch)
        mean_x, mean_y = sum_x / count, sum_y / count
        gram.addr_(mean_x, mean_x, alpha=-count)
        cross.addr_(mean_x, mean_y, alpha=-count)
        return gram, cross, mean_x, mean_y


def _dual(x: Tensor, y: Tensor, strengths: list[float]) -> list[tuple[Tensor, Tensor]]:
    """Weights and biases by strength, from XX'; `(windows, features)`, `(windows, output_dim)`."""
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    gram = x @ x.T
    unit = (gram.trace() / x.shape[1]).clamp(min=SMALLEST)
    identity = torch.eye(len(x), dtype=torch.float64)
    solved = []
    for strength in strengths:
        factor = torch.linalg.cholesky(torch.add(gram, identity, alpha=float(strength * unit)))
        weight = x.T @ torch.cholesky_solve(y, factor)
        solved.append((weight, mean_y - mean_x @ weight))
    return solved
