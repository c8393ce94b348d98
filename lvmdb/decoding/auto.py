"""Decoding by whatever is better: the nearest concept where it is near enough, else vec2text.

What near enough is, is measured for each encoder and corpus: see `calibration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from lvmdb.corpus.articles import Vectors
from lvmdb.decoding.decoded import Decoded, Decoder
from lvmdb.errors import EncoderError, EndpointAwayError, EndpointError


class AutoDecoder:
    """The nearest concept at or above a cosine; below it, what vec2text writes.

    What is missing, or does not answer, is made do without; each text that it would have decided
    says so (`why`).

    Args:
        nearest: finds concepts.
        vec2text: writes texts; None where there is none for the encoder.
        threshold: the least cosine of a nearest concept that is taken; None where nobody has
            calibrated it: then the nearest concept is taken always.
        lacks: why there is no vec2text.
    """

    def __init__(
        self,
        nearest: Decoder,
        vec2text: Decoder | None,
        threshold: float | None,
        *,
        lacks: str = "there is no vec2text",
    ) -> None:
        self._nearest, self._vec2text = nearest, vec2text
        self.threshold = threshold
        self._lacks = lacks

    def decode(
        self, vectors: Vectors, *, without: Sequence[Sequence[UUID]] | None = None
    ) -> list[Decoded]:
        """A text for each vector; see `Decoder`. What vec2text wrote keeps the hits beside it."""
        found = self._nearest.decode(vectors, without=without)
        if self.threshold is None:
            return [replace(each, why="no threshold is calibrated") for each in found]
        # What has no cosine is above nothing.
        far = [row for row, each in enumerate(found) if not each.cosine >= self.threshold]
        for row, written in zip(far, self._write(vectors[far]), strict=False):
            seconds = {**found[row].seconds}
            for stage, taken in written.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + taken
            found[row] = replace(written, hits=found[row].hits, seconds=seconds)
        return [
            replace(each, why=f"below {self.threshold:.2f}, and {self._lacks}")
            if row in far and each.method == "nearest"
            else each
            for row, each in enumerate(found)
        ]

    def _write(self, vectors: Vectors) -> list[Decoded]:
        """What vec2text makes of vectors; nothing where there is none."""
        if self._vec2text is None or not len(vectors):
            return []
        try:
            return self._vec2text.decode(vectors)
        except (EncoderError, EndpointError) as error:
            self._lacks = f"no vec2text: {error}"
            if isinstance(error, (EncoderError, EndpointAwayError)):
                # It will not be better the next time.
                self._vec2text = None
            return []
