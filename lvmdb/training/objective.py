"""What a model is trained to predict, by name.

last    reads a context and predicts the one vector that follows it
every   reads a sequence and predicts, after every position, the vector that follows there
"""

from __future__ import annotations

from torch import Tensor

from lvmdb.models.base import LatentModel
from lvmdb.sequences.batch import SequenceBatch


def predicted_and_target(model: LatentModel, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    """What the model predicts for a batch, and the truth, one row for every vector to be predicted.

    The objective is the batch's: `every` where it has a target for every position.

    Args:
        model: on the batch's device.
        batch: of either objective.

    Returns:
        Prediction and target, both `(targets, 768)`, with `targets` as in `SequenceBatch`. Of an
        empty batch both are `(0, 768)`, and their mean is no number.

    Raises:
        ModelError: the shapes do not fit, or the model cannot predict after every position.
    """
    if batch.target.dim() == 3:
        return model.every(batch.context, batch.mask)[batch.mask], batch.target[batch.mask]
    predicted: Tensor = model(batch.context, batch.mask)
    return predicted, batch.target
