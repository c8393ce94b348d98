"""What a model is trained to predict, by name.

last    reads a context and predicts the one vector that follows it
every   reads a sequence and predicts, after every position, the vector that follows there
probe   reads a question alone and predicts the concept that answers it, as `last` does
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lvmdb.models.base import LatentModel
from lvmdb.sequences.batch import ProbeBatch, SequenceBatch
from lvmdb.training.losses import Answer
from lvmdb.training.margins import MARGINS, Margins, margin_terms


def answer(
    model: LatentModel,
    batch: SequenceBatch,
    lags: int = 0,
    *,
    with_context: bool = False,
    margins: Margins = MARGINS,
) -> Answer:
    """What the model says to a batch, one row for every vector to be predicted.

    The objective is the batch's: `every` where it has a target for every position.

    Args:
        model: on the batch's device.
        batch: of either objective.
        lags: concepts of a context, for a loss that tells the truth from others; 0: for others.
        with_context: with the `lags` concepts before each target.
        margins: by which a batch of probes keeps its negatives off.

    Returns:
        Rows as in `SequenceBatch.targets`; an empty batch has none, and their mean is no number.

    Raises:
        ModelError: the shapes do not fit, or the model cannot predict after every position.
    """
    context, mask, target = batch.context, batch.mask, batch.target
    if model.generates:
        denoised = model.denoised(context, mask, target)
        if target.dim() == 3:
            denoised, target = denoised[mask], target[mask]
        return Answer(denoised, target, extra=_margins(denoised, batch, margins))
    state = (model.states if target.dim() == 3 else model.last_state)(context, mask)
    prediction = model.predict(state, context, mask)
    if target.dim() == 3:
        state, prediction, target = state[mask], prediction[mask], target[mask]
    extra = model.extra_terms(state, prediction, target) | _margins(prediction, batch, margins)
    if not lags:
        return Answer(prediction, target, extra=extra)
    concepts, present = _context(batch, target.shape[-1], lags) if with_context else (None, None)
    return Answer(prediction, target, _place(batch), lags, concepts, present, extra=extra)


def _place(batch: SequenceBatch) -> Tensor:
    """Article and seq of each target, `(targets, 2)`."""
    article, seq = batch.article_id, batch.target_seq
    if batch.target.dim() == 2:
        return torch.stack([article, seq], -1)
    time = batch.mask.shape[1]
    back = torch.arange(time - 1, -1, -1, device=seq.device)
    every = torch.stack([article.unsqueeze(1).expand(-1, time), seq.unsqueeze(1) - back], -1)
    return every[batch.mask]


def _margins(prediction: Tensor, batch: SequenceBatch, margins: Margins) -> dict[str, Tensor]:
    return margin_terms(prediction, batch, margins) if isinstance(batch, ProbeBatch) else {}


def _context(batch: SequenceBatch, width: int, lags: int) -> tuple[Tensor, Tensor]:
    """The concepts before each target, `(targets, lags, width)`, and where there are any."""
    concepts, mask = batch.context[..., :width], batch.mask
    if batch.target.dim() == 2:
        return concepts[:, -lags:], mask[:, -lags:]
    windows = F.pad(concepts, (0, 0, lags - 1, 0)).unfold(1, lags, 1)  # (batch, time, width, lags)
    present = F.pad(mask, (lags - 1, 0)).unfold(1, lags, 1)
    return windows.transpose(2, 3)[mask], present[mask]
