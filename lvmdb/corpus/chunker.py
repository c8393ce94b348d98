"""Text into concepts: pieces of a few sentences that one vector can stand for; chunkers by name."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from lvmdb.corpus.chunkers.base import Chunk, Chunker
from lvmdb.corpus.chunkers.paragraph import ParagraphChunker
from lvmdb.corpus.chunkers.semantic import Embed, SemanticChunker
from lvmdb.corpus.chunkers.sentence import SentenceChunker
from lvmdb.errors import UnknownNameError, UsageError

__all__ = ["CHUNKERS", "Chunk", "Chunker", "Embed", "flag_options", "get_chunker"]

_CHUNKERS: dict[str, type[SentenceChunker | ParagraphChunker | SemanticChunker]] = {
    c.name: c for c in (SentenceChunker, ParagraphChunker, SemanticChunker)
}
CHUNKERS = tuple(sorted(_CHUNKERS))


def get_chunker(name: str, *, embed: Embed | None = None, **options: Any) -> Chunker:
    """The chunker called `name`, with options other than the defaults.

    Args:
        name: one of `CHUNKERS`.
        embed: encodes sentences; the semantic chunker needs it, the others do not look at it.
        options: some of the chunker's `options`.

    Raises:
        UnknownNameError: no such chunker, or it has no such option.
        UsageError: the options contradict each other, or the encoder is missing.
    """
    kind = _kind(name)
    known = [f.name for f in fields(kind) if f.name != "embed"]
    for option in options:
        if option not in known:
            raise UnknownNameError(f"option of the {name} chunker", option, known)
    if kind is not SemanticChunker:
        return kind(**options)
    if embed is None:
        raise UsageError(
            "the semantic chunker compares the vectors of sentences: it needs an encoder"
        )
    return SemanticChunker(embed, **options)


def flag_options(
    name: str, *, words: str | None = None, percentile: float | None = None
) -> dict[str, Any]:
    """What the command line's flags mean as options of the chunker called `name`.

    Args:
        name: one of `CHUNKERS`.
        words: `--words LOW-HIGH`. The sentence chunker's other limits keep their proportions to
            these.
        percentile: `--percentile`, of the semantic chunker.

    Raises:
        UnknownNameError: no such chunker.
        UsageError: a flag is malformed, or the chunker has no use for it.
    """
    kind = _kind(name)
    options: dict[str, Any] = {}
    if words is not None:
        match = re.fullmatch(r"(\d{1,4})-(\d{1,4})", words)
        low, high = map(int, match.groups()) if match else (0, 0)
        if not 1 <= low < high:
            raise UsageError(f"--words takes LOW-HIGH, as 40-80, not '{words}'")
        if kind is ParagraphChunker:
            raise UsageError("--words: the paragraph chunker leaves paragraphs whole")
        options = {"low": low, "high": high, "min_words": min(low, kind.min_words)}
        if kind is SentenceChunker:
            options |= {
                "full": (low + high) // 2,
                "tail": low * 5 // 8,
                "tail_limit": high * 9 // 8,
                "stretch": high * 19 // 16,
                "longest": high * 11 // 8,
            }
    if percentile is not None:
        if kind is not SemanticChunker:
            raise UsageError(f"--percentile: the {name} chunker has no use for it")
        options["percentile"] = percentile
    return options


def _kind(name: str) -> type[SentenceChunker | ParagraphChunker | SemanticChunker]:
    if name not in _CHUNKERS:
        raise UnknownNameError("chunker", name, CHUNKERS)
    return _CHUNKERS[name]
