"""Paragraphs, sentences and words: what chunks are made of and measured in.

Words are what white space separates; in scripts that are written without it (Chinese, Japanese,
Thai, Lao, Burmese, Khmer) two characters count as a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lvmdb.errors import MissingDependencyError

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]{{1,2}}|[^\s{_UNSPACED}]+")
_UNSPACED_CHARACTER = re.compile(rf"[{_UNSPACED}]")
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


def word_ends(text: str) -> list[int]:
    """Where each word of a text ends: offsets behind it."""
    return [match.end() for match in _WORD.finditer(text)]


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


def _is_spaced(text: str) -> bool:
    return text.isascii() or _UNSPACED_CHARACTER.search(text) is None


def _between_spaces(text: str) -> int:
    """Words of a slice that is single-spaced and not empty."""
    return text.count(" ") + 1 - text.startswith(" ") - text.endswith(" ")
