"""Articles from a dump of a MediaWiki: its XML export, compressed with bzip2 or not.

The file is parsed by expat as it is read, and one page is held at a time. A document type, and with
it any entity, is refused.
"""

from __future__ import annotations

import bz2
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote
from xml.parsers import expat

from lvmdb.corpus.articles import RawArticle
from lvmdb.corpus.readers.base import OnError, made
from lvmdb.corpus.readers.wikitext import MEDIA, prose
from lvmdb.errors import InputError

SUFFIXES = (".xml", ".xml.bz2")

_BLOCK = 1 << 18
_LARGEST = 1 << 24
"""Characters of a page's text; MediaWiki itself allows 2 MiB."""

_KEPT = frozenset(
    {
        ("siteinfo", "base"),
        ("namespaces", "namespace"),
        ("page", "title"),
        ("page", "ns"),
        ("page", "id"),
        ("revision", "model"),
        ("revision", "text"),
    }
)
_FILES_AND_CATEGORIES = ("6", "14")


def read_mediawiki(
    source: str | Path,
    *,
    start: int = 0,
    limit: int | None = None,
    on_error: OnError | None = None,
) -> Iterator[RawArticle]:
    """Articles from a `.xml` or `.xml.bz2` file (of one stream or many), in the file's order.

    Each page of the main namespace is a place, but redirects and what is not wikitext. The source
    key is the page's id, the text that of the last of its revisions in the file, without markup
    (`wikitext.prose`). Pages before `start` are parsed as XML, but their markup is not.

    Raises:
        InputError: the file is missing, truncated, no MediaWiki export or not well-formed; or, as
            `Reader` says, a page's markup breaks the parser. The message names line or page.
        MissingDependencyError: `mwparserfromhell` is not installed.
    """
    path = Path(source)
    yield from made(
        (partial(_article, path, page) for page in _pages(path)), start, limit, on_error
    )


@dataclass
class _Page:
    """A page of the main namespace."""

    title: str
    base: str
    media: Collection[str]
    number: str = ""
    space: str = ""
    model: str = "wikitext"
    text: str = ""
    redirects: bool = False
    too_long: bool = False

    @property
    def is_article(self) -> bool:
        return self.space == "0" and self.model == "wikitext" and not self.redirects


def _article(path: Path, page: _Page) -> RawArticle:
    where = f"{path}: page {page.number or 'without an id'} '{page.title}'"
    if not page.number or not page.title:
        raise InputError(f"{where}: an article needs a title and an id")
    if page.too_long:
        raise InputError(f"{where}: its text has more than {_LARGEST:,} characters")
    try:
        text = prose(page.text, page.media)
    except (RecursionError, ValueError) as error:
        raise InputError(f"{where}: its markup cannot be parsed: {error}") from None
    url = None
    if page.base:
        url = f"{page.base.rpartition('/')[0]}/{quote(page.title.replace(' ', '_'))}"
    return RawArticle(page.number, page.title, text, url)


def _pages(path: Path) -> Iterator[_Page]:
    """The pages that are articles, with their markup."""
    if not path.name.endswith(SUFFIXES):
        raise InputError(f"{path}: unknown kind of file; known: {', '.join(SUFFIXES)}")
    export = _Export(path)
    try:
        with bz2.open(path) if path.suffix == ".bz2" else path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield from export.feed(block)
        yield from export.feed(b"", last=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except EOFError:
        raise InputError(
            f"{path}:{export.line}: the file is truncated: its compressed data end here; copy it"
            " again"
        ) from None
    except OSError as error:
        if error.errno is None:
            raise InputError(f"{path}:{export.line}: not valid bzip2 data: {error}") from None
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


class _Export:
    """The state of reading an export: where expat is, and the pages that are complete."""

    def __init__(self, path: Path) -> None:
        self._file = path
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.buffer_size = 1 << 16
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._doctype
        self._within: list[str] = []
        self._text: list[str] | None = None
        self._length = 0
        self._space = ""
        self._base, self._media = "", set(MEDIA)
        self._page = _Page("", "", ())
        self._any = False
        self._done: list[_Page] = []

    @property
    def line(self) -> int:
        """The line that is being read."""
        return self._parser.CurrentLineNumber

    def feed(self, block: bytes, *, last: bool = False) -> list[_Page]:
        """The pages that the next bytes complete."""
        try:
            self._parser.Parse(block, last)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            if last:
                raise InputError(
                    f"{self._file}:{error.lineno}: the file is truncated or empty: {reason}"
                ) from None
            raise InputError(
                f"{self._file}:{error.lineno}: not well-formed XML: {reason}"
            ) from None
        if last and not self._any:
            raise InputError(f"{self._file}: the file has no pages")
        done, self._done = self._done, []
        return done

    def _doctype(self, *_: object) -> None:
        raise InputError(
            f"{self._file}:{self.line}: a document type is declared, which is refused: no export of"
            " MediaWiki has one"
        )

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        parent = self._within[-1] if self._within else ""
        if not self._within and name != "mediawiki":
            raise InputError(f"{self._file}:{self.line}: <{name}> is no export of MediaWiki")
        self._within.append(name)
        if (parent, name) == ("mediawiki", "page"):
            self._any = True
            self._page = _Page("", self._base, self._media)
        elif (parent, name) == ("page", "redirect"):
            self._page.redirects = True
        elif name == "namespace":
            self._space = attributes.get("key", "")
        self._text = [] if (parent, name) in _KEPT else None
        self._length = 0

    def _characters(self, text: str) -> None:
        if self._text is None:
            return
        self._length += len(text)
        if self._length <= _LARGEST:
            self._text.append(text)

    def _end(self, name: str) -> None:
        self._within.pop()
        parent = self._within[-1] if self._within else ""
        page = self._page
        if self._text is not None:
            value = "".join(self._text)
            if name == "text":
                page.text, page.too_long = value, self._length > _LARGEST
            elif name == "title":
                page.title = " ".join(value.split())
            elif name == "ns":
                page.space = value.strip()
            elif name == "id":
                page.number = value.strip()
            elif name == "model":
                page.model = value.strip()
            elif name == "base":
                self._base = value.strip()
            elif self._space in _FILES_AND_CATEGORIES:
                self._media.add(value.strip().lower())
        self._text = None
        if (parent, name) == ("mediawiki", "page") and page.is_article:
            self._done.append(page)
