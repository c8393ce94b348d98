"""Readers by name."""

from __future__ import annotations

from lvmdb.corpus.readers.base import Reader
from lvmdb.corpus.readers.jsonl import read_jsonl
from lvmdb.corpus.readers.python_docs import read_python_docs
from lvmdb.corpus.readers.text import read_text
from lvmdb.corpus.readers.wikipedia import read_wikipedia
from lvmdb.errors import UnknownNameError

_READERS: dict[str, Reader] = {
    "jsonl": read_jsonl,
    "python-docs": read_python_docs,
    "text": read_text,
    "wikipedia": read_wikipedia,
}
READERS = tuple(sorted(_READERS))


def get_reader(name: str) -> Reader:
    """The reader called `name`.

    Raises:
        UnknownNameError: there is none of that name; the message lists those that are.
    """
    if name not in _READERS:
        raise UnknownNameError("reader", name, READERS)
    return _READERS[name]
