"""What `POST /decode` takes and gives, at the decoding service and at the embedding service."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from lvmdb.decoding.vec2text import (
    BEAM,
    MOST_BEAM,
    MOST_STEPS,
    MOST_VECTORS,
    STEPS,
)
from lvmdb.services.limits import TITLE_LENGTH
from lvmdb.services.requests import StrictModel
from lvmdb.services.vectors import Vector

EncoderName = Annotated[str, StringConstraints(min_length=1, max_length=TITLE_LENGTH)]
Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class DecodeRequest(StrictModel):
    """Vectors that want texts."""

    vectors: Annotated[list[Vector], Field(min_length=1, max_length=MOST_VECTORS)] = Field(
        description="Their length does not matter, but none may be zero."
    )
    encoder: EncoderName | None = Field(
        None, description="Whose vectors they are; null: of this service's encoder."
    )
    fingerprint: Fingerprint | None = Field(
        None,
        description="SHA-256 of the stored vectors of the encoder's probe sentences: where it is "
        "given it says whose vectors they are, whatever the encoder is called.",
    )
    steps: int = Field(STEPS, ge=0, le=MOST_STEPS, description="Corrections of the first guess.")
    beam: int = Field(
        BEAM, ge=1, le=MOST_BEAM, description="Guesses that are kept beside each other."
    )
    encoding: Literal["float", "base64"] = Field(
        "float", description="How the vectors of the answer are written."
    )


class NamedDecodeRequest(DecodeRequest):
    """Vectors of a named encoder: those of another decode to fluent nonsense."""

    encoder: EncoderName = Field(description="Whose vectors they are.")


class Half(BaseModel):
    """One of the two models that write."""

    name: str
    revision: str = Field(description="SHA-256 of its weights, or the hub's commit.")


class DecodeAnswer(BaseModel):
    """A text for each vector, in their order."""

    encoder: str
    fingerprint: str
    inverter: Half
    corrector: Half
    steps: int
    beam: int
    texts: list[str]
    cosines: list[float] = Field(
        description="Of each vector that was sent to that of its text, by the encoder."
    )
    vectors: list[list[float]] | list[str] = Field(
        description="Of the texts, by the encoder, of unit norm."
    )
