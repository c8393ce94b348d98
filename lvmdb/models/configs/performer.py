"""Options of the Performer."""

from __future__ import annotations

from dataclasses import dataclass

from lvmdb.models.config import at_least
from lvmdb.models.configs.transformer import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class PerformerConfig(TransformerConfig):
    """Blocks with FAVOR+ attention; see `performer`.

    Attributes:
        features: random features by which the softmax is estimated.
        max_positions: concepts of the longest sequence that can be read.
        chunk_size: positions handled by one matrix product.
    """

    features: int = 256
    max_positions: int = 1024
    chunk_size: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("features", self.features, 1)
        at_least("max_positions", self.max_positions, self.context_len)
        at_least("chunk_size", self.chunk_size, 1)
