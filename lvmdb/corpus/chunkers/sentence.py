"""Concepts of whole sentences, merged to a target of words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from lvmdb.corpus.chunkers.base import Chunk
from lvmdb.corpus.chunkers.words import paragraphs, pieces, word_counter
from lvmdb.errors import UsageError


@dataclass(frozen=True)
class SentenceChunker:
    """Whole sentences (found by `sentencex`) merged to 40-80 words.

    Sentences are added while a chunk stays within `high` words, and it is closed once it has
    `full`. Rather than leave a piece of fewer than `low` words, it may reach `stretch`; what
    remains at a paragraph's end joins the chunk before it if it has fewer than `tail` words and
    both together no more than `tail_limit`, and always if it has fewer than `min_words`. A single
    sentence is kept whole up to `longest` words; a longer one is cut into equal parts of at most
    about `high` words, at the end of a clause where one is near.

    Raises:
        UsageError: the numbers contradict each other.
    """

    language: str = "en"
    min_words: int = 8
    low: int = 40
    full: int = 60
    high: int = 80
    tail: int = 25
    tail_limit: int = 90
    stretch: int = 95
    longest: int = 110
    name: ClassVar[str] = "sentence"

    def __post_init__(self) -> None:
        sizes = (self.min_words, self.low, self.full, self.high, self.stretch, self.longest)
        if self.min_words < 1 or list(sizes) != sorted(sizes):
            raise UsageError(
                "sentence chunker: needs 1 <= min_words <= low <= full <= high <= stretch"
                f" <= longest, not {sizes}"
            )

    @property
    def options(self) -> dict[str, Any]:
        """All of its numbers, and the language."""
        return asdict(self)

    def chunks(self, text: str) -> list[Chunk]:
        """The concepts of `text`; none crosses a paragraph."""
        found = []
        for number, paragraph in enumerate(paragraphs(text)):
            count = word_counter(paragraph)
            words = count(paragraph)
            if words < self.min_words:
                continue
            if words < self.full:  # nothing would be closed before its end
                found.append(Chunk(paragraph, number))
                continue
            for start, stop in self._merge(paragraph, count):
                found.append(Chunk(paragraph[start:stop].strip(), number))
        return found

    def chunk(self, text: str) -> list[str]:
        """The texts of `chunks`."""
        return [chunk.text for chunk in self.chunks(text)]

    def _merge(self, paragraph: str, count: Callable[[str], int]) -> list[tuple[int, int]]:
        """The chunks of one paragraph as `[start, stop)` in characters, without gaps."""
        done: list[tuple[int, int]] = []
        sizes: list[int] = []
        begin = end = words = 0

        def close() -> None:
            nonlocal begin, words
            if words:
                done.append((begin, end))
                sizes.append(words)
                begin, words = end, 0

        for stop, more in pieces(self.language, paragraph, count, self.longest, self.high):
            if words and words + more > (self.stretch if words < self.low else self.high):
                close()
            end, words = stop, words + more
            if words >= self.full:
                close()
        if done and _joins(words, sizes[-1], self):
            done[-1] = (done[-1][0], end)
        else:
            close()
        return done


def _joins(words: int, before: int, limits: SentenceChunker) -> bool:
    """Whether a paragraph's last `words` go to the chunk of `before` words in front of them."""
    if words < limits.min_words:
        return True
    return words < limits.tail and before + words <= limits.tail_limit
