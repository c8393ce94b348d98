"""Text into concepts: pieces of a few sentences that one vector can stand for.

Both chunkers work paragraph by paragraph (paragraphs are separated by blank lines) and never join
two. White space is normalised to single spaces and NUL, which PostgreSQL's text cannot hold, is
removed. A paragraph of fewer than `min_words` words (a heading, a caption) is dropped; every other
character of the text is in exactly one chunk, in order.

Words are what white space separates; in scripts that are written without it (Chinese, Japanese,
Thai, Lao, Burmese, Khmer) two characters count as a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

from lvmdb.errors import MissingDependencyError, UnknownNameError, UsageError

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]{{1,2}}|[^\s{_UNSPACED}]+")
_BLANK_LINES = re.compile(r"\n\s*\n")
_CLAUSE_ENDS = (",", ";", "\u3001", "\uff0c", "\uff1b")
_CUT_WINDOW = 12


class Chunker(Protocol):
    """Cuts a text into concepts."""

    @property
    def name(self) -> str:
        """The name under which it is chosen."""

    @property
    def options(self) -> dict[str, Any]:
        """Everything that its output depends on, as JSON; part of an article's content hash."""

    def chunk(self, text: str) -> list[str]:
        """The concepts of `text` in reading order; empty where nothing is long enough."""


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

    def chunk(self, text: str) -> list[str]:
        """The concepts of `text`; none crosses a paragraph."""
        chunks = []
        for paragraph in paragraphs(text):
            if count_words(paragraph) >= self.min_words:
                chunks += [paragraph[a:b].strip() for a, b in self._merge(paragraph)]
        return chunks

    def _merge(self, paragraph: str) -> list[tuple[int, int]]:
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

        for start, stop in self._sentences(paragraph):
            more = count_words(paragraph[start:stop])
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

    def _sentences(self, paragraph: str) -> Iterator[tuple[int, int]]:
        """Sentences, and the parts of overlong ones, as `[start, stop)` in characters."""
        start = 0
        for sentence in _segment(self.language, paragraph):
            stop = start + len(sentence)
            words = [m.end() for m in _WORD.finditer(sentence)]
            if len(words) > self.longest:
                for cut in _cuts(sentence, words, -(-len(words) // self.high)):
                    yield start, stop - len(sentence) + cut
                    start = stop - len(sentence) + cut
            yield start, stop
            start = stop


@dataclass(frozen=True)
class ParagraphChunker:
    """One chunk a paragraph, however long it is."""

    min_words: int = 8
    name: ClassVar[str] = "paragraph"

    def __post_init__(self) -> None:
        if self.min_words < 1:
            raise UsageError(f"paragraph chunker: min_words must be at least 1: {self.min_words}")

    @property
    def options(self) -> dict[str, Any]:
        """All of its numbers, and the language."""
        return asdict(self)

    def chunk(self, text: str) -> list[str]:
        """The paragraphs of `text` that are long enough."""
        return [p for p in paragraphs(text) if count_words(p) >= self.min_words]


_CHUNKERS: dict[str, type[SentenceChunker] | type[ParagraphChunker]] = {
    c.name: c for c in (SentenceChunker, ParagraphChunker)
}
CHUNKERS = tuple(sorted(_CHUNKERS))


def get_chunker(name: str, **options: Any) -> Chunker:
    """The chunker called `name`, with options other than the defaults.

    Raises:
        UnknownNameError: no such chunker, or it has no such option.
        UsageError: the options contradict each other.
    """
    if name not in _CHUNKERS:
        raise UnknownNameError("chunker", name, CHUNKERS)
    known = _CHUNKERS[name]().options
    for option in options:
        if option not in known:
            raise UnknownNameError(f"option of the {name} chunker", option, known)
    return _CHUNKERS[name](**options)


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text, each on one line, single-spaced, without NUL; none is empty."""
    text = text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    return [p for p in (" ".join(part.split()) for part in _BLANK_LINES.split(text)) if p]


def count_words(text: str) -> int:
    """How many words a text has; see the module's docstring."""
    return sum(1 for _ in _WORD.finditer(text))


def _joins(words: int, before: int, limits: SentenceChunker) -> bool:
    """Whether a paragraph's last `words` go to the chunk of `before` words in front of them."""
    if words < limits.min_words:
        return True
    return words < limits.tail and before + words <= limits.tail_limit


def _cuts(sentence: str, words: list[int], parts: int) -> Iterator[int]:
    """Where to cut an overlong sentence into `parts`: offsets behind words, ascending.

    Args:
        sentence: the sentence.
        words: where each of its words ends.
        parts: how many pieces.
    """
    clauses = [i + 1 for i, end in enumerate(words) if sentence[:end].endswith(_CLAUSE_ENDS)]
    done = 0
    for part in range(1, parts):
        ideal = done + (len(words) - done) / (parts - part + 1)
        distance, cut = min(((abs(c - ideal), c) for c in clauses if c > done), default=(ideal, 0))
        done = cut if distance <= _CUT_WINDOW else round(ideal)
        yield words[done - 1]


def _segment(language: str, paragraph: str) -> list[str]:
    """Sentences, with the space behind them; joined they are the paragraph."""
    try:
        from sentencex import segment
    except ImportError:
        raise MissingDependencyError(
            "sentencex", "encoders", "cutting text into sentences"
        ) from None
    sentences = list(segment(language, paragraph))
    if "".join(sentences) != paragraph:  # never seen; but a chunk must not lose text
        return [paragraph]
    return sentences
