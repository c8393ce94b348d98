"""Options of RetNet."""

from __future__ import annotations

from dataclasses import dataclass

from lvmdb.errors import ModelError
from lvmdb.models.config import TrainedConfig, at_least, divides


@dataclass(frozen=True, kw_only=True)
class RetNetConfig(TrainedConfig):
    """A stack of RetNet blocks; see `retnet`.

    Attributes:
        d_model: width of the residual stream.
        layers: number of blocks, each of retention and a feed-forward part.
        heads: number of heads; must divide `d_model`, and what it gives must be even.
        chunk_size: sequences up to this length are one matrix product, longer ones are cut.
    """

    d_model: int = 256
    layers: int = 4
    heads: int = 4
    chunk_size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("d_model", "layers", "heads", "chunk_size"):
            at_least(name, getattr(self, name), 1)
        divides("heads", self.heads, "d_model", self.d_model)
        if self.d_model // self.heads % 2:
            raise ModelError(
                f"heads must leave an even width, because pairs of numbers are rotated: "
                f"d_model / heads is {self.d_model // self.heads}"
            )
