"""Who gives concepts their domain/task/modifier codes: what all taggers have in common.

A tagger is sure of a code or of parts of it, unsure, or failed; it never guesses to have something
to say. What it is unsure of is NULL, what failed is NULL with an `ingest_error`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.tmd import SIZES, PartialCode

TAGGERS = ("embedding", "llm")
"""The taggers by name, as `tmd_source` has them. `given` are codes that came with their source."""

GIVEN = "given"


@dataclass(frozen=True)
class Tag:
    """What a tagger says of one concept.

    Attributes:
        code: domain, task and modifier, each None where it is not known; None: nothing is known.
        error: why there is no code, for `ingest_error`; None beside no code: the tagger is unsure.
    """

    code: PartialCode | None
    error: str | None = None

    def __post_init__(self) -> None:
        if self.code is None:
            return
        if self.error is not None:
            raise ValueError("a code that failed is none")
        if self.code == (None, None, None):
            raise ValueError("a code of which nothing is known is None")
        for part, size in zip(self.code, SIZES, strict=True):
            if part is not None and not 0 <= part < size:
                raise ValueError(f"{part} is not from 0 to {size - 1}")


UNSURE = Tag(None)


class Tagger(Protocol):
    """Gives concepts their codes.

    Attributes:
        name: what `tmd_source` says.
    """

    name: str

    @property
    def options(self) -> Mapping[str, Any]:
        """What else decides the codes, as JSON; part of an article's content hash."""

    def tag(self, texts: Sequence[str], vectors: Vectors | None) -> list[Tag]:
        """A tag for each text, in their order.

        Args:
            texts: of the concepts.
            vectors: `(len(texts), 768)` of unit norm, by the dataset's encoder; None if none.
        """
