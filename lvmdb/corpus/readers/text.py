"""Articles from files of plain text and Markdown, one a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lvmdb.corpus.articles import RawArticle
from lvmdb.corpus.readers.base import OnError, Place, made
from lvmdb.corpus.readers.markdown import prose
from lvmdb.errors import InputError

PLAIN = (".txt",)
MARKDOWN = (".md", ".markdown")

_LARGEST = 1 << 26


def read_text(
    source: str | Path,
    *,
    start: int = 0,
    limit: int | None = None,
    on_error: OnError | None = None,
) -> Iterator[RawArticle]:
    """Articles from a `.txt`, `.md` or `.markdown` file (UTF-8), or from all of those in a folder.

    A folder's files come sorted by name, level by level, a subfolder's in its place among them;
    hidden ones (`.git`) and links to folders are passed over. Each file is a place; those before
    `start` are not opened. The source key is the path within the folder, with slashes; the title
    the first heading of Markdown, else the file's name without its ending. Memory is one file,
    and the names of the folders that it lies in.

    Raises:
        InputError: the source is missing, a file of another kind, or a folder without any of them;
            or, as `Reader` says, a file cannot be read, is not UTF-8, or is larger than 64 MiB.
    """
    yield from made(_places(Path(source)), start, limit, on_error)


def _places(source: Path) -> Iterator[Place]:
    if source.is_dir():
        empty = True
        for path in _files(source):
            empty = False
            yield partial(_article, path, path.relative_to(source).as_posix())
        if empty:
            raise InputError(f"{source}: the folder holds no {', '.join(PLAIN + MARKDOWN)} files")
    elif not source.exists():
        raise InputError(f"{source}: no such file or folder")
    elif not _is_text(source.name):
        raise InputError(
            f"{source}: unknown kind of file; known: {', '.join(PLAIN + MARKDOWN)}, and folders"
        )
    else:
        yield partial(_article, source, source.name)


def _files(folder: Path) -> Iterator[Path]:
    """The files below a folder; ordered by their names, compared part by part."""
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror or error}") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(folder / entry.name)
        elif _is_text(entry.name) and not entry.is_dir():
            yield folder / entry.name


def _is_text(name: str) -> bool:
    return name.lower().endswith(PLAIN + MARKDOWN)


def _article(path: Path, key: str) -> RawArticle:
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(raw) > _LARGEST:
        raise InputError(f"{path}: larger than 64 MiB, and a file is one article: cut it up")
    try:
        text = raw.decode("utf-8-sig").replace("\0", "")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: not UTF-8: {error.reason} at byte {error.start + 1} of the file"
        ) from None
    title = ""
    if path.name.lower().endswith(MARKDOWN):
        title, text = prose(text.replace("\r\n", "\n"))
    return RawArticle(_utf8(key), title or _utf8(path.stem), text)


def _utf8(name: str) -> str:
    """A file's name; bytes in it that are not UTF-8, which no database holds, as `\\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
