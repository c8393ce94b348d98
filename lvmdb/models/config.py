"""Frozen, torch-free configurations: what a run row stores, and what a model is built from.

Here is what they share; those of each architecture are in `configs`, under its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from lvmdb.errors import ModelError

TMD_WIDTH = 16
"""Numbers of a TMD code that stand behind a concept's own; all zero where there is no code."""

TMD_USES = ("none", "input", "condition")


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

    @property
    def reads_tmd(self) -> bool:
        """Whether a context vector holds the concept's TMD code behind the concept."""
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
        tmd: what becomes of the concepts' TMD codes: `none`: they are not read; `input`: the model
            reads each behind its concept, 784 numbers; `condition`: they scale the hidden stream
            (`conditioning`).
        resolutions: widths of coarser targets that are predicted beside the whole one, the finest
            first, e.g. 384,192 (`multi_resolution`).
    """

    residual: bool = True
    centre: bool = False
    dropout: float = 0.0
    tmd: Literal["none", "input", "condition"] = "none"
    resolutions: tuple[int, ...] = ()

    @property
    def reads_tmd(self) -> bool:
        return self.tmd != "none"

    @property
    def needs_statistics(self) -> bool:
        """Whether the model must know the training targets' mean and covariance (`fit`)."""
        return self.centre or bool(self.resolutions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.dropout < 1.0:
            raise ModelError(f"dropout must be at least 0 and below 1, not {self.dropout}")
        one_of("tmd", self.tmd, TMD_USES)
        if self.reads_tmd and self.input_dim != self.output_dim + TMD_WIDTH:
            raise ModelError(
                f"tmd={self.tmd} reads {TMD_WIDTH} numbers behind each concept: input_dim must be "
                f"{self.output_dim + TMD_WIDTH}, not {self.input_dim}"
            )
        widths = (self.output_dim, *self.resolutions, 0)
        if any(finer <= coarser for finer, coarser in pairwise(widths)):
            raise ModelError(
                f"resolutions must fall, from below {self.output_dim} to 1 at least, as in "
                f"384,192, not {','.join(map(str, self.resolutions))}"
            )
        if self.resolutions and self.generates:
            raise ModelError(
                "resolutions are for models that answer from a hidden state, not for one that "
                "generates: leave them out"
            )


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
