"""The interface of every architecture that is trained by gradients."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from lvmdb.errors import ModelError


class LatentModel(nn.Module):
    """A model that reads a few concept vectors and predicts the next one.

    A subclass ends in a linear layer named `output_projection`, which `LagResidual` starts at zero.

    Attributes:
        input_dim: width of a context vector.
        output_projection: the last layer, `(..., width) -> (..., output_dim)`.
    """

    output_projection: nn.Linear

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.input_dim = input_dim

    @property
    def kernel(self) -> str:
        """Name of the implementation that runs on the device where the parameters are now."""
        return "torch"

    @abstractmethod
    def forward(self, context: Tensor, mask: Tensor) -> Tensor:
        """Predict the vectors that follow.

        Args:
            context: `(batch, time, input_dim)`, oldest concept first.
            mask: `(batch, time)` bool, True where there is a concept; padding is on the left, and
                what it holds never matters.

        Returns:
            `(batch, output_dim)`.

        Raises:
            ModelError: the shapes do not fit the model.
        """

    def every(self, context: Tensor, mask: Tensor) -> Tensor:
        """Predict what follows each position, from the concepts up to and including it.

        An architecture whose registry entry has the objective `every` overrides this.

        Args:
            context: `(batch, time, input_dim)`, oldest concept first.
            mask: `(batch, time)` bool, True where there is a concept; padding is on the left.

        Returns:
            `(batch, time, output_dim)`; what stands where the mask is False means nothing.

        Raises:
            ModelError: the shapes do not fit, or the model predicts only after a whole context.
        """
        raise ModelError(
            f"{type(self).__name__} predicts only after the whole context: train it with "
            "objective=last"
        )


def read_context(context: Tensor, mask: Tensor, input_dim: int) -> tuple[Tensor, Tensor | None]:
    """Check a context and blank its padding.

    Returns:
        The context `(batch, time, input_dim)` with zeros where the mask is False, and the mask; or
        None instead of the mask if nothing is padded. (On a GPU, looking makes the host wait for
        once; what runs without a mask is worth more.)

    Raises:
        ModelError: the shapes do not fit, or padding stands after a concept.
    """
    if context.dim() != 3 or context.shape[-1] != input_dim or context.shape[1] == 0:
        raise ModelError(
            f"the model reads contexts of shape (batch, time, {input_dim}), "
            f"not {tuple(context.shape)}"
        )
    if mask.shape != context.shape[:2] or mask.dtype != torch.bool:
        raise ModelError(
            f"the mask of a context {tuple(context.shape)} is bool {tuple(context.shape[:2])}, "
            f"not {mask.dtype} {tuple(mask.shape)}"
        )
    if bool(mask.all()):
        return context, None
    if bool((mask[:, :-1] & ~mask[:, 1:]).any()):
        raise ModelError("the mask has padding after a concept: contexts are padded on the left")
    return context.masked_fill(~mask.unsqueeze(-1), 0.0), mask
