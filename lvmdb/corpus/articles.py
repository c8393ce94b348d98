"""Articles on their way into the database: as raw text, as chunks, and with vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lvmdb.db.types import DIMENSION

if TYPE_CHECKING:
    from lvmdb.corpus.episodes import Episode
    from lvmdb.corpus.tmd import Code, PartialCode

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class RawArticle:
    """An article as a reader gives it.

    Attributes:
        source_key: the article's name within its source: stable between runs, unique.
        title: for people.
        text: paragraphs separated by blank lines.
        url: where the text was found, if known.
        code: that its source gives it, and so each of its concepts, if it does.
    """

    source_key: str
    title: str
    text: str
    url: str | None = None
    code: Code | None = None


@dataclass(frozen=True, eq=False)
class ChunkedArticle:
    """An article cut into concepts, not yet encoded, or not to be.

    Attributes:
        source_key: as in `RawArticle`.
        title: for people.
        url: where the text was found, if known.
        texts: the concepts' texts in reading order.
        source: file and line, for messages.
        vectors: `(len(texts), 768)` float32 of unit norm in the same order, or None.
        codes: the concepts' codes in the same order, None of one that is not known; or None where
            nobody was asked.
        tagger: who decided them, as `tmd_source` says it.
        episodes: that cover the concepts, or None where none were made.
    """

    source_key: str
    title: str
    url: str | None
    texts: tuple[str, ...]
    source: str
    vectors: Vectors | None = None
    codes: tuple[PartialCode | None, ...] | None = None
    tagger: str | None = None
    episodes: tuple[Episode, ...] | None = None

    def __post_init__(self) -> None:
        if self.vectors is not None and self.vectors.shape != (len(self.texts), DIMENSION):
            raise ValueError(
                f"{self.source}: {len(self.texts)} texts, but vectors of shape {self.vectors.shape}"
            )


@dataclass(frozen=True, eq=False)
class VectorArticle(ChunkedArticle):
    """A chunked article that has its vectors."""

    vectors: Vectors
