"""The embedding service, port 8767: `POST /embed` gives the vectors of texts."""

from __future__ import annotations

import base64
from typing import Annotated, Literal

import pydantic_core
from fastapi import APIRouter, FastAPI, Response
from pydantic import BaseModel, Field

from lvmdb.corpus.articles import Vectors
from lvmdb.db.engine import Database
from lvmdb.db.types import DIMENSION
from lvmdb.services.application import application
from lvmdb.services.context import Context
from lvmdb.services.limits import TEXTS, Limits
from lvmdb.services.models import encoder_part, vectors_of
from lvmdb.services.options import ServiceOptions
from lvmdb.services.problems import documented
from lvmdb.services.requests import StrictModel, StrictRoute, Text
from lvmdb.services.work import Deadline

LIMITS = Limits()
"""One thread: the encoder itself uses all cores."""


class EmbedRequest(StrictModel):
    """Texts to be encoded."""

    texts: Annotated[list[Text], Field(min_length=1, max_length=TEXTS)]
    encoding: Literal["float", "base64"] = Field(
        "float",
        description="How a vector is written: as an array of numbers, or as the base64 of its "
        f"{DIMENSION} little-endian float32.",
    )


class EmbedAnswer(BaseModel):
    """One vector of unit norm for each text, in the order of the texts."""

    encoder: str
    revision: str | None = Field(description="Of the encoder's weights; null if not known.")
    dimension: int
    max_tokens: int | None = Field(
        description="What lies behind so many tokens of a text does not count; null if not known."
    )
    vectors: list[list[float]] | list[str]


def create(options: ServiceOptions, limits: Limits = LIMITS) -> FastAPI:
    """The service."""
    database = Database(options.dsn)
    encoder = encoder_part(database, options)
    context = Context("embedding", options, limits, database, [encoder])
    router = APIRouter(route_class=StrictRoute, tags=["embedding"])

    @router.post("/embed", response_model=EmbedAnswer, responses=documented())
    async def embed(request: EmbedRequest) -> Response:
        """Vectors of texts."""
        model = encoder.get()

        def work(deadline: Deadline) -> bytes:
            vectors = vectors_of(model, request.texts, deadline)
            answer = EmbedAnswer.model_construct(
                encoder=model.name,
                revision=model.revision,
                dimension=DIMENSION,
                max_tokens=model.max_tokens,
                vectors=written(vectors, request.encoding),
            )
            return pydantic_core.to_json(answer)

        return Response(await context.work.run(work), media_type="application/json")

    return application(
        context,
        router,
        "lvmdb embedding",
        "Texts to sentence vectors, by the encoder that made a dataset's vectors: it is held "
        "against its fingerprint before the first text.",
    )


def written(vectors: Vectors, encoding: str) -> list[list[float]] | list[str]:
    """Vectors `(n, 768)` as an answer writes them."""
    if encoding == "base64":
        return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
    numbers: list[list[float]] = vectors.tolist()
    return numbers
