"""Options of Mamba-2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lvmdb.models.config import TrainedConfig, at_least, divides, one_of

KERNELS = ("auto", "torch", "mamba_ssm")


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
        divides("headdim", self.headdim, "expand * d_model", self.expand * self.d_model)
        one_of("kernel", self.kernel, KERNELS)
