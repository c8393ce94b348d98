"""What a decoder is, and what it gives: a text for a vector, and how far the two are apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from lvmdb.corpus.articles import Vectors
from lvmdb.retrieval.found import Hit

BANDS: tuple[tuple[str, float], ...] = (("certain", 0.95), ("likely", 0.85), ("possible", 0.75))
"""How far a text is to be trusted, by the least cosine; below the last it is `UNSURE`."""

UNSURE = "unsure"


def band(cosine: float) -> str:
    """The band of a cosine: `certain`, `likely`, `possible` or `unsure`."""
    return next((name for name, least in BANDS if cosine >= least), UNSURE)


@dataclass(frozen=True)
class Decoded:
    """A text for a vector.

    Attributes:
        text: what was found or written; empty where nothing was left to be found.
        method: `nearest` or `vec2text`.
        cosine: of the vector that was decoded to the vector of the text.
        band: of that cosine; see `band`.
        hits: the nearest concepts, best first; empty where none were looked for.
        seconds: by stage, `search` and `decode`; of several vectors that were decoded at once,
            each has its share.
        why: where the text was come by otherwise than asked for, what led to it.
        vector: `(768,)` of the text, where it was written and has been encoded again; of a concept
            it is in the database.
    """

    text: str
    method: str
    cosine: float
    band: str
    hits: Sequence[Hit]
    seconds: Mapping[str, float]
    why: str | None = None
    vector: Vectors | None = field(default=None, compare=False, repr=False)


class Decoder(Protocol):
    """Turns vectors into texts; for one thread at a time."""

    def decode(
        self, vectors: Vectors, *, without: Sequence[Sequence[UUID]] | None = None
    ) -> list[Decoded]:
        """A text for each vector `(n, 768)`, of any length.

        Args:
            vectors: what to decode.
            without: of each, concepts that are not to be found, nor any with the same text.

        Raises:
            CorpusError: a vector has no direction.
        """
        ...
