"""Articles from a file of JSON, one a line; and such lines for whoever else reads them."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lvmdb.corpus.articles import RawArticle
from lvmdb.corpus.readers.base import OnError, Place, broken, given, made, report
from lvmdb.corpus.tmd import parse_code
from lvmdb.errors import InputError

Record = dict[str, Any]


def read_jsonl(
    source: str | Path,
    *,
    start: int = 0,
    limit: int | None = None,
    on_error: OnError | None = None,
) -> Iterator[RawArticle]:
    """Articles from a `.jsonl` or `.jsonl.gz` file, in the file's order.

    A line is an object with `title` and `text` (strings), and optionally `id` (string or number),
    `url`, and `tmd_code`, such as `7.0.5`, which all its concepts get. The source key is the `id`
    where there is one, else the title; the second, third... article of a title that has been seen
    get `#2`, `#3`... behind it, in the order of the file, so a file that only grows keeps its keys.
    An `id` that has been seen is an error. Memory is one line, and some 100 bytes for each key (to
    know those that are taken).

    Each line that is not blank is a place. Those before `start` are parsed all the same, for their
    keys.

    Raises:
        InputError: as `Reader` says; the message names file and line.
    """
    yield from made(_places(Path(source)), start, limit, on_error)


def _places(path: Path) -> Iterator[Place]:
    taken = _Keys()
    for line, raw in _lines(path):
        try:
            article = _article(f"{path}:{line}", _decode(f"{path}:{line}", raw), taken)
        except InputError as error:
            yield broken(error)
            continue
        yield given(article)


def json_lines(path: Path, on_error: OnError | None = None) -> Iterator[tuple[int, Record]]:
    """The objects of a `.jsonl` or `.jsonl.gz` file with their line numbers, from 1.

    Blank lines are passed over.

    Raises:
        InputError: the file is missing, unreadable, truncated or empty; or, without `on_error`, a
            line is not UTF-8, not JSON or not an object.
    """
    for line, raw in _lines(path):
        try:
            record = _decode(f"{path}:{line}", raw)
        except InputError as error:
            report(error, on_error)
            continue
        yield line, record


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank."""
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise InputError(f"{path}: unknown kind of file; known: .jsonl, .jsonl.gz")
    empty = True
    for line, raw in _raw_lines(path):
        if raw.strip():
            empty = False
            yield line, raw
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


def _article(where: str, record: Record, taken: _Keys) -> RawArticle:
    title = required_text(where, record, "title").replace("\0", "").strip()
    text = required_text(where, record, "text").replace("\0", "")
    url = optional_text(where, record, "url")
    key = record.get("id")
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    elif key is not None:
        key = required_text(where, record, "id").replace("\0", "")
    if key is None:
        key = taken.numbered(title)
    elif not taken.take(key):
        raise InputError(f"{where}: the id '{key}' is that of an earlier line")
    code = optional_text(where, record, "tmd_code")
    return RawArticle(
        key,
        title,
        text,
        url.replace("\0", "") if url else None,
        None if code is None else parse_code(where, code),
    )


class _Keys:
    """The keys that are taken, and the last number that each was given behind it."""

    def __init__(self) -> None:
        self._last: dict[bytes, int] = {}

    def take(self, key: str) -> bool:
        """Takes a key; False if it is taken already."""
        digest = _digest(key)
        if digest in self._last:
            return False
        self._last[digest] = 1
        return True

    def numbered(self, title: str) -> str:
        """Takes and returns `title`, or the first of `title#2`, `title#3`... that is free."""
        if self.take(title):
            return title
        digest = _digest(title)
        while True:
            self._last[digest] += 1
            key = f"{title}#{self._last[digest]}"
            if self.take(key):
                return key


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()
