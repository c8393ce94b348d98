"""Vectors in the bodies of requests and answers."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Discriminator, Field, StringConstraints, Tag

from lvmdb.corpus.articles import Vectors
from lvmdb.db.types import DIMENSION
from lvmdb.services.problems import ProblemError

_BYTES = 4 * DIMENSION
_LETTERS = -(-_BYTES // 3) * 4

Numbers = Annotated[
    list[Annotated[float, Field(allow_inf_nan=False)]],
    Field(min_length=DIMENSION, max_length=DIMENSION),
]
Letters = Annotated[
    str,
    StringConstraints(min_length=_LETTERS, max_length=_LETTERS, pattern=r"^[A-Za-z0-9+/]+={0,2}$"),
    Field(description=f"Base64 of {DIMENSION} little-endian float32."),
]
Vector = Annotated[
    Annotated[Numbers, Tag("numbers")] | Annotated[Letters, Tag("base64")],
    Discriminator(lambda given: "base64" if isinstance(given, str) else "numbers"),
]
"""A vector, as an array of numbers or as base64: as each is sent."""


def vectors(sent: Sequence[list[float] | str], field: str) -> Vectors:
    """Vectors `(n, 768)` as they were sent, each vector at unit length.

    Args:
        sent: which `Vector` has checked.
        field: where it stood.

    Raises:
        ProblemError: 422, one has no direction.
    """
    rows = np.empty((len(sent), DIMENSION))
    for place, given in enumerate(sent):
        rows[place] = _numbers(given, f"{field}.{place}") if isinstance(given, str) else given
    # Numbers may be too small or too large to be squared, and have a direction.
    largest = np.abs(rows).max(axis=1, keepdims=True)
    for row in np.flatnonzero(~(np.isfinite(largest) & (largest > 0))[:, 0]):
        raise _wrong(f"{field}.{row}", "has no direction: it is zero or not finite")
    rows /= largest
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32)


def _numbers(letters: str, field: str) -> np.ndarray[Any, Any]:
    try:
        raw = base64.b64decode(letters, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != _BYTES:
        raise _wrong(field, f"must be the base64 of {DIMENSION} little-endian float32")
    return np.frombuffer(raw, "<f4")


def _wrong(field: str, message: str) -> ProblemError:
    return ProblemError(422, "invalid_request", f"{field}: {message}", [(field, message)])


def written(vectors: Vectors, encoding: str) -> list[list[float]] | list[str]:
    """Vectors `(n, 768)` as an answer writes them."""
    if encoding == "base64":
        return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
    numbers: list[list[float]] = vectors.tolist()
    return numbers
