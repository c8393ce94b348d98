"""Text into concepts: pieces of a few sentences that one vector can stand for; chunkers by name."""

from __future__ import annotations

from typing import Any

from lvmdb.corpus.chunkers.base import Chunk, Chunker
from lvmdb.corpus.chunkers.paragraph import ParagraphChunker
from lvmdb.corpus.chunkers.sentence import SentenceChunker
from lvmdb.errors import UnknownNameError

__all__ = ["CHUNKERS", "Chunk", "Chunker", "get_chunker"]

_CHUNKERS: dict[str, type[SentenceChunker] | type[ParagraphChunker]] = {
    c.name: c for c in (SentenceChunker, ParagraphChunker)
}
CHUNKERS = tuple(sorted(_CHUNKERS))


def get_chunker(name: str, **options: Any) -> Chunker:
    """The chunker called `name`, with options other than the defaults.

    Raises:
        UnknownNameError: no such chunker, or it has no such option.
        UsageError: the options contradict each other.
    """
    if name not in _CHUNKERS:
        raise UnknownNameError("chunker", name, CHUNKERS)
    known = _CHUNKERS[name]().options
    for option in options:
        if option not in known:
            raise UnknownNameError(f"option of the {name} chunker", option, known)
    return _CHUNKERS[name](**options)
