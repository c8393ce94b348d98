"""Options of the Linformer."""

from __future__ import annotations

from dataclasses import dataclass

from lvmdb.models.config import at_least
from lvmdb.models.configs.transformer import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class LinformerConfig(TransformerConfig):
    """Blocks with low-rank attention; see `linformer`.

    Attributes:
        rank: keys and values that those of a context are projected to. It may be larger than
            `context_len`: then nothing is saved, and attention is over more mixtures of the
            concepts than there are concepts.
    """

    rank: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("rank", self.rank, 1)
