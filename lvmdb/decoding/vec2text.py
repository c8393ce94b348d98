"""vec2text as the rest of lvmdb sees it: a client of the decoding service.

    with Vec2Text.from_settings(settings) as decoder:
        decoder.texts(vectors, space)               # a text for each vector
        decoder.decode(vectors, space)              # and what its encoder makes of that text

vec2text (Morris et al. 2023, "Text embeddings reveal (almost) as much as text") finds a text whose
vector is a given one: an inverter writes a first guess, and a corrector improves it step by step,
shown the vector that is wanted and that of the guess. Its library lives in an environment of its
own: `lvmdb serve decoding` runs it, and the embedding service passes `/decode` on to it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.http import Endpoint, Patience
from lvmdb.db.types import DIMENSION
from lvmdb.decoding.spaces import Space
from lvmdb.errors import EncoderError, EndpointError, UsageError
from lvmdb.metrics.vectors import cosine
from lvmdb.settings import Settings

DEFAULT_URL = "http://127.0.0.1:8768"
"""Where `lvmdb serve decoding` listens unless it is told otherwise."""

STEPS, BEAM = 20, 4
"""Corrections of a guess, and guesses that are kept beside each other."""

MOST_STEPS, MOST_BEAM, MOST_VECTORS = 50, 16, 64
"""What one request may ask for."""

PATIENCE = Patience(answer_s=600.0, tries=2)
"""A hundred million parameters, a few hundred times: minutes on a CPU."""


@dataclass(frozen=True, eq=False)
class Inverted:
    """A text that was found for a vector.

    Attributes:
        text: what was found; it may be empty.
        cosine: of the vector that was asked for to that of the text.
        vector: `(768,)`, of unit norm: what the decoder's encoder, which is that of the vectors,
            makes of the text.
    """

    text: str
    cosine: float
    vector: Vectors


class Vec2Text:
    """The client; may be used by several threads at once.

    Args:
        url: of the decoding service, or of an embedding service, which passes on.
        token: what the service asks of its callers (`LVMDB_TOKEN`).
        steps: corrections of a guess; 0 leaves the inverter's first one.
        beam: guesses that are kept beside each other; 1 is greedy.
        patience: time-outs and tries.

    Attributes:
        steps, beam: as given.

    Raises:
        UsageError: steps or beam are out of range.
        SettingsError: the address is none, or the token cannot be sent.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        steps: int = STEPS,
        beam: int = BEAM,
        patience: Patience = PATIENCE,
    ) -> None:
        check_effort(steps, beam)
        self.steps, self.beam = steps, beam
        self._endpoint = Endpoint(
            url,
            "decoding service ('lvmdb serve decoding'; LVMDB_DECODING_URL)",
            key=token,
            key_name="LVMDB_TOKEN",
            patience=patience,
        )
        self.url = self._endpoint.url

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        *,
        steps: int = STEPS,
        beam: int = BEAM,
        patience: Patience = PATIENCE,
    ) -> Vec2Text:
        """The client of the service that `LVMDB_DECODING_URL` names, else of this machine's."""
        url = settings.decoding_url or DEFAULT_URL
        return cls(url, settings.token, steps=steps, beam=beam, patience=patience)

    def require_ready(self) -> None:
        """Refuse to go on without the service.

        Raises:
            EndpointAwayError: it is not there.
            EndpointError: it is not ready; the message says why.
        """
        self._endpoint.get("/health")

    def texts(self, vectors: Vectors, encoder: Space) -> list[str]:
        """A text for each vector.

        Args:
            vectors: `(n, 768)`; their length does not matter.
            encoder: whose vectors they are, or are predictions of.

        Raises:
            EncoderError: the service decodes the vectors of another encoder.
            EndpointAwayError: the service is not there, or refuses the token.
            EndpointError: it is not ready, late, or answers with something else.
        """
        return [found.text for found in self.decode(vectors, encoder)]

    def decode(self, vectors: Vectors, encoder: Space) -> list[Inverted]:
        """As `texts`, with what the encoder makes of each text."""
        return [
            found
            for begin in range(0, len(vectors), MOST_VECTORS)
            for found in self._some(vectors[begin : begin + MOST_VECTORS], encoder)
        ]

    def written_by(self, vectors: Vectors, encoder: Space) -> str:
        """Which inverter and corrector write the texts, and which state of them, in one word.

        Args:
            vectors: `(1, 768)`, one of the encoder's, by which it is asked.
            encoder: whose vector it is.

        Raises:
            EncoderError, EndpointError: as `texts`.
        """
        answer = self._asked(vectors, encoder, 0, 1)
        try:
            halves = [answer["inverter"], answer["corrector"]]
            return "+".join(f"{half['name']}@{half['revision'][:12]}" for half in halves)
        except (KeyError, TypeError):
            raise self._another_version(vectors) from None

    def close(self) -> None:
        """Close its connections."""
        self._endpoint.close()

    def __enter__(self) -> Vec2Text:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _some(self, vectors: Vectors, encoder: Space) -> list[Inverted]:
        return self._read(self._asked(vectors, encoder, self.steps, self.beam), vectors)

    def _asked(self, vectors: Vectors, encoder: Space, steps: int, beam: int) -> Any:
        try:
            return self.ask(
                {
                    "vectors": packed(vectors),
                    "encoder": encoder.encoder,
                    "fingerprint": encoder.fingerprint,
                    "steps": steps,
                    "beam": beam,
                    "encoding": "base64",
                }
            )
        except EndpointError as error:
            if error.status == 409:
                raise EncoderError(str(error)) from error
            raise

    def ask(self, body: dict[str, Any]) -> Any:
        """What the service answers to a body of `POST /decode`.

        Raises:
            EndpointError: as `Endpoint.post`.
        """
        return self._endpoint.post("/decode", body)

    def _read(self, answer: Any, vectors: Vectors) -> list[Inverted]:
        try:
            texts, found = answer["texts"], unpacked(answer["vectors"])
            usable = all(isinstance(text, str) for text in texts)
        except (KeyError, TypeError, ValueError):
            texts, found, usable = [], np.empty((0, DIMENSION), np.float32), False
        if not usable or len(texts) != len(vectors) or found.shape != vectors.shape:
            raise self._another_version(vectors)
        return [
            Inverted(text, float(near), vector)
            for text, near, vector in zip(texts, cosine(vectors, found), found, strict=True)
        ]

    def _another_version(self, vectors: Vectors) -> EndpointError:
        return EndpointError(
            f"the decoding service at {self.url} answered with something else than a text and a "
            f"vector for each of {len(vectors)} vectors: is it of this version of lvmdb?"
        )


def check_effort(steps: int, beam: int) -> None:
    """Refuse what the service would refuse.

    Raises:
        UsageError: steps or beam are out of range.
    """
    if not 0 <= steps <= MOST_STEPS:
        raise UsageError(f"vec2text's steps are 0 to {MOST_STEPS}, not {steps}")
    if not 1 <= beam <= MOST_BEAM:
        raise UsageError(f"vec2text's beam is 1 to {MOST_BEAM}, not {beam}")


def packed(vectors: Vectors) -> list[str]:
    """Vectors `(n, 768)` as base64 of little-endian float32, a string for each."""
    return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]


def unpacked(rows: Sequence[str]) -> Vectors:
    """What `packed` made, `(n, 768)` float32.

    Raises:
        ValueError: it is no base64, or not of 768 finite numbers each.
    """
    read = [np.frombuffer(base64.b64decode(row, validate=True), dtype="<f4") for row in rows]
    if any(row.shape != (DIMENSION,) or not np.isfinite(row).all() for row in read):
        raise ValueError(f"not the base64 of {DIMENSION} finite little-endian float32")
    return np.array(read, dtype=np.float32).reshape(len(read), DIMENSION)
