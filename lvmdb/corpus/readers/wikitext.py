"""MediaWiki's markup into paragraphs of prose.

`mwparserfromhell` takes the markup apart; what stays of it is decided here, in one pass over its
tokens. Building its tree of nodes and asking that for text takes some ten times as long.

Left out are templates, references, tables, images and categories, galleries, headings, lists (most
are of links) and indented lines, formulas and code, comments, and links to other languages. Links,
bold and italics leave their text, character references their character. Brackets that stay empty
without a template go with it; a paragraph with a template or table that never ends goes, too.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from lvmdb.errors import MissingDependencyError

MEDIA = frozenset({"file", "image", "media", "category"})
"""Namespaces whose links leave no text, by their English names; wikis have others besides."""

_LEFT_OUT = frozenset(
    {
        "categorytree",
        "ce",
        "chem",
        "gallery",
        "graph",
        "hiero",
        "imagemap",
        "includeonly",
        "indicator",
        "inputbox",
        "mapframe",
        "maplink",
        "math",
        "pre",
        "ref",
        "references",
        "score",
        "section",
        "source",
        "syntaxhighlight",
        "table",
        "templatedata",
        "templatestyles",
        "timeline",
    }
)
_LIST_ITEMS = frozenset({"li", "dt", "dd", "hr"})
_BLOCKS = frozenset({"p", "div", "blockquote", "poem", "center", "ul", "ol", "dl"})
_LIST_MARK = "\0"  # in front of what is an item; no text holds it
_QUOTES = re.compile(r"'{5}|'{2,3}(?!')|'{2,3}")
_BEHAVIOUR = re.compile(r"__[A-Z]+__")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]+)*:\S")
_EMPTY_BRACKETS = re.compile(r"(?<=\s)[(\[]\s*[,;:\s]*[)\]]")
_LEADING_MARK = re.compile(r"(?<=[(\[])\s*[,;:]\s*|(?<=\()\s+")
_LOOSE_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_UNCLOSED = re.compile(r"\{[{|]|[|}]\}")
_LOOSE_MARK = re.compile(r"\s+(?=[,.;:!?)](\s|$))")


def prose(markup: str, media: Collection[str] = MEDIA) -> str:
    """The paragraphs of a page, separated by blank lines; empty where there is none.

    Args:
        markup: the page's wikitext.
        media: lower-case names of the namespaces of files and categories.

    Raises:
        ValueError: the parser fails.
        MissingDependencyError: `mwparserfromhell` is not installed.
    """
    paragraphs: list[list[str]] = [[]]
    for line in _text(markup.replace(_LIST_MARK, ""), media).split("\n"):
        if not line.strip() or _LIST_MARK in line:
            paragraphs.append([])
        else:
            paragraphs[-1].append(line)
    return "\n\n".join(tidied for lines in paragraphs if (tidied := _tidy(" ".join(lines))))


def _tidy(paragraph: str) -> str:
    if _UNCLOSED.search(paragraph):
        return ""
    if "[[" in paragraph or "]]" in paragraph:
        paragraph = paragraph.replace("[[", "").replace("]]", "")
    if "''" in paragraph:
        paragraph = _QUOTES.sub("", paragraph)
    if "__" in paragraph:
        paragraph = _BEHAVIOUR.sub("", paragraph)
    if "(" in paragraph or "[" in paragraph:
        paragraph = _LEADING_MARK.sub("", _EMPTY_BRACKETS.sub("", paragraph))
    return " ".join(_LOOSE_MARK.sub("", paragraph).split())


class _Open:
    """A construct that is not closed yet: its parts, and the tag's name."""

    __slots__ = ("name", "parts")

    def __init__(self) -> None:
        self.parts: list[list[str]] = [[]]
        self.name = ""

    def part(self, index: int) -> str:
        return "".join(self.parts[index])


_Close = Callable[[_Open, Collection[str]], str]
"""What a construct leaves of itself."""


def _text(markup: str, media: Collection[str]) -> str:
    """The text between and inside the constructs, with `_LIST_MARK` in lines that are items."""
    kinds = _kinds()
    top = _Open()
    outer: list[_Open] = []
    part = top.parts[0]
    tokens = iter(kinds.tokenize(markup))
    for token in tokens:
        kind = type(token)
        if kind is kinds.text:
            text = token["text"]
            if "<" in text and top.name != "nowiki":
                text = _LOOSE_TAG.sub("", text)
            part.append(text)
        elif kind is kinds.template:
            _pass_over(tokens, kinds)
        elif kind in kinds.opening:
            outer.append(top)
            top = _Open()
            part = top.parts[0]
        elif kind in kinds.separating:
            part = []
            top.parts.append(part)
        elif kind in kinds.closing:
            left = kinds.closing[kind](top, media)
            top = outer.pop()
            part = top.parts[-1]
            part.append(left)
        elif kind is kinds.named:  # behind <name ...>
            top.name = top.part(0).strip().lower()
            part = []
            top.parts = [part]
        elif kind in kinds.kept:
            part.append(kinds.kept[kind])
    return top.part(0)


def _pass_over(tokens: Iterator[Any], kinds: _Kinds) -> None:
    """Goes on behind the template that has just begun: a page's tokens are mostly in these."""
    depth = 1
    for token in tokens:
        kind = type(token)
        if kind is kinds.template:
            depth += 1
        elif kind is kinds.template_end:
            depth -= 1
            if not depth:
                return


def _nothing(_: _Open, __: Collection[str]) -> str:
    return ""


def _heading(_: _Open, __: Collection[str]) -> str:
    return "\n\n"


def _wikilink(link: _Open, media: Collection[str]) -> str:
    target = link.part(0).strip()
    space, colon, _ = target.partition(":")
    if colon and space.strip().lower() in media:
        return ""
    if len(link.parts) > 1:
        return link.part(1)
    return "" if _LANGUAGE.match(target) else target.removeprefix(":")


def _external(link: _Open, _: Collection[str]) -> str:
    return link.part(1) if len(link.parts) > 1 else ""


def _entity(entity: _Open, _: Collection[str]) -> str:
    return html.unescape(f"&{entity.part(0)};")


def _self_closed(tag: _Open, _: Collection[str]) -> str:
    name = tag.part(0).strip().lower()
    if name in _LIST_ITEMS:
        return _LIST_MARK
    return " " if name == "br" else ""


def _tag(tag: _Open, _: Collection[str]) -> str:
    if tag.name in _LEFT_OUT:
        return ""
    if tag.name in _LIST_ITEMS:
        return _LIST_MARK
    return f"\n\n{tag.part(0)}\n\n" if tag.name in _BLOCKS else tag.part(0)


@dataclass(frozen=True)
class _Kinds:
    """The library's tokenizer and its kinds of tokens, by what they do."""

    tokenize: Callable[[str], Any]
    text: type
    template: type
    template_end: type
    opening: frozenset[type]
    separating: frozenset[type]
    named: type
    kept: Mapping[type, str]
    closing: Mapping[type, _Close]


@cache
def _kinds() -> _Kinds:
    try:
        from mwparserfromhell import parser
        from mwparserfromhell.parser import tokenizer, tokens
    except ImportError:
        raise MissingDependencyError(
            "mwparserfromhell", "wikipedia", "reading MediaWiki's markup"
        ) from None
    new = parser.CTokenizer or tokenizer.Tokenizer

    def tokenize(markup: str) -> Any:
        try:
            return new().tokenize(markup, 0, True)  # bold and italics are left to `_tidy`
        except parser.ParserError as error:
            raise ValueError(str(error)) from None

    return _Kinds(
        tokenize=tokenize,
        text=tokens.Text,
        template=tokens.TemplateOpen,
        template_end=tokens.TemplateClose,
        opening=frozenset(
            [
                tokens.ArgumentOpen,
                tokens.WikilinkOpen,
                tokens.ExternalLinkOpen,
                tokens.HTMLEntityStart,
                tokens.HeadingStart,
                tokens.CommentStart,
                tokens.TagOpenOpen,
            ]
        ),
        separating=frozenset(
            [
                tokens.WikilinkSeparator,
                tokens.ExternalLinkSeparator,
                tokens.TagAttrStart,
                tokens.TagOpenClose,
            ]
        ),
        named=tokens.TagCloseOpen,
        kept={tokens.HTMLEntityNumeric: "#", tokens.HTMLEntityHex: "x"},
        closing={
            tokens.ArgumentClose: _nothing,
            tokens.CommentEnd: _nothing,
            tokens.HeadingEnd: _heading,
            tokens.WikilinkClose: _wikilink,
            tokens.ExternalLinkClose: _external,
            tokens.HTMLEntityEnd: _entity,
            tokens.TagCloseSelfclose: _self_closed,
            tokens.TagCloseClose: _tag,
        },
    )
