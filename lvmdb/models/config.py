"""Frozen, torch-free configurations: what a run row stores, and what a model is built from.

Here is what they share; those of each architecture are in `configs`, under its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lvmdb.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What every architecture and every baseline shares.

    Attributes:
        input_dim: width of a context vector (768; 784 with a TMD vector appended).
        output_dim: width of a predicted vector. The first `output_dim` numbers of a context vector
            are the concept itself, in the space of the prediction.
        context_len: windows are this many concepts long.
    """

    input_dim: int = 768
    output_dim: int = 768
    context_len: int = 5

    @property
    def generates(self) -> bool:
        """Whether predictions are drawn by diffusion; then the loss is `diffusion`."""
        return False

    def __post_init__(self) -> None:
        at_least("input_dim", self.input_dim, 1)
        at_least("output_dim", self.output_dim, 1)
        at_least("context_len", self.context_len, 1)
        if self.output_dim > self.input_dim:
            raise ModelError(
                f"output_dim must be at most input_dim ({self.input_dim}), not {self.output_dim}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainedConfig(ModelConfig):
    """What every architecture that is trained by gradients shares.

    Attributes:
        residual: predict the difference to a learnt weighting of the context (`lag_residual`).
        centre: read and predict vectors less the mean of the training targets (`centred`).
        dropout: probability with which a hidden number is dropped in training.
    """

    residual: bool = True
    centre: bool = False
    dropout: float = 0.0

    @property
    def needs_statistics(self) -> bool:
        """Whether the model must know the training targets' mean and covariance (`fit`)."""
        return self.centre

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.dropout < 1.0:
            raise ModelError(f"dropout must be at least 0 and below 1, not {self.dropout}")


def at_least(name: str, value: int, minimum: int) -> None:
    """Refuse an option below its minimum with a `ModelError` that names it."""
    if value < minimum:
        raise ModelError(f"{name} must be at least {minimum}, not {value}")


def divides(name: str, value: int, what: str, whole: int) -> None:
    """Refuse an option that does not divide `whole`, which is `what`, with a `ModelError`."""
    if whole % value:
        raise ModelError(f"{name} must divide {what} ({whole}), which {value} does not")


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse an option outside its allowed values with a `ModelError` that names it."""
    if value not in allowed:
        raise ModelError(f"{name} must be one of {', '.join(allowed)}, not '{value}'")
