"""The embedding service, port 8767: `POST /embed` gives the vectors of texts.

`POST /decode` is the way back: the decoding service, which writes texts for vectors, is asked.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic_core
from fastapi import APIRouter, FastAPI, Response
from pydantic import BaseModel, Field

from lvmdb.corpus.http import Patience
from lvmdb.db.engine import Database
from lvmdb.db.types import DIMENSION
from lvmdb.decoding.spaces import space_of
from lvmdb.decoding.vec2text import Vec2Text
from lvmdb.errors import EndpointError
from lvmdb.services.application import application
from lvmdb.services.context import Context
from lvmdb.services.decoding_bodies import DecodeAnswer, DecodeRequest
from lvmdb.services.limits import TEXTS, Limits
from lvmdb.services.models import encoder_part, vectors_of
from lvmdb.services.options import ServiceOptions
from lvmdb.services.problems import ProblemError, documented, from_lvmdb
from lvmdb.services.requests import StrictModel, StrictRoute, Text
from lvmdb.services.vectors import vectors, written
from lvmdb.services.work import Deadline, Work

LIMITS = Limits()
"""One thread: the encoder itself uses all cores."""

DECODING = Limits(threads=4, waiting=12, work_seconds=600.0)
"""Of requests that only wait for the decoding service: not in the encoder's thread, and in half of
the service's places at most."""

PATIENCE = Patience(answer_s=600.0, connect_s=3.0, tries=1)
"""With the decoding service: callers can ask again."""


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
    asking = Work("asking", DECODING)
    decoding = Vec2Text.from_settings(options.settings, patience=PATIENCE)
    context.closing += [asking.close, decoding.close]
    router = APIRouter(route_class=StrictRoute, tags=["embedding"])

    @router.post("/embed", response_model=EmbedAnswer, responses=documented())
    async def embed(request: EmbedRequest) -> Response:
        """Vectors of texts."""
        model = encoder.get()

        def work(deadline: Deadline) -> bytes:
            found = vectors_of(model, request.texts, deadline)
            answer = EmbedAnswer.model_construct(
                encoder=model.name,
                revision=model.revision,
                dimension=DIMENSION,
                max_tokens=model.max_tokens,
                vectors=written(found, request.encoding),
            )
            return pydantic_core.to_json(answer)

        return Response(await context.work.run(work), media_type="application/json")

    @router.post("/decode", response_model=DecodeAnswer, responses=documented(409))
    async def decode(request: DecodeRequest) -> Response:
        """Texts for vectors of this service's encoder, by the decoding service."""
        wanted = vectors(request.vectors, "vectors")
        body = {**request.model_dump(exclude_none=True), "vectors": written(wanted, "base64")}
        own = encoder.get().name if request.encoder is None else None

        def work(_: Deadline) -> bytes:
            if own is not None:
                with database.connect() as connection:
                    space = space_of(connection, own)
                # A fingerprint that was sent says more than a name that was not.
                body.update({**vars(space), **body})
            return pydantic_core.to_json(_asked(decoding, body))

        with asking.place():
            return Response(await asking.run(work), media_type="application/json")

    return application(
        context,
        router,
        "lvmdb embedding",
        "Texts to sentence vectors, by the encoder that made a dataset's vectors: it is held "
        "against its fingerprint before the first text.",
    )


def _asked(decoding: Vec2Text, body: dict[str, Any]) -> Any:
    """What the decoding service answers.

    Raises:
        ProblemError: 409 or 422, it refuses these vectors; 503, it is not there, or not ready.
    """
    try:
        return decoding.ask(body)
    except EndpointError as error:
        if error.status in (409, 422):
            code = "conflict" if error.status == 409 else "invalid_request"
            raise ProblemError(error.status, code, str(error)) from error
        raise from_lvmdb(error) from error
