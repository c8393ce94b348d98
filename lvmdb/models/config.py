"""Frozen, torch-free configurations: what a run row stores, and what a model is built from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lvmdb.errors import ModelError

KERNELS = ("auto", "torch", "mamba_ssm")


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
        dropout: probability with which a hidden number is dropped in training.
    """

    residual: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.dropout < 1.0:
            raise ModelError(f"dropout must be at least 0 and below 1, not {self.dropout}")


@dataclass(frozen=True, kw_only=True)
class LSTMConfig(TrainedConfig):
    """A stacked LSTM; see `lstm`.

    Attributes:
        hidden: width of the state.
        layers: depth of the stack.
    """

    hidden: int = 512
    layers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("hidden", self.hidden, 1)
        at_least("layers", self.layers, 1)


@dataclass(frozen=True, kw_only=True)
class Mamba2Config(TrainedConfig):
    """A stack of Mamba-2 blocks; see `mamba2`.

    Attributes:
        d_model: width of the residual stream.
        layers: number of blocks.
        d_state: numbers of state per channel.
        d_conv: width of the causal convolution.
        expand: inner width as a multiple of `d_model`.
        headdim: channels per head; must divide `expand * d_model`.
        chunk_size: positions handled by one matrix product.
        kernel: `torch` (runs anywhere), `mamba_ssm` (CUDA), or `auto`.
    """

    d_model: int = 256
    layers: int = 4
    d_state: int = 64
    d_conv: int = 4
    expand: int = 2
    headdim: int = 64
    chunk_size: int = 64
    kernel: Literal["auto", "torch", "mamba_ssm"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("d_model", "layers", "d_state", "d_conv", "expand", "headdim", "chunk_size"):
            at_least(name, getattr(self, name), 1)
        if (self.expand * self.d_model) % self.headdim:
            raise ModelError(
                f"headdim must divide expand * d_model ({self.expand * self.d_model}), "
                f"which {self.headdim} does not"
            )
        one_of("kernel", self.kernel, KERNELS)


def at_least(name: str, value: int, minimum: int) -> None:
    """Refuse an option below its minimum with a `ModelError` that names it."""
    if value < minimum:
        raise ModelError(f"{name} must be at least {minimum}, not {value}")


def one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse an option outside its allowed values with a `ModelError` that names it."""
    if value not in allowed:
        raise ModelError(f"{name} must be one of {', '.join(allowed)}, not '{value}'")
