"""Paragraphs, sentences and words: what chunks are made of and measured in.

Words are what white space separates; in scripts that are written without it (Chinese, Japanese,
Thai, Lao, Burmese, Khmer) two characters count as a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from lvmdb.errors import MissingDependencyError

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]{{1,2}}|[^\s{_UNSPACED}]+")
_UNSPACED_CHARACTER = re.compile(rf"[{_UNSPACED}]")
_CLAUSE_ENDS = (",", ";", "\u3001", "\uff0c", "\uff1b")
_CUT_WINDOW = 12
_BLANK_LINES = re.compile(r"\n\s*\n")


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text, each on one line, single-spaced, without NUL; none is empty."""
    text = text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    return [p for p in (" ".join(part.split()) for part in _BLANK_LINES.split(text)) if p]


def count_words(text: str) -> int:
    """How many words a text has; see the module's docstring."""
    if _is_spaced(text):
        return len(text.split())
    return sum(1 for _ in _WORD.finditer(text))


def word_counter(paragraph: str) -> Callable[[str], int]:
    """`count_words` for slices of a paragraph, some ten times as fast where words have spaces.

    Args:
        paragraph: as `paragraphs` gives it.
    """
    return _between_spaces if _is_spaced(paragraph) else count_words


def sentences(language: str, paragraph: str) -> list[str]:
    """The sentences of a paragraph, with the space behind them; joined they are the paragraph.

    Args:
        language: its code, e.g. `"en"`.
        paragraph: as `paragraphs` gives it.

    Raises:
        MissingDependencyError: `sentencex` is not installed.
    """
    try:
        from sentencex import segment
    except ImportError:
        raise MissingDependencyError(
            "sentencex", "encoders", "cutting text into sentences"
        ) from None
    found: list[str] = list(segment(language, paragraph))
    if "".join(found) != paragraph:  # never seen; but a chunk must not lose text
        return [paragraph]
    return [sentence for sentence in found if sentence]


def pieces(
    language: str, paragraph: str, count: Callable[[str], int], longest: int, high: int
) -> Iterator[tuple[int, int]]:
    """The sentences of a paragraph, those of more than `longest` words cut into equal parts.

    A part has at most about `high` words, and ends with a clause where one ends near.

    Args:
        language, paragraph: as for `sentences`.
        count: `word_counter(paragraph)`.
        longest, high: in words.

    Returns:
        Where each piece stops in the paragraph, and how many words it has. A piece begins where
        the one before it stops.
    """
    start = 0
    for sentence in sentences(language, paragraph):
        words = count(sentence)
        done = 0
        if words > longest:
            ends = [match.end() for match in _WORD.finditer(sentence)]
            for cut in _cuts(sentence, ends, -(-words // high)):
                yield start + cut, count(sentence[done:cut])
                done = cut
            words = count(sentence[done:])
        start += len(sentence)
        yield start, words


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


def _is_spaced(text: str) -> bool:
    return text.isascii() or _UNSPACED_CHARACTER.search(text) is None


def _between_spaces(text: str) -> int:
    """Words of a slice that is single-spaced and not empty."""
    return text.count(" ") + 1 - text.startswith(" ") - text.endswith(" ")
