"""Markdown into paragraphs of prose, by `markdown-it-py`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_FRONT_MATTER = re.compile(r"\A\ufeff?(---|\+\+\+)[ \t]*\n.*?^(\1|\.\.\.)[ \t]*$\n?", re.M | re.S)


def prose(markup: str) -> tuple[str, str]:
    """The title and the paragraphs of a Markdown text (CommonMark, with tables).

    The title is the first heading, `""` where there is none. Left out are front matter (YAML or
    TOML), headings, blocks of code, tables, HTML and images; the paragraphs of lists and quotations
    stay. Links leave their text, inline code its own.

    Returns:
        Title, and paragraphs separated by blank lines.
    """
    title = ""
    paragraphs = []
    within: list[str] = []  # the blocks that are open
    for token in _parser().parse(_FRONT_MATTER.sub("", markup, count=1)):
        if token.nesting == 1:
            within.append(token.type)
        elif token.nesting == -1:
            within.pop()
        elif token.type == "inline" and "table_open" not in within:
            text = " ".join(_text(token.children or ()).split())
            if within[-1] == "heading_open":
                title = title or text
            elif text:
                paragraphs.append(text)
    return title, "\n\n".join(paragraphs)


def _text(tokens: Iterable[Token]) -> str:
    return "".join(
        " " if token.type in ("softbreak", "hardbreak") else token.content
        for token in tokens
        if token.type in ("text", "code_inline", "softbreak", "hardbreak", "text_special")
    )


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")
