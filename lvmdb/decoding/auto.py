"""Decoding by whatever is better: the nearest concept where it is near enough, else vec2text.

What near enough is, is measured for each encoder and corpus: see `calibration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from lvmdb.corpus.articles import Vectors
from lvmdb.decoding.decoded import Decoded, Decoder


class AutoDecoder:
    """The nearest concept at or above a cosine; below it, what vec2text writes.

    What is missing is made do without, and each text that it would have decided says so (`why`).

    Args:
        nearest: finds concepts.
        vec2text: writes texts; None where there is none for the encoder.
        threshold: the least cosine of a nearest concept that is taken; None where nobody has
            calibrated it: then the nearest concept is taken always.
    """

    def __init__(self, nearest: Decoder, vec2text: Decoder | None, threshold: float | None) -> None:
        self._nearest, self._vec2text = nearest, vec2text
        self.threshold = threshold

    def decode(
        self, vectors: Vectors, *, without: Sequence[Sequence[UUID]] | None = None
    ) -> list[Decoded]:
        """A text for each vector; see `Decoder`. What vec2text wrote keeps the hits beside it."""
        found = self._nearest.decode(vectors, without=without)
        if self.threshold is None:
            return [replace(each, why="no threshold is calibrated") for each in found]
        # What has no cosine is above nothing.
        far = [row for row, each in enumerate(found) if not each.cosine >= self.threshold]
        if self._vec2text is None:
            for row in far:
                found[row] = replace(
                    found[row], why=f"below the threshold {self.threshold:.2f}, and no vec2text"
                )
            return found
        if far:
            for row, written in zip(far, self._vec2text.decode(vectors[far]), strict=True):
                seconds = {**found[row].seconds}
                for stage, taken in written.seconds.items():
                    seconds[stage] = seconds.get(stage, 0.0) + taken
                found[row] = replace(written, hits=found[row].hits, seconds=seconds)
        return found
