"""What a model, or a fitted predictor, is worth on its validation split, by the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from lvmdb.sequences.batch import SequenceBatch
from lvmdb.training import losses
from lvmdb.training.averages import Averages, Totals
from lvmdb.training.step import Stepper


def measured(
    predict: Callable[[SequenceBatch], Tensor], batches: Iterable[SequenceBatch]
) -> dict[str, float]:
    """Both squared errors, the cosine and its distance, as means; nothing where nothing comes.

    Args:
        predict: from a batch to `(batch, 768)`.
        batches: of windows.
    """
    averages = Averages()
    for batch in batches:
        prediction = predict(batch)
        distance = losses.cosine_distance(prediction, batch.target)
        averages.add(
            {
                "mse": losses.mse_mean(prediction, batch.target),
                "mse_sum": losses.mse_sum(prediction, batch.target),
                "cosine_distance": distance,
                "cosine": 1.0 - distance,
            },
            len(batch),
        )
    return averages.totals().means()


@torch.no_grad()
def validation_totals(stepper: Stepper, batches: Iterable[SequenceBatch]) -> Totals:
    """Loss and its terms, mean squared error over dimensions and cosine, summed over a split."""
    averages = Averages()
    model = stepper.model
    model.eval()
    for batch in batches:
        judged = stepper.judge(batch)
        if judged is None:
            continue
        answered, value = judged
        said = answered.prediction
        if model.generates:
            # What is shown is what the model would say; its loss is of something easier.
            moved = batch.to(stepper.device, non_blocking=True)
            said = model(moved.context, moved.mask)
        averages.add(
            {
                "loss": value.total,
                **value.terms,
                "mse": losses.mse_mean(said, answered.target),
                "cosine": 1.0 - losses.cosine_distance(said, answered.target),
            },
            len(batch),
        )
    return averages.totals()
