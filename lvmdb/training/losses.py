"""Losses of a predicted vector against the true one, by name.

A loss gives a total, which is trained on, and its terms, which are logged one by one, unscaled. All
are means over the vectors to be predicted. Two squared errors are in use and never compared with
each other: `mse_sum` adds up over the dimensions (2 - 2 cos on unit vectors; this one is trained
on), `mse_mean` averages over them (768 times smaller; this one is what reports call MSE).

A mixture, `mse+infonce`, adds terms that pull equally: each is scaled so that its gradient by a
prediction of length one, at the angle t from its target, is of the size sin t along the sphere:

    mse_sum / 2,  cosine_distance:  exactly sin t
    temperature * infonce:          the target less the mean of what it is mistaken for

Unscaled, the gradient of InfoNCE is larger by the inverse of its temperature, and drowns the rest.
Who wants it to pull harder gives it a weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from lvmdb.errors import UnknownNameError

TEMPERATURE = 0.05
"""Of InfoNCE, by default."""

SAME = 0.9999
"""From this cosine on, two vectors are one concept: no concept is a negative of itself."""


@dataclass(frozen=True)
class Answer:
    """What a model says to a batch, one row for every vector to be predicted.

    Attributes:
        prediction: `(targets, 768)`; of a model trained by diffusion, the target without the noise.
        target: `(targets, 768)`.
        place: `(targets, 2)` int64, article and seq of each target; None where no loss asks.
        lags: concepts of a context: those at most so far before a target are its own context.
        context: `(targets, lags, 768)`, that context, where it is to be told from the truth.
        present: `(targets, lags)` bool, where `context` holds a concept; None like `context`.
        others: `(others, 768)`, targets of the same global batch that other processes have.
        others_place: `(others, 2)`, as `place`; None like `others`.
        extra: terms of the model's own, scaled as they are to be added to the total.
    """

    prediction: Tensor
    target: Tensor
    place: Tensor | None = None
    lags: int = 0
    context: Tensor | None = None
    present: Tensor | None = None
    others: Tensor | None = None
    others_place: Tensor | None = None
    extra: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class LossValue:
    """A loss of one batch.

    Attributes:
        total: what is trained on, a scalar with its graph.
        terms: each term by name, unscaled and detached.
    """

    total: Tensor
    terms: dict[str, Tensor]


Loss = Callable[[Answer], LossValue]


def mse_sum(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error summed over dimensions, `|p - y|^2`; 2 - 2 cos if both are unit vectors."""
    return (prediction - target).square().sum(-1).mean()


def mse_mean(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error averaged over dimensions: `mse_sum` divided by their number."""
    return F.mse_loss(prediction, target)


def cosine_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """`1 - cos(p, y)`: 0 for the same direction, 2 for the opposite one."""
    return (1.0 - F.cosine_similarity(prediction, target, dim=-1)).mean()


def infonce(answer: Answer, temperature: float) -> Tensor:
    """The truth told from negatives (van den Oord et al. 2018, arXiv 1807.03748, eq. 4).

        -log( exp(cos(p, y) / T) / sum_c exp(cos(p, c) / T) )

    The candidates c are the truth and the other targets of the global batch. As in evaluation, no
    concept of a target's own context is a candidate, unless the answer has the context to tell the
    truth from: neighbours are the most alike, and a model taught to avoid its context avoids what
    follows, too. A candidate that is the truth again (cosine .9999 or more) is left out.
    """
    predicted = F.normalize(answer.prediction, dim=-1)
    target = F.normalize(answer.target, dim=-1)
    among = target if answer.others is None else torch.cat([target, F.normalize(answer.others)])
    truth = (predicted * target).sum(-1, keepdim=True)  # (targets, 1)
    # The row's own target is left out here as a copy of itself.
    left_out = _same(target @ among.t())
    if answer.context is None and answer.place is not None:
        left_out = left_out | _own_context(answer.place, answer.others_place, answer.lags)
    logits = [truth, (predicted @ among.t()).masked_fill(left_out, -torch.inf)]
    if answer.context is not None and answer.present is not None:
        context = F.normalize(answer.context, dim=-1)
        alike = torch.einsum("nd,nld->nl", predicted, context)
        copies = _same(torch.einsum("nd,nld->nl", target, context)) | ~answer.present
        logits.append(alike.masked_fill(copies, -torch.inf))
    scaled = torch.cat(logits, dim=-1) / temperature  # (targets, candidates)
    first = torch.zeros(len(scaled), dtype=torch.int64, device=scaled.device)
    return F.cross_entropy(scaled, first)


def _own_context(place: Tensor, others: Tensor | None, lags: int) -> Tensor:
    """Which targets are of another's context, `(targets, targets + others)` bool."""
    among = place if others is None else torch.cat([place, others])
    behind = place[:, None, 1] - among[None, :, 1]
    return (place[:, None, 0] == among[None, :, 0]) & (behind > 0) & (behind <= lags)


def _same(cosine: Tensor) -> Tensor:
    return cosine.detach() >= SAME


@dataclass(frozen=True)
class _Term:
    """One term: its name in the log, its value, and its scale within a mixture."""

    logged: str
    value: Callable[[Answer, float], Tensor]
    scale: Callable[[float], float]


_TERMS = {
    "mse": _Term("mse_sum", lambda a, _: mse_sum(a.prediction, a.target), lambda _: 0.5),
    "cosine": _Term(
        "cosine_distance", lambda a, _: cosine_distance(a.prediction, a.target), lambda _: 1.0
    ),
    "infonce": _Term("infonce", infonce, lambda temperature: temperature),
    "diffusion": _Term("denoising", lambda a, _: mse_sum(a.prediction, a.target), lambda _: 0.5),
}

DIFFUSION = "diffusion"
"""The loss of models that generate: `mse_sum` of the target without the noise (x0-prediction)."""

_NAMES = (
    *("mse", "cosine", "infonce"),
    *("mse+cosine", "mse+infonce", "cosine+infonce", "mse+cosine+infonce"),
    DIFFUSION,
)


def names() -> list[str]:
    """The names of all losses."""
    return list(_NAMES)


def contrastive(name: str) -> bool:
    """Whether the loss tells the truth from negatives."""
    return "infonce" in name.split("+")


def get(
    name: str, temperature: float = TEMPERATURE, *, weight: float = 1.0, mixed: bool = False
) -> Loss:
    """The loss of that name.

    Args:
        name: one of `names`.
        temperature: of InfoNCE.
        weight: of InfoNCE within a mixture: by how much it pulls harder than the other terms.
        mixed: terms are added to it (`Answer.extra`), so that a single loss, too, is scaled as in
            a mixture.

    Raises:
        UnknownNameError: there is none; the message offers the nearest spelling.
    """
    if name not in _NAMES:
        raise UnknownNameError("loss", name, _NAMES)
    terms = [_TERMS[part] for part in name.split("+")]
    mixed = mixed or len(terms) > 1
    scales = [term.scale(temperature) if mixed else 1.0 for term in terms]
    if mixed:
        scales = [
            s * weight if term is _TERMS["infonce"] else s
            for s, term in zip(scales, terms, strict=True)
        ]

    def loss(answer: Answer) -> LossValue:
        values = [term.value(answer, temperature) for term in terms]
        total = torch.stack([s * v for s, v in zip(scales, values, strict=True)]).sum()
        logged = {term.logged: v.detach() for term, v in zip(terms, values, strict=True)}
        for extra, value in answer.extra.items():
            total = total + value
            logged[extra] = value.detach()
        return LossValue(total, logged)

    return loss
