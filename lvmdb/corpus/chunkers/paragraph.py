"""Concepts of a paragraph each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from lvmdb.corpus.chunkers.base import Chunk
from lvmdb.corpus.chunkers.words import count_words, paragraphs
from lvmdb.errors import UsageError


@dataclass(frozen=True)
class ParagraphChunker:
    """One chunk a paragraph, however long it is.

    Raises:
        UsageError: `min_words` is below 1.
    """

    min_words: int = 8
    name: ClassVar[str] = "paragraph"

    def __post_init__(self) -> None:
        if self.min_words < 1:
            raise UsageError(f"paragraph chunker: min_words must be at least 1: {self.min_words}")

    @property
    def options(self) -> dict[str, Any]:
        """Its only number."""
        return asdict(self)

    def chunks(self, text: str) -> list[Chunk]:
        """The paragraphs of `text` that are long enough."""
        numbered = enumerate(paragraphs(text))
        return [Chunk(p, i) for i, p in numbered if count_words(p) >= self.min_words]

    def chunk(self, text: str) -> list[str]:
        """The texts of `chunks`."""
        return [chunk.text for chunk in self.chunks(text)]
