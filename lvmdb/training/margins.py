"""Terms that keep a prediction nearer to its target than to concepts that are not it.

    max(0, m - cos(p, y) + cos(p, n))

for each negative n of a target y (Schroff et al. 2015, arXiv 1503.03832, eq. 3, by cosine): the
mean over the negatives of a target, then over the targets, of which those without negatives have
none to keep off. A cosine pulls at a prediction of length one with the sine of the angle, as every
term of a mixture of losses does, so these are added as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from lvmdb.sequences.batch import ProbeBatch


@dataclass(frozen=True)
class Margins:
    """By how much, in cosine, a target must be nearer than a negative.

    Attributes:
        soft: than one that is like the target.
        hard: than one that is not.
    """

    soft: float = 0.2
    hard: float = 0.4


MARGINS = Margins()


def margin_terms(prediction: Tensor, batch: ProbeBatch, margins: Margins) -> dict[str, Tensor]:
    """The terms `soft_margin` and `hard_margin`, each a scalar.

    Args:
        prediction: `(batch, 768)`.
        batch: with its negatives.
        margins: how far to keep them off.
    """
    truth = F.cosine_similarity(prediction, batch.target, dim=-1).unsqueeze(1)  # (batch, 1)
    terms = {}
    for name, margin, negatives, present in (
        ("soft_margin", margins.soft, batch.soft, batch.soft_present),
        ("hard_margin", margins.hard, batch.hard, batch.hard_present),
    ):
        alike = F.cosine_similarity(prediction.unsqueeze(1), negatives, dim=-1)  # (batch, 3)
        over = (margin - truth + alike).clamp(min=0) * present
        terms[name] = (over.sum(1) / present.sum(1).clamp(min=1)).mean()
    return terms
