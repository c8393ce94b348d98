"""The ingest service, port 8004: `POST /ingest` takes articles, each exactly once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, Field
from sqlalchemy import select

from lvmdb.corpus.articles import RawArticle
from lvmdb.corpus.chunker import get_chunker
from lvmdb.corpus.chunkers.semantic import SemanticChunker
from lvmdb.corpus.embedding_tagger import EmbeddingTagger
from lvmdb.corpus.episodes import EpisodeOptions
from lvmdb.corpus.ingest import ingest as run_ingest
from lvmdb.corpus.plan import IngestPlan
from lvmdb.corpus.readers.base import OnError, Place, Reader, given, made
from lvmdb.db.engine import Database
from lvmdb.db.schema.ingest import ingest_error
from lvmdb.services.application import application
from lvmdb.services.context import Context
from lvmdb.services.limits import TEXTS, Limits
from lvmdb.services.models import NO_ENCODER, encoder_part, tagger_part
from lvmdb.services.options import ServiceOptions
from lvmdb.services.parts import Part
from lvmdb.services.problems import ProblemError, documented
from lvmdb.services.requests import Key, Name, StrictModel, StrictRoute, Text, Title, Url
from lvmdb.services.work import Deadline

LIMITS = Limits(body_bytes=32 << 20, work_seconds=300, waiting=8)
"""One thread: articles of a dataset take turns in the database anyway."""

READER = "http"
"""What an ingest job says it was read by."""


class Article(StrictModel):
    """An article."""

    source_key: Key = Field(description="Its name within its source; the same one replaces it.")
    title: Title
    text: Text = Field(description="Paragraphs separated by blank lines.")
    url: Url | None = None


class IngestRequest(StrictModel):
    """Articles, and where to."""

    dataset: Name | None = Field(None, description="Made if it is not there.")
    articles: Annotated[list[Article], Field(min_length=1, max_length=TEXTS)]


class Failed(BaseModel):
    """An article of which nothing was kept, and why; also a row of `ingest_error`."""

    source_key: str | None
    step: str
    message: str


class IngestAnswer(BaseModel):
    """What became of the articles. The same request again changes nothing."""

    dataset: str
    job: str = Field(description="The job's source, as `lvmdb ingest status` shows it.")
    added: int
    changed: int
    unchanged: int
    concepts: int = Field(description="How many were written.")
    failed: list[Failed]


def create(options: ServiceOptions, limits: Limits = LIMITS) -> FastAPI:
    """The service."""
    database = Database(options.dsn)
    vectors = options.encoder != NO_ENCODER
    if not vectors or options.chunker != SemanticChunker.name:
        get_chunker(options.chunker)  # told now, not at the first request
    encoder = encoder_part(database, options)
    # Codes by vectors are for concepts that have some.
    coded = vectors or options.tagger != EmbeddingTagger.name
    tagger = tagger_part(options, encoder) if coded else None
    parts: list[Part[Any]] = [encoder] if vectors else []
    context = Context("ingest", options, limits, database, [*parts, *([tagger] if tagger else [])])
    router = APIRouter(route_class=StrictRoute, tags=["ingest"])

    @router.post("/ingest", responses=documented(409))
    async def ingest(request: IngestRequest) -> IngestAnswer:
        """Cut, encode and store articles; what is there already is left alone.

        Each article is stored whole or not at all. One that fails does not hinder the others.
        """
        dataset = request.dataset or options.dataset
        if dataset is None:
            message = "is missing, and the service was started without --dataset"
            raise ProblemError(
                422, "invalid_request", f"dataset: {message}", [("dataset", message)]
            )
        _require_distinct(request.articles)
        await context.require_database()
        model = encoder.get() if vectors else None

        def work(deadline: Deadline) -> IngestAnswer:
            plan = IngestPlan(
                dataset=dataset,
                reader_name=READER,
                reader=_reader(request.articles, deadline),
                source=f"{READER}:{uuid.uuid4()}",
                chunker=get_chunker(options.chunker, embed=None if model is None else model.encode),
                encoder=None if model is None else model.name,
                load_encoder=encoder.get,
                tagger=tagger.get() if tagger else None,
                episodes=EpisodeOptions() if vectors else None,
                # A request is a job of its own, over articles that were looked at already.
                shared=False,
                survey=False,
            )
            done = run_ingest(database, plan)
            return IngestAnswer(
                dataset=dataset,
                job=plan.source,
                added=done.totals.added,
                changed=done.totals.changed,
                unchanged=done.totals.unchanged,
                concepts=done.totals.concepts,
                failed=_failures(database, done.job_id) if done.totals.errors else [],
            )

        return await context.work.run(work)

    return application(
        context,
        router,
        "lvmdb ingest",
        "Articles to ordered, embedded concepts in the database, exactly once.",
    )


def _reader(articles: Sequence[Article], deadline: Deadline) -> Reader:
    """A reader of articles that are at hand; it ends when nobody waits any more."""

    def place(article: Article) -> Place:
        deadline.check()
        return given(RawArticle(article.source_key, article.title, article.text, article.url))

    def read(
        source: str | Path,
        *,
        start: int = 0,
        limit: int | None = None,
        on_error: OnError | None = None,
    ) -> Iterator[RawArticle]:
        return made(map(place, articles), start, limit, on_error)

    return read


def _require_distinct(articles: list[Article]) -> None:
    seen: set[str] = set()
    for number, article in enumerate(articles):
        if article.source_key in seen:
            message = f"'{article.source_key}' is there twice"
            field = f"articles.{number}.source_key"
            raise ProblemError(422, "invalid_request", f"{field}: {message}", [(field, message)])
        seen.add(article.source_key)


def _failures(database: Database, job_id: int) -> list[Failed]:
    statement = (
        select(ingest_error.c.source_key, ingest_error.c.step, ingest_error.c.message)
        .where(ingest_error.c.job_id == job_id)
        .order_by(ingest_error.c.error_id)
    )
    with database.connect() as connection:
        return [
            Failed(source_key=row.source_key, step=row.step, message=row.message)
            for row in connection.execute(statement)
        ]
