"""What a fitted predictor is worth on its validation split, by the numbers that models log."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from lvmdb.sequences.batch import SequenceBatch
from lvmdb.training import losses
from lvmdb.training.averages import Averages


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
