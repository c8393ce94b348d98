"""Options that transformers share, whatever their attention."""

from __future__ import annotations

from dataclasses import dataclass

from lvmdb.models.config import TrainedConfig, at_least, divides


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(TrainedConfig):
    """A stack of attention and feed-forward parts; see `transformer`. The shape is DistilGPT-2's.

    Attributes:
        d_model: width of the residual stream.
        layers: number of blocks, each of both parts.
        heads: number of heads; must divide `d_model`.
    """

    d_model: int = 768
    layers: int = 6
    heads: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("d_model", "layers", "heads"):
            at_least(name, getattr(self, name), 1)
        divides("heads", self.heads, "d_model", self.d_model)
