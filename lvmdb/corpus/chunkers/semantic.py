"""Concepts cut where neighbouring sentences have least to do with each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.chunkers.base import Chunk
from lvmdb.corpus.chunkers.words import paragraphs, pieces, word_counter
from lvmdb.corpus.runs import runs
from lvmdb.errors import UsageError
from lvmdb.metrics.vectors import row_products

Embed = Callable[[Sequence[str]], Vectors]
"""Texts to their vectors, `(len(texts), 768)` of unit norm: `SentenceEncoder.encode`."""


@dataclass(frozen=True)
class SemanticChunker:
    """Whole sentences (found by `sentencex`), parted where two neighbours are far apart.

    The distance of two neighbouring sentences is 1 less the cosine of their vectors. A text is cut
    where a distance is larger than the given percentile of all that it has within its paragraphs.
    A piece of more than `high` words is cut on, at its largest distance first; one of fewer than
    `low` joins the neighbour that it is nearer to, if both fit into `high` words or can be cut
    anew (`lvmdb.corpus.runs` says exactly how). A sentence of more than `high` words is cut into
    parts as by the sentence chunker, which count as sentences.

    Every sentence is encoded once, all of a text's in one call; chunks carry their sentences'
    vectors.

    Attributes:
        embed: the encoder. It is no option: an article's content hash has the encoder's name.
        percentile: between 0 and 100; a higher one makes longer chunks.
        language: of the sentences, as a code.
        min_words: shorter paragraphs are dropped.
        low, high: words that a chunk should have.

    Raises:
        UsageError: a number is out of range, or they contradict each other.
    """

    embed: Embed = field(compare=False, repr=False)
    percentile: float = 75.0
    language: str = "en"
    min_words: int = 8
    low: int = 20
    high: int = 100
    name: ClassVar[str] = "semantic"

    def __post_init__(self) -> None:
        if not 0 <= self.percentile <= 100:
            raise UsageError(f"--percentile is between 0 and 100, not {self.percentile}")
        if not 1 <= self.min_words <= self.low or 2 * self.low > self.high:
            raise UsageError(
                "semantic chunker: needs 1 <= min_words <= low (--words LOW-HIGH) and high at least"
                f" twice low, not {self.min_words}, {self.low}, {self.high}"
            )

    @property
    def options(self) -> dict[str, Any]:
        """All of its numbers, and the language."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "embed"}

    def chunks(self, text: str) -> list[Chunk]:
        """The concepts of `text`; none crosses a paragraph."""
        found = [
            _Paragraph(number, paragraph, self)
            for number, paragraph in enumerate(paragraphs(text))
            if word_counter(paragraph)(paragraph) >= self.min_words
        ]
        if not found:
            return []
        vectors = self.embed([sentence for p in found for sentence in p.sentences])
        start = 0
        for p in found:
            p.embedded(vectors[start : start + len(p.sentences)])
            start += len(p.sentences)
        distances = np.concatenate([1 - p.closeness for p in found])
        limit = float(np.percentile(distances, self.percentile)) if len(distances) else 0.0
        return [chunk for p in found for chunk in p.chunks(limit, self.low, self.high)]

    def chunk(self, text: str) -> list[str]:
        """The texts of `chunks`."""
        return [chunk.text for chunk in self.chunks(text)]


class _Paragraph:
    def __init__(self, number: int, text: str, chunker: SemanticChunker) -> None:
        self._number, self._text = number, text
        self._words: list[int] = []
        self._places = [0]
        self.sentences: list[str] = []
        count = word_counter(text)
        for stop, words in pieces(chunker.language, text, count, chunker.high, chunker.high):
            self.sentences.append(text[self._places[-1] : stop].strip())
            self._places.append(stop)
            self._words.append(words)

    def embedded(self, vectors: Vectors) -> None:
        self._vectors = vectors  # (sentences, 768)
        self.closeness = row_products(vectors[:-1], vectors[1:])  # (sentences - 1,)

    def chunks(self, limit: float, low: int, high: int) -> list[Chunk]:
        cuts = 1 - self.closeness > limit
        return [
            Chunk(
                self._text[self._places[a] : self._places[b]].strip(),
                self._number,
                self._vectors[a:b],
            )
            for a, b in runs(self._words, self.closeness, cuts, low=low, high=high)
        ]
