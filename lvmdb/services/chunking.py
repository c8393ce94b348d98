"""The chunking service, port 8001: `POST /chunk` and `/chunk/batch` cut texts into concepts."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Annotated, Any

import pydantic_core
from fastapi import APIRouter, FastAPI, Response
from pydantic import BaseModel, Field, StringConstraints

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.chunker import CHUNKERS, Chunker, Embed, get_chunker
from lvmdb.corpus.chunkers.semantic import SemanticChunker
from lvmdb.db.engine import Database
from lvmdb.services.application import application
from lvmdb.services.context import Context
from lvmdb.services.limits import TEXTS, Limits
from lvmdb.services.models import encoder_part, vectors_of
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
    database = Database(options.dsn)
    encoder = encoder_part(database, options) if options.chunker == SemanticChunker.name else None
    context = Context("chunking", options, limits, database, [encoder] if encoder else [])
    encoding = threading.Lock()  # a tokenizer is for one thread at a time
    router = APIRouter(route_class=StrictRoute, tags=["chunking"])

    async def answer(cutting: Cutting, texts: list[str], kind: type[Cut]) -> Response:
        model = encoder.get() if encoder is not None else None

        def work(deadline: Deadline) -> bytes:
            def embed(sentences: Sequence[str]) -> Vectors:
                assert model is not None
                with encoding:
                    return vectors_of(model, sentences, deadline)

            chunker = _chunker(cutting, None if model is None else embed)
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


def _chunker(cutting: Cutting, embed: Embed | None) -> Chunker:
    """The chunker that was asked for, with options of their defaults' types."""
    if cutting.chunker == SemanticChunker.name and embed is None:
        raise ProblemError(
            422,
            "invalid_request",
            "the semantic chunker compares vectors: start the service with --chunker semantic",
        )
    defaults = get_chunker(cutting.chunker, embed=embed).options
    for option, value in cutting.options.items():
        default = defaults.get(option, value)
        if type(value) is not type(default) and (type(value), type(default)) != (int, float):
            message = f"must be of type {type(default).__name__}, as is its default {default!r}"
            field = f"options.{option}"
            raise ProblemError(422, "invalid_request", f"{field}: {message}", [(field, message)])
    return get_chunker(cutting.chunker, embed=embed, **cutting.options)
