"""The chunking service, port 8001: `POST /chunk` and `/chunk/batch` cut texts into concepts.

The semantic chunker compares sentences: it is there where the service was started with an encoder.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

import pydantic_core
from fastapi import APIRouter, FastAPI, Response
from pydantic import BaseModel, Field, StringConstraints

from lvmdb.corpus.chunker import CHUNKERS, Chunker, Embed, get_chunker
from lvmdb.corpus.chunkers.semantic import SemanticChunker
from lvmdb.corpus.encoder import Encoder
from lvmdb.db.engine import Database
from lvmdb.services.application import application
from lvmdb.services.context import Context
from lvmdb.services.limits import TEXTS, Limits
from lvmdb.services.models import NO_ENCODER, encoder_part
from lvmdb.services.options import ServiceOptions
from lvmdb.services.parts import Part
from lvmdb.services.problems import ProblemError, documented
from lvmdb.services.requests import StrictModel, StrictRoute, Text
from lvmdb.services.work import Deadline

LIMITS = Limits(threads=2)

LARGEST_NUMBER = 1_000_000
"""That an option may be."""

Word = Annotated[str, StringConstraints(max_length=20, pattern=r"^[a-z][a-z_-]*$")]
Number = Annotated[int, Field(ge=0, le=LARGEST_NUMBER)]
Share = Annotated[float, Field(ge=0, le=LARGEST_NUMBER)]


class Cutting(StrictModel):
    """How to cut."""

    chunker: str = Field("sentence", json_schema_extra={"enum": list(CHUNKERS)})
    options: dict[Word, Number | Share | Word] = Field(
        {},
        max_length=20,
        description="Options of the chunker, such as `min_words`, that are not to be its defaults.",
    )


class ChunkRequest(Cutting):
    """A text to be cut."""

    text: Text


class ChunkBatchRequest(Cutting):
    """Texts to be cut."""

    texts: Annotated[list[Text], Field(min_length=1, max_length=TEXTS)]


class Cut(BaseModel):
    """What was done."""

    chunker: str
    options: dict[str, Any] = Field(description="All options of the chunker, as they were.")


class ChunkAnswer(Cut):
    """The concepts of a text, in reading order; empty where nothing is long enough."""

    chunks: list[str]


class ChunkBatchAnswer(Cut):
    """The concepts of each text, in the order of the texts."""

    chunks: list[list[str]]


def create(options: ServiceOptions, limits: Limits = LIMITS) -> FastAPI:
    """The service."""
    database = Database(options.dsn)
    encoder = None
    if options.encoder not in (None, NO_ENCODER):
        encoder = encoder_part(database, options)
    context = Context("chunking", options, limits, database, [encoder] if encoder else [])
    router = APIRouter(route_class=StrictRoute, tags=["chunking"])

    async def answer(cutting: Cutting, texts: list[str], kind: type[Cut]) -> Response:
        chunker = _chunker(cutting, encoder)

        def work(deadline: Deadline) -> bytes:
            found = []
            for text in texts:
                deadline.check()
                found.append(chunker.chunk(text))
            chunks = found if kind is ChunkBatchAnswer else found[0]
            done = {"chunker": chunker.name, "options": chunker.options, "chunks": chunks}
            return pydantic_core.to_json(done)

        return Response(await context.work.run(work), media_type="application/json")

    @router.post("/chunk", response_model=ChunkAnswer, responses=documented())
    async def chunk(request: ChunkRequest) -> Response:
        """The concepts of one text."""
        return await answer(request, [request.text], ChunkAnswer)

    @router.post("/chunk/batch", response_model=ChunkBatchAnswer, responses=documented())
    async def chunk_batch(request: ChunkBatchRequest) -> Response:
        """The concepts of several texts."""
        return await answer(request, request.texts, ChunkBatchAnswer)

    return application(
        context,
        router,
        "lvmdb chunking",
        "Texts to concepts: pieces of a few sentences, never across a paragraph.",
    )


def _chunker(cutting: Cutting, encoder: Part[Encoder] | None) -> Chunker:
    embed = None
    if cutting.chunker == SemanticChunker.name:
        if encoder is None:
            raise _invalid("chunker", "semantic needs an encoder: start the service with --encoder")
        embed = encoder.get().encode
    return _known(cutting.chunker, embed, tuple(sorted(cutting.options.items())))


@lru_cache(maxsize=64)
def _known(
    name: str, embed: Embed | None, options: tuple[tuple[str, int | float | str], ...]
) -> Chunker:
    """A chunker, whose options are of their defaults' types."""
    defaults = get_chunker(name, embed=embed).options
    for option, value in options:
        if option in defaults and type(value) is not type(defaults[option]):
            kind = type(defaults[option]).__name__
            message = f"must be of type {kind}, as is its default {defaults[option]!r}"
            raise _invalid(f"options.{option}", message)
    given: dict[str, Any] = dict(options)
    return get_chunker(name, embed=embed, **given)


def _invalid(field: str, message: str) -> ProblemError:
    return ProblemError(422, "invalid_request", f"{field}: {message}", [(field, message)])
