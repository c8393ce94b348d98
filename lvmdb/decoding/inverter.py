"""Texts for an encoder's vectors, by vec2text's process: it decodes no other encoder's.

Before the first vector the encoder inside the corrector encodes the probe sentences: what it makes
of them must be the fingerprint that is stored. Fluent nonsense is not to be told from a decoded
text by looking at it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, select

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.encoder import (
    MATCH_COSINE,
    PROBE_SENTENCES,
    EncoderSpec,
    least_alike,
    other_space,
    typical_length,
)
from lvmdb.db.schema.corpus import encoder
from lvmdb.decoding.correctors import Weights
from lvmdb.decoding.spaces import Space, fingerprint_of, stored_fingerprint
from lvmdb.decoding.vec2text import packed, unpacked
from lvmdb.decoding.vec2text_child import Child
from lvmdb.errors import EncoderError, ServiceError
from lvmdb.metrics.vectors import normalise

AT_ONCE = 8
"""Vectors that the process is given at a time; in between, nobody may be waiting any more."""

MAX_TOKENS = 128
"""Of a text, for an encoder whose limit is not known."""


@dataclass(frozen=True, eq=False)
class Known:
    """What the database says of an encoder.

    Attributes:
        spec: how it is loaded; of one that is known by its vectors alone, what its name says.
        fingerprint: `(probe sentences, 768)`, as stored.
        max_tokens: what lies behind so many tokens of a text does not count.
    """

    spec: EncoderSpec
    fingerprint: np.ndarray
    max_tokens: int

    @property
    def space(self) -> Space:
        """The space of its vectors."""
        return Space(self.spec.name, fingerprint_of(self.fingerprint))


def known_encoder(connection: Connection, name: str) -> Known:
    """What the database says of an encoder.

    Raises:
        UnknownNameError: there is none of this name.
        EncoderError: it has no fingerprint yet.
    """
    fingerprint = stored_fingerprint(connection, name)
    most = connection.execute(select(encoder.c.max_tokens).where(encoder.c.name == name)).scalar()
    spec = encoders.spec_of(connection, name) or EncoderSpec.of_name(name)
    return Known(spec, fingerprint, most or MAX_TOKENS)


class Inverter:
    """An inverter and a corrector that were found to be those of an encoder; for one thread.

    Args:
        child: the process.
        weights: what it is to load.
        known: the encoder.

    Attributes:
        weights, known: as given.
        cosine: the smallest of a probe sentence's vector to the stored one.

    Raises:
        EncoderError: the weights do not load, or are those of another encoder.
        EndpointError: the process ended.
    """

    def __init__(self, child: Child, weights: Weights, known: Known) -> None:
        self._child, self.weights, self.known = child, weights, known
        self._length = typical_length(known.fingerprint)
        child.load(weights)
        self.cosine = self._held_against_the_fingerprint()

    def decode(
        self,
        vectors: Vectors,
        steps: int,
        beam: int,
        check: Callable[[], object] = lambda: None,
    ) -> tuple[list[str], Vectors]:
        """A text for each of the vectors, and the encoder's vectors of these texts.

        Args:
            vectors: `(n, 768)`, none of zero length; their length does not matter.
            steps: corrections of the first guess.
            beam: guesses that are kept beside each other.
            check: called between pieces of work; what it raises ends the work.

        Returns:
            `n` texts, and `(n, 768)` of unit norm.

        Raises:
            ServiceError: the process cannot do it.
            EndpointError: the process ended.
        """
        # As long as the vectors that the corrector learned from: see `typical_length`.
        wanted = (normalise(vectors) * self._length).astype(np.float32)
        texts: list[str] = []
        found: list[str] = []
        for begin in range(0, len(wanted), AT_ONCE):
            check()
            answer = self._child.ask(
                {
                    "decode": packed(wanted[begin : begin + AT_ONCE]),
                    "steps": steps,
                    "beam": beam,
                    "max_tokens": self.known.max_tokens,
                }
            )
            texts += answer["texts"]
            found += answer["vectors"]
        return texts, normalise(unpacked(found)).astype(np.float32)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """The vectors of texts by the encoder inside, `(n, 768)`, of the length that it gives."""
        question = {"embed": list(texts), "max_tokens": self.known.max_tokens}
        try:
            return unpacked(self._child.ask(question)["vectors"])
        except ValueError as error:
            raise EncoderError(
                f"the encoder in '{self.weights.corrector.name}' gives vectors that are {error}"
            ) from error

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def _held_against_the_fingerprint(self) -> float:
        stored, spec = self.known.fingerprint, self.known.spec
        try:
            probes = self.embed(PROBE_SENTENCES)
        except ServiceError as error:
            raise EncoderError(
                f"the encoder in '{self.weights.corrector.name}' does not encode: {error}"
            ) from error
        worst, cosine = least_alike(spec.name, stored, probes)
        if cosine < MATCH_COSINE:
            raise EncoderError(
                f"'{self.weights.inverter.name}' and '{self.weights.corrector.name}' decode the "
                f"vectors of another encoder than '{spec.name}': for probe sentence {worst + 1} "
                f"the cosine is {cosine:.4f}, and at least {MATCH_COSINE} is needed; name "
                f"a pair that was trained on its vectors{other_space(spec)}"
            )
        return cosine
