"""Options of GPT-2."""

from __future__ import annotations

from dataclasses import dataclass

from lvmdb.models.config import at_least
from lvmdb.models.configs.transformer import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class GPT2Config(TransformerConfig):
    """GPT-2's blocks; see `gpt2`.

    Attributes:
        max_positions: concepts of the longest sequence that can be read.
    """

    max_positions: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("max_positions", self.max_positions, self.context_len)
