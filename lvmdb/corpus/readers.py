"""Readers: from a source of text to a stream of articles, in an order that never changes.

`jsonl` reads a file, one article a line. `python-docs` reads the language reference that every
CPython carries (`pydoc_data.topics`): a small real corpus that needs no network. Both stream.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from lvmdb.corpus.articles import RawArticle
from lvmdb.errors import InputError, UnknownNameError

OnError = Callable[[InputError], None]
Record = dict[str, Any]


class Reader(Protocol):
    """Reads the articles of a source.

    Args:
        source: a path; `python-docs` has no use for it.
        limit: at most this many articles.
        on_error: receives each broken line's error, and reading goes on behind it; without it the
            first is raised. A file that is missing, truncated or empty is raised in any case.
    """

    def __call__(
        self, source: str | Path, *, limit: int | None = None, on_error: OnError | None = None
    ) -> Iterator[RawArticle]: ...


def get_reader(name: str) -> Reader:
    """The reader called `name`.

    Raises:
        UnknownNameError: there is none of that name; the message lists those that are.
    """
    if name not in _READERS:
        raise UnknownNameError("reader", name, READERS)
    return _READERS[name]


def read_jsonl(
    source: str | Path, *, limit: int | None = None, on_error: OnError | None = None
) -> Iterator[RawArticle]:
    """Articles from a `.jsonl` or `.jsonl.gz` file, in the file's order.

    A line is an object with `title` and `text` (strings), and optionally `id` (string or number)
    and `url`. The source key is the `id` where there is one, else the title; the second, third...
    article of a title that has been seen get `#2`, `#3`... behind it, in the order of the file, so
    a file that only grows keeps its keys. An `id` that has been seen is an error. Memory is one
    line, and 16 bytes for each key (to know those that are taken).

    Raises:
        InputError: as `Reader` says; the message names file and line.
    """
    path = Path(source)
    taken: set[bytes] = set()
    count = 0
    if limit is not None and limit <= 0:
        return
    for line, record in json_lines(path, on_error):
        try:
            article = _article(f"{path}:{line}", record, taken)
        except InputError as error:
            _report(error, on_error)
            continue
        yield article
        count += 1
        if count == limit:
            return


def read_python_docs(
    source: str | Path = "-", *, limit: int | None = None, on_error: OnError | None = None
) -> Iterator[RawArticle]:
    """The topics of Python's language reference, sorted by name.

    Many topics repeat a section of another ("with" is part of "compound"): one whose paragraphs
    all occur in a longer one is left out, and of those with the same text the first by name stays.
    With a `limit`, the longest (in characters of text; of equals, the first by name) are given,
    again sorted by name.

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
    yield from sorted((article for article, _ in chosen), key=lambda a: a.source_key)


_READERS: dict[str, Reader] = {"jsonl": read_jsonl, "python-docs": read_python_docs}
READERS = tuple(sorted(_READERS))


def json_lines(path: Path, on_error: OnError | None = None) -> Iterator[tuple[int, Record]]:
    """The objects of a `.jsonl` or `.jsonl.gz` file with their line numbers, from 1.

    Blank lines are passed over.

    Raises:
        InputError: the file is missing, unreadable, truncated or empty; or, without `on_error`, a
            line is not UTF-8, not JSON or not an object.
    """
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise InputError(f"{path}: unknown kind of file; known: .jsonl, .jsonl.gz")
    empty = True
    for line, raw in _raw_lines(path):
        if not raw.strip():
            continue
        empty = False
        try:
            record = _decode(f"{path}:{line}", raw)
        except InputError as error:
            _report(error, on_error)
            continue
        yield line, record
    if empty:
        raise InputError(f"{path}: the file is empty")


def _raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    line = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line, raw in enumerate(file, start=1):
                yield line, raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except EOFError:
        raise InputError(
            f"{path}:{line + 1}: the file is truncated: its compressed data end here; copy it again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}:{line + 1}: not valid gzip data: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


def _decode(where: str, raw: bytes) -> Record:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8: {error.reason} at byte {error.start + 1}") from None
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON: {error.msg} at column {error.colno}") from None
    except (RecursionError, ValueError) as error:
        raise InputError(f"{where}: not JSON that can be read: {error}") from None
    if not isinstance(record, dict):
        raise InputError(f"{where}: not a JSON object but a {type(record).__name__}")
    return record


def required_text(where: str, record: Record, key: str) -> str:
    """The string under `key`.

    Raises:
        InputError: it is missing, not a string, blank, or holds half a surrogate pair (which
            UTF-8, and so PostgreSQL, cannot hold).
    """
    if key not in record:
        raise InputError(f"{where}: `{key}` is missing")
    value = record[key]
    if not isinstance(value, str):
        raise InputError(f"{where}: `{key}` is not a string but a {type(value).__name__}")
    if not value.strip().strip("\0"):
        raise InputError(f"{where}: `{key}` is empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"{where}: `{key}` is not UTF-8: it has half a surrogate pair") from None
    return value


def optional_text(where: str, record: Record, key: str) -> str | None:
    """The string under `key`, or None where it is missing or null; errors as `required_text`."""
    return None if record.get(key) is None else required_text(where, record, key)


def _article(where: str, record: Record, taken: set[bytes]) -> RawArticle:
    title = required_text(where, record, "title").replace("\0", "").strip()
    text = required_text(where, record, "text").replace("\0", "")
    url = optional_text(where, record, "url")
    key = record.get("id")
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    elif key is not None:
        key = required_text(where, record, "id").replace("\0", "")
    if key is None:
        key = title
        for number in range(2, len(taken) + 3):
            if _digest(key) not in taken:
                break
            key = f"{title}#{number}"
    elif _digest(key) in taken:
        raise InputError(f"{where}: the id '{key}' is that of an earlier line")
    taken.add(_digest(key))
    return RawArticle(key, title, text, url.replace("\0", "") if url else None)


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def _report(error: InputError, on_error: OnError | None) -> None:
    if on_error is None:
        raise error
    on_error(error)


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
