"""Which encoder's vectors: a name and the hash of its fingerprint, as a decoder must know them.

Vectors of another encoder decode to fluent nonsense, and nothing in them says whose they are. So
whoever asks for texts says which space his vectors are of, and the decoder compares.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from lvmdb.corpus import encoders
from lvmdb.errors import EncoderError


@dataclass(frozen=True)
class Space:
    """The space of an encoder's vectors.

    Attributes:
        encoder: its name.
        fingerprint: SHA-256 of the stored vectors of its probe sentences, in hexadecimal.
    """

    encoder: str
    fingerprint: str


def space_of(connection: Connection, encoder: str) -> Space:
    """The space of a registered encoder.

    Raises:
        UnknownNameError: there is none of this name.
        EncoderError: it has no fingerprint yet.
    """
    return Space(encoder, fingerprint_of(stored_fingerprint(connection, encoder)))


def stored_fingerprint(connection: Connection, encoder: str) -> np.ndarray:
    """The fingerprint of a registered encoder, `(sentences, 768)`.

    Raises:
        UnknownNameError, EncoderError: as `space_of`.
    """
    _, stored = encoders.probes(connection, encoders.encoder_id_of(connection, encoder))
    if not len(stored):
        raise EncoderError(
            f"encoder '{encoder}' has no fingerprint yet, by which a decoder knows its vectors: "
            f"run 'lvmdb encoders verify {encoder}' first"
        )
    return stored


def fingerprint_of(stored: np.ndarray) -> str:
    """SHA-256 of a fingerprint's vectors `(sentences, 768)`, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(stored, dtype="<f4").tobytes()).hexdigest()
