"""What a chunker is: a text in, concepts out, each with its paragraph.

Chunkers work paragraph by paragraph (paragraphs are separated by blank lines) and never join two.
White space is normalised to single spaces and NUL, which PostgreSQL's text cannot hold, is removed.
A paragraph of fewer than `min_words` words (a heading, a caption) is dropped; every other character
of the text is in exactly one chunk, in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from lvmdb.corpus.articles import Vectors


@dataclass(frozen=True)
class Chunk:
    """A concept's text and where it stood.

    Attributes:
        text: on one line, single-spaced, not empty.
        paragraph: number of its paragraph in the text, from 0; those that were dropped count.
        sentences: `(sentences, 768)` the encoder's vectors of its sentences, where the chunker had
            them made. Of a chunk of one sentence that is the vector of its text.
    """

    text: str
    paragraph: int
    sentences: Vectors | None = field(default=None, compare=False, repr=False)

    @property
    def vector(self) -> Vectors | None:
        """`(768,)` the encoder's vector of the text, where it is known without asking again."""
        if self.sentences is None or len(self.sentences) != 1:
            return None
        vector: Vectors = self.sentences[0]
        return vector


class Chunker(Protocol):
    """Cuts a text into concepts."""

    @property
    def name(self) -> str:
        """The name under which it is chosen."""

    @property
    def options(self) -> dict[str, Any]:
        """Everything that its output depends on, as JSON; part of an article's content hash."""

    def chunks(self, text: str) -> list[Chunk]:
        """The concepts of `text` in reading order; empty where nothing is long enough."""

    def chunk(self, text: str) -> list[str]:
        """The texts of `chunks`."""
