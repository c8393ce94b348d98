"""Decoding by vec2text: a text is written for the vector, and its own vector held against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from uuid import UUID

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.decoding.decoded import Decoded, band
from lvmdb.metrics.vectors import cosine


class InvertingDecoder:
    """Decodes by what writes texts for vectors.

    Args:
        write: from vectors `(n, 768)` to as many texts.
        encode: from texts to their vectors `(n, 768)`, by the encoder of the vectors.
    """

    def __init__(
        self,
        write: Callable[[Vectors], list[str]],
        encode: Callable[[Sequence[str]], Vectors],
    ) -> None:
        self._write, self._encode = write, encode

    def decode(
        self, vectors: Vectors, *, without: Sequence[Sequence[UUID]] | None = None
    ) -> list[Decoded]:
        """A text that is written for each vector; see `Decoder`. Nothing can be left out of it."""
        if not len(vectors):
            return []
        began = perf_counter()
        texts = self._write(vectors)
        # A text of spaces has no vector.
        said = [text for text in texts if text.strip()]
        cosines = np.full(len(texts), np.nan)
        if said:
            places = [row for row, text in enumerate(texts) if text.strip()]
            cosines[places] = cosine(vectors[places], self._encode(said))
        seconds = {"decode": (perf_counter() - began) / len(vectors)}
        return [
            Decoded(text, "vec2text", float(c), band(float(c)), (), seconds)
            for text, c in zip(texts, cosines, strict=True)
        ]
