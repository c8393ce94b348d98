"""Decoding by vec2text: a text is written for the vector, and its own vector held against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from uuid import UUID

from lvmdb.corpus.articles import Vectors
from lvmdb.decoding.decoded import Decoded, band
from lvmdb.decoding.vec2text import Inverted


class InvertingDecoder:
    """Decodes by what writes texts for vectors.

    Args:
        invert: from vectors `(n, 768)` to as many texts with their own vectors; a client of the
            decoding service, bound to the space of the vectors.
    """

    def __init__(self, invert: Callable[[Vectors], Sequence[Inverted]]) -> None:
        self._invert = invert

    def decode(
        self, vectors: Vectors, *, without: Sequence[Sequence[UUID]] | None = None
    ) -> list[Decoded]:
        """A text that is written for each vector; see `Decoder`. Nothing is left out of it.

        Raises:
            EncoderError, EndpointError: as `Vec2Text.decode`.
        """
        if not len(vectors):
            return []
        began = perf_counter()
        written = self._invert(vectors)
        seconds = {"decode": (perf_counter() - began) / len(vectors)}
        return [
            Decoded(
                each.text,
                "vec2text",
                each.cosine,
                band(each.cosine),
                (),
                seconds,
                vector=each.vector,
            )
            for each in written
        ]
