"""The TMD service, port 8002: `POST /route` and `/route/batch` give texts their codes.

What the tagger is not sure of is null, what failed is null with the reason: never a code that would
pass for one.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, Field

from lvmdb.corpus.embedding_tagger import EmbeddingTagger
from lvmdb.corpus.tagging import Tag, Tagger
from lvmdb.corpus.tmd import KINDS, VOCABULARY, is_complete, label
from lvmdb.db.engine import Database
from lvmdb.services.application import application
from lvmdb.services.context import Context
from lvmdb.services.limits import TEXTS, Limits
from lvmdb.services.models import encoder_part, tagger_part, vectors_of
from lvmdb.services.options import ServiceOptions
from lvmdb.services.parts import Part
from lvmdb.services.problems import documented
from lvmdb.services.requests import StrictModel, StrictRoute, Text
from lvmdb.services.work import Deadline

LIMITS = Limits()
"""One thread, as for the encoder that the tagger uses."""


class RouteRequest(StrictModel):
    """A text that wants a code."""

    text: Text


class RouteBatchRequest(StrictModel):
    """Texts that want codes."""

    texts: Annotated[list[Text], Field(min_length=1, max_length=TEXTS)]


class Place(BaseModel):
    """A number of the code, and what it stands for."""

    code: int
    label: str


class Route(BaseModel):
    """A text's code; what is not known is null."""

    domain: Place | None
    task: Place | None
    modifier: Place | None
    tmd_code: str | None = Field(description="`D.T.M`, null where one of them is.")
    error: str | None = Field(description="Why there is no code; null where the tagger is unsure.")


class Routed(BaseModel):
    """Who decided, and by which vocabulary."""

    tagger: str
    vocabulary: int


class RouteAnswer(Routed, Route):
    """The code of one text."""


class RouteBatchAnswer(Routed):
    """The codes of several texts, in their order."""

    routes: list[Route]


def create(options: ServiceOptions, limits: Limits = LIMITS) -> FastAPI:
    """The service."""
    database = Database(options.dsn)
    encoder, compares = encoder_part(database, options), options.tagger == EmbeddingTagger.name
    tagger = tagger_part(options, encoder)
    parts: list[Part[Any]] = [encoder, tagger] if compares else [tagger]
    context = Context("tmd", options, limits, database, parts)
    router = APIRouter(route_class=StrictRoute, tags=["tmd"])

    async def routes(texts: list[str]) -> tuple[Tagger, list[Route]]:
        decides, model = tagger.get(), encoder.get() if compares else None

        def work(deadline: Deadline) -> list[Route]:
            vectors = None if model is None else vectors_of(model, texts, deadline)
            return [route(tag) for tag in decides.tag(texts, vectors)]

        return decides, await context.work.run(work)

    @router.post("/route", responses=documented())
    async def route_one(request: RouteRequest) -> RouteAnswer:
        """The domain, task and modifier of a text."""
        decides, (found,) = await routes([request.text])
        return RouteAnswer(tagger=decides.name, vocabulary=VOCABULARY, **found.model_dump())

    @router.post("/route/batch", responses=documented())
    async def route_batch(request: RouteBatchRequest) -> RouteBatchAnswer:
        """The domain, task and modifier of each text."""
        decides, found = await routes(request.texts)
        return RouteBatchAnswer(tagger=decides.name, vocabulary=VOCABULARY, routes=found)

    return application(
        context,
        router,
        "lvmdb TMD",
        "Texts to domain/task/modifier codes; what is not known is null.",
    )


def route(tag: Tag) -> Route:
    """A tag as an answer writes it."""
    parts = {
        kind: None if number is None else Place(code=number, label=label(kind, number))
        for kind, number in zip(KINDS, tag.code or (None, None, None), strict=True)
    }
    code = ".".join(map(str, tag.code)) if is_complete(tag.code) else None
    return Route(tmd_code=code, error=tag.error, **parts)
