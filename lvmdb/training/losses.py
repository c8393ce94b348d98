"""Losses of a predicted vector against the true one, by name.

A loss gives a total, which is trained on, and its terms, which are logged one by one. All are means
over the vectors to be predicted. Two squared errors are in use and never compared with each other:
`mse_sum` adds up over the dimensions (2 - 2 cos on unit vectors; this one is trained on),
`mse_mean` averages over them (768 times smaller; this one is what reports call MSE).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from lvmdb.errors import UnknownNameError


@dataclass(frozen=True)
class LossValue:
    """A loss of one batch.

    Attributes:
        total: what is trained on, a scalar with its graph.
        terms: each term by name, unscaled and detached.
    """

    total: Tensor
    terms: dict[str, Tensor]


Loss = Callable[[Tensor, Tensor], LossValue]
"""Takes the prediction and the target, both `(targets, 768)`."""


def mse_sum(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error summed over dimensions, `|p - y|^2`; 2 - 2 cos if both are unit vectors."""
    return (prediction - target).square().sum(-1).mean()


def mse_mean(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error averaged over dimensions: `mse_sum` divided by their number."""
    return F.mse_loss(prediction, target)


def cosine_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """`1 - cos(p, y)`: 0 for the same direction, 2 for the opposite one."""
    return (1.0 - F.cosine_similarity(prediction, target, dim=-1)).mean()


def mse_loss(prediction: Tensor, target: Tensor) -> LossValue:
    """`mse`: the squared error summed over dimensions."""
    total = mse_sum(prediction, target)
    return LossValue(total, {"mse_sum": total.detach()})


def cosine_loss(prediction: Tensor, target: Tensor) -> LossValue:
    """`cosine`: the cosine distance; it leaves the length of a prediction free."""
    total = cosine_distance(prediction, target)
    return LossValue(total, {"cosine_distance": total.detach()})


def mse_cosine_loss(prediction: Tensor, target: Tensor) -> LossValue:
    """`mse+cosine`: `mse_sum / 2 + cosine_distance`.

    For a prediction of length one at the angle t from a unit target, `mse_sum` pulls along the
    sphere with 2 sin t and the cosine distance with sin t: halved, the two are equal. (Beside that,
    squared error alone pulls on the length.)
    """
    square, distance = mse_sum(prediction, target), cosine_distance(prediction, target)
    terms = {"mse_sum": square.detach(), "cosine_distance": distance.detach()}
    return LossValue(0.5 * square + distance, terms)


_LOSSES: dict[str, Loss] = {
    "mse": mse_loss,
    "cosine": cosine_loss,
    "mse+cosine": mse_cosine_loss,
}


def names() -> list[str]:
    """The names of all losses."""
    return list(_LOSSES)


def get(name: str) -> Loss:
    """The loss of that name.

    Raises:
        UnknownNameError: there is none; the message offers the nearest spelling.
    """
    if name not in _LOSSES:
        raise UnknownNameError("loss", name, _LOSSES)
    return _LOSSES[name]
