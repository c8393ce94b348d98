"""Options of the hybrid of Mamba-2 and attention."""

from __future__ import annotations

from dataclasses import dataclass

from lvmdb.errors import ModelError
from lvmdb.models.config import at_least, divides
from lvmdb.models.configs.mamba2 import Mamba2Config


@dataclass(frozen=True, kw_only=True)
class HybridConfig(Mamba2Config):
    """Mamba-2 blocks with an attention block in every few; see `hybrid`.

    Attributes:
        layers: number of blocks of both kinds.
        attention_every: of so many blocks in a row one is an attention block, the middle one.
        heads: of attention; must divide `d_model`.
    """

    layers: int = 12
    attention_every: int = 4
    heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("attention_every", self.attention_every, 1)
        at_least("heads", self.heads, 1)
        divides("heads", self.heads, "d_model", self.d_model)
        if not any(map(self.is_attention, range(self.layers))):
            raise ModelError(
                f"attention_every {self.attention_every} puts no attention into {self.layers} "
                f"layers: it must be at most {2 * self.layers - 1}"
            )

    def is_attention(self, layer: int) -> bool:
        """Whether the block of that number, from 0, is an attention block."""
        return layer % self.attention_every == self.attention_every // 2
