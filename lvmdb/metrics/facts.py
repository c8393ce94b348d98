r"""Names and numbers that a rewritten text has and its sources have not.

    added_facts("Born in 1871 in Oslo.", ["He was born in 1871."]).added      # ("Oslo",)

A rule by signs, not by a model, so that it is the same everywhere and can be read:

- A **number** is a run of digits, with points or commas between digits, e.g. `1,234.5`. Commas of
  thousands are left out before numbers are compared: `1,234` is `1234`; `3.0` and `3` differ.
  Digits of a word (`A4`, `20th`) are numbers as well: a changed `4` is a changed fact. Numbers that
  are spelt (`twelve`) are not looked at.
- A **name** is a word of two letters or more that begins with a capital and does not stand at the
  beginning of the text or behind a point, a question or exclamation mark or a colon: there any word
  has one. A word of capitals alone (`NATO`) is a name wherever it stands. So the share is a lower
  bound: an invented name that begins a sentence is not seen.
- It is **added** if no source has the number, or the word in any spelling of its letters' case
  (`the harbour` becomes `Harbour` without becoming a name). A possessive `'s` is left out.

Scripts without capitals (Chinese, Arabic) have no names by this rule; in German every noun is one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019.&-][^\W\d_]+)*")
_POSSESSIVE = re.compile(r"['\u2019]s$", re.IGNORECASE)
_ENDS = ".!?:\u2026\u3002"
_QUOTES = "\"'\u2018\u2019\u201c\u201d()[]{}*_\u00ab\u00bb-\u2013\u2014 \t\n"


@dataclass(frozen=True)
class Facts:
    """Names and numbers of a text.

    Attributes:
        all: each once, in the order of the text.
        added: those that no source has.
    """

    all: tuple[str, ...]
    added: tuple[str, ...]


def added_facts(text: str, sources: Sequence[str]) -> Facts:
    """The names and numbers of a text, and those that no source has; by the rule above."""
    found = _facts(unicodedata.normalize("NFKC", text))
    words, numbers = set(), set()
    for source in sources:
        plain = unicodedata.normalize("NFKC", source)
        numbers |= set(_numbers(plain))
        words |= {_bare(match[0]).casefold() for match in _WORD.finditer(plain)}
    known = {fact: fact in numbers or fact.casefold() in words for fact in found}
    return Facts(tuple(found), tuple(fact for fact in found if not known[fact]))


def _facts(text: str) -> list[str]:
    placed = [(m.start(), _plain_number(m[0])) for m in _NUMBER.finditer(text)]
    for match in _WORD.finditer(text):
        word = _bare(match[0])
        shout = len(word) > 1 and word.isupper()
        if shout or (word[0].isupper() and len(word) > 1 and not _begins(text, match.start())):
            placed.append((match.start(), word))
    return list(dict.fromkeys(fact for _, fact in sorted(placed)))


def _begins(text: str, start: int) -> bool:
    """Whether what stands there begins a sentence."""
    before = text[:start].rstrip(_QUOTES)
    return not before or before[-1] in _ENDS


def _numbers(text: str) -> list[str]:
    return [_plain_number(match[0]) for match in _NUMBER.finditer(text)]


def _plain_number(number: str) -> str:
    return _THOUSANDS.sub("", number)


def _bare(word: str) -> str:
    return _POSSESSIVE.sub("", word)
