"""The chunking service, port 8001: `POST /chunk` and `/chunk/batch` cut texts into concepts."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

import pydantic_core
from fastapi import APIRouter, FastAPI, Response
from pydantic import BaseModel, Field, StringConstraints

from lvmdb.corpus.chunker import CHUNKERS, Chunker, get_chunker
from lvmdb.db.engine import Database
from lvmdb.services.application import application
from lvmdb.services.context import Context
from lvmdb.services.limits import TEXTS, Limits
from lvmdb.services.options import ServiceOptions
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
    context = Context("chunking", options, limits, Database(options.dsn))
    router = APIRouter(route_class=StrictRoute, tags=["chunking"])

    async def answer(cutting: Cutting, texts: list[str], kind: type[Cut]) -> Response:
        chunker = _chunker(cutting)

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


def _chunker(cutting: Cutting) -> Chunker:
    return _known(cutting.chunker, tuple(sorted(cutting.options.items())))


@lru_cache(maxsize=64)
def _known(name: str, options: tuple[tuple[str, int | float | str], ...]) -> Chunker:
    """A chunker, whose options are of their defaults' types."""
    defaults = get_chunker(name).options
    for option, value in options:
        if option in defaults and type(value) is not type(defaults[option]):
            kind = type(defaults[option]).__name__
            message = f"must be of type {kind}, as is its default {defaults[option]!r}"
            raise ProblemError(
                422,
                "invalid_request",
                f"options.{option}: {message}",
                [(f"options.{option}", message)],
            )
    return get_chunker(name, **dict(options))
