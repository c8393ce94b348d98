"""Articles of Wikipedia: from Hugging Face's `wikimedia/wikipedia`, or from a dump."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lvmdb.corpus.articles import RawArticle
from lvmdb.corpus.readers.base import OnError, Place, made
from lvmdb.corpus.readers.jsonl import optional_text, required_text
from lvmdb.corpus.readers.mediawiki import SUFFIXES, read_mediawiki
from lvmdb.errors import InputError, MissingDependencyError

DATASET = "wikimedia/wikipedia"

_SNAPSHOT = re.compile(r"\d{8}\.[a-z-]+")
_BATCH = 64  # rows that are turned into Python's objects at a time


def read_wikipedia(
    source: str | Path,
    *,
    start: int = 0,
    limit: int | None = None,
    on_error: OnError | None = None,
) -> Iterator[RawArticle]:
    """Articles from one of three kinds of source.

    - A snapshot of `wikimedia/wikipedia` by its name (date and language), as `20231101.en`, that
      is streamed from Hugging Face by `datasets`: nothing of it is kept on disk.
    - A folder of that data set's Parquet files, or one such file.
    - A dump of a MediaWiki, `.xml` or `.xml.bz2`: see `read_mediawiki`.

    Of the first two each row is a place, in the order of files and rows. The source key is the
    page's id, as with a dump. Each line of the text becomes a paragraph: in that data set they are
    paragraphs, headings and items of lists. Rows before `start` are passed over a block at a time;
    of what is streamed they are still fetched.

    Raises:
        InputError: the source is missing, unreadable or of no known kind; or, as `Reader` says, a
            row is without title, text or id. The message names source and row.
        MissingDependencyError: `datasets`, or for dumps `mwparserfromhell`, is not installed.
    """
    if str(source).endswith(SUFFIXES):
        yield from read_mediawiki(source, start=start, limit=limit, on_error=on_error)
        return
    begin = max(start, 0)
    rest = None if limit is None else limit - begin
    yield from made(_places(str(source), begin), start - begin, rest, on_error)


def _places(source: str, start: int) -> Iterator[Place]:
    row = start
    try:
        for batch in _stream(source).skip(start).iter(batch_size=_BATCH):
            for record in batch.to_pylist():
                yield partial(_article, f"{source}: row {row}", record)
                row += 1
    except (InputError, MissingDependencyError):
        raise
    except Exception as error:  # the library's own, its readers' and its transports'
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{source}: cannot be read from row {row} on: {reason}") from error


def _stream(source: str) -> Any:
    """The rows of a source as a stream of Arrow tables."""
    path = Path(source)
    local = path.exists()
    if not local and not _SNAPSHOT.fullmatch(source):
        raise InputError(
            f"{source}: no such file or folder, and no snapshot such as 20231101.en either"
        )
    try:
        import datasets
    except ImportError:
        raise MissingDependencyError("datasets", "wikipedia", "reading Wikipedia") from None
    datasets.disable_progress_bars()
    where: dict[str, Any] = {"path": DATASET, "name": source}
    if path.is_dir():
        where = {"path": source}
    elif local:
        if path.suffix != ".parquet":
            raise InputError(
                f"{source}: unknown kind of file; known: .parquet, {', '.join(SUFFIXES)}"
            )
        where = {"path": "parquet", "data_files": source}
    rows: Any = datasets.load_dataset(**where, split="train", streaming=True)
    return rows.with_format("arrow")


def _article(where: str, record: dict[str, Any]) -> RawArticle:
    number = record.get("id")
    if isinstance(number, int):
        record = {**record, "id": str(number)}
    text = record.get("text")
    if not isinstance(text, str):
        raise InputError(f"{where}: `text` is missing")
    return RawArticle(
        required_text(where, record, "id").replace("\0", ""),
        " ".join(required_text(where, record, "title").replace("\0", "").split()),
        "\n\n".join(line for line in text.replace("\0", "").splitlines() if line.strip()),
        optional_text(where, record, "url"),
    )
