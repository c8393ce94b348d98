"""Articles from the language reference that every CPython carries (`pydoc_data.topics`).

A small real corpus that needs no network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lvmdb.corpus.articles import RawArticle
from lvmdb.corpus.readers.base import OnError, given, made


def read_python_docs(
    source: str | Path = "-",
    *,
    start: int = 0,
    limit: int | None = None,
    on_error: OnError | None = None,
) -> Iterator[RawArticle]:
    """The topics of Python's language reference, sorted by name.

    Many topics repeat a section of another ("with" is part of "compound"): one whose paragraphs
    all occur in a longer one is left out, and of those with the same text the first by name stays.
    With a `limit`, the longest (in characters of text; of equals, the first by name) are given,
    again sorted by name; `source` is not looked at.

    The title is the topic's first heading. Headings are left out of the text, as are doctests,
    grammar, tables and the indented blocks behind a colon (code); the lines of a paragraph are
    joined.
    """
    from pydoc_data.topics import topics

    found: list[tuple[RawArticle, frozenset[str]]] = []
    articles = [_topic(name, topic) for name, topic in topics.items()]
    for article in sorted(articles, key=lambda a: (-len(a.text), a.source_key)):
        held = frozenset(article.text.split("\n\n"))
        if article.text and not any(held <= longer for _, longer in found):
            found.append((article, held))
    chosen = found if limit is None else found[: max(limit, 0)]
    inside = sorted((article for article, _ in chosen), key=lambda a: a.source_key)
    yield from made(map(given, inside), start, limit, on_error)


_UNDERLINE = re.compile(r"([*=\-~^\"#+])\1{2,}\s*$")
_LIST_ITEM = re.compile(r"\s*(\*|-|\d+\.|\[\d+\])\s")
_NOT_PROSE = re.compile(r"^\s*(>>>|\.\.\. |\+[-=]+\+|\||-{3,}|={3,})|::=", re.MULTILINE)
_LABELS = ("Note:", "See also:", "Warning:", "Important:", "Tip:", "Caution:", "Hint:")


def _topic(name: str, topic: str) -> RawArticle:
    """A topic as an article: its first heading, and its prose."""
    title = ""
    prose: list[str] = []
    literal_above: int | None = None  # a block indented deeper than this is code
    for block in re.split(r"\n\s*\n", topic.strip("\n")):
        lines = block.strip("\n").splitlines()
        while len(lines) > 1 and _UNDERLINE.match(lines[1]):
            title = title or lines[0].strip()
            del lines[:2]
        if not lines:
            continue
        indent = len(lines[0]) - len(lines[0].lstrip())
        if literal_above is not None and indent > literal_above and not _LIST_ITEM.match(lines[0]):
            continue
        literal_above = None
        if _NOT_PROSE.search("\n".join(lines)):
            continue
        text = " ".join(" ".join(lines).split())
        if text in _LABELS:
            continue
        if text.endswith(":"):
            literal_above = indent
        prose.append(text)
    return RawArticle(name, title or name, "\n\n".join(prose))
