"""The interface of every architecture that is trained by gradients."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from lvmdb.errors import ModelError
from lvmdb.models.statistics import Statistics


class LatentModel(nn.Module):
    """A model that reads a few concept vectors and predicts the next one.

    A prediction is made in two steps: a state from the context, then a vector from the state. The
    second is a linear layer, `output_projection`, which `LagResidual` starts at zero.

    Attributes:
        input_dim: width of a context vector.
        output_projection: the last layer, `(..., width) -> (..., output_dim)`; a model around
            another one has that one's, as `head`.
        generates: whether predictions are drawn by diffusion; then it is trained by `denoised`.
        adds_terms: whether its loss has terms of its own (`extra_terms`).
    """

    output_projection: nn.Linear
    generates: bool = False
    adds_terms: bool = False

    def __init__(self, input_dim: int) -> None:
        super().__init__()
        self.input_dim = input_dim

    @property
    def kernel(self) -> str:
        """Name of the implementation that runs on the device where the parameters are now."""
        return "torch"

    @property
    def head(self) -> nn.Linear:
        """The last layer of the model, or of the one that it is around."""
        return self.output_projection

    @abstractmethod
    def last_state(self, context: Tensor, mask: Tensor) -> Tensor:
        """What the model makes of a whole context.

        Args:
            context: `(batch, time, input_dim)`, oldest concept first.
            mask: `(batch, time)` bool, True where there is a concept; padding is on the left, and
                what it holds never matters.

        Returns:
            `(batch, width)`.

        Raises:
            ModelError: the shapes do not fit the model.
        """

    def states(self, context: Tensor, mask: Tensor) -> Tensor:
        """What the model makes of the concepts up to and including each position; causal.

        An architecture whose registry entry has the objective `every` overrides this.

        Args:
            context: `(batch, time, input_dim)`, oldest concept first.
            mask: `(batch, time)` bool, True where there is a concept; padding is on the left.

        Returns:
            `(batch, time, width)`; what stands where the mask is False means nothing.

        Raises:
            ModelError: the shapes do not fit, or the model predicts only after a whole context.
        """
        raise ModelError(
            f"{type(self).__name__} predicts only after the whole context: train it with "
            "objective=last"
        )

    def predict(self, state: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """The vectors that follow, from what `last_state` or `states` made of the context.

        Returns:
            `(batch, output_dim)` or `(batch, time, output_dim)`, as the state is.
        """
        predicted: Tensor = self.output_projection(state)
        return predicted

    def start(self, context: Tensor, mask: Tensor, *, every: bool) -> Tensor:
        """What a prediction is before the state adds to it: zero, but in models around others.

        Args:
            context, mask: as for `last_state`.
            every: after each position, or after the last.

        Returns:
            `(batch, time, output_dim)` if `every`, else `(batch, output_dim)`.
        """
        shape = context.shape[:2] if every else context.shape[:1]
        return context.new_zeros(*shape, self.head.out_features)

    def condition(self, width: int) -> None:
        """From now on read so many numbers more of each context vector, which scale the stream.

        Raises:
            ModelError: the architecture is not built on the shared backbone.
        """
        raise ModelError(
            f"tmd=condition scales the stream of the shared backbone, which {type(self).__name__} "
            "is not built on: use --set tmd=input"
        )

    def forward(self, context: Tensor, mask: Tensor) -> Tensor:
        """Predict the vectors that follow a context, `(batch, output_dim)`; see `last_state`."""
        return self.predict(self.last_state(context, mask), context, mask)

    def every(self, context: Tensor, mask: Tensor) -> Tensor:
        """Predict what follows each position, `(batch, time, output_dim)`; see `states`.

        A model that `generates` overrides this and `forward`: it predicts without a state.
        """
        return self.predict(self.states(context, mask), context, mask)

    def denoised(self, context: Tensor, mask: Tensor, target: Tensor) -> Tensor:
        """What a model that `generates` makes of the target with noise, to be held against it.

        Args:
            context, mask: as for `last_state`.
            target: `(batch, output_dim)`, what follows the context, or `(batch, time, output_dim)`,
                what follows each position.

        Returns:
            Of the target's shape.

        Raises:
            ModelError: the model does not generate.
        """
        raise ModelError(f"{type(self).__name__} is not trained by diffusion: choose another loss")

    def extra_terms(self, state: Tensor, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Terms that the model adds to its loss, by name; each a scalar as it is to be added.

        Args:
            state: `(targets, width)`, what was made of each context.
            prediction, target: `(targets, output_dim)`.
        """
        return {}

    def fit(self, statistics: Statistics) -> None:
        """Take over what must be known of the training targets before the first step."""


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
