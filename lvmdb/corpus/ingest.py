"""`lvmdb ingest run`: text to ordered, embedded concepts, exactly once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import ChunkedArticle, RawArticle
from lvmdb.corpus.chunker import Chunker
from lvmdb.corpus.encoder import Encoder
from lvmdb.corpus.jobs import Job, job
from lvmdb.corpus.readers.base import Reader
from lvmdb.corpus.store import (
    Stored,
    another_encoder,
    content_hash,
    ensure_dataset,
    known_hashes,
    store,
)
from lvmdb.db.engine import Database
from lvmdb.errors import CorpusError
from lvmdb.progress import SILENT, Advance, Progress

GROUP = 16
"""Articles that are chunked and encoded together; each is committed by itself."""


@dataclass(frozen=True)
class IngestPlan:
    """What is to be ingested, and how.

    Attributes:
        dataset: where to; made if it is not there.
        reader, source: where from; `reader_name` for the record.
        chunker: how texts are cut.
        encoder: name of the encoder; None leaves the concepts without vectors.
        load_encoder: called once, when the first article needs it.
        limit: at most so many articles.
    """

    dataset: str
    reader_name: str
    reader: Reader
    source: str
    chunker: Chunker
    encoder: str | None
    load_encoder: Callable[[], Encoder]
    limit: int | None = None

    def hash_of(self, article: RawArticle) -> bytes:
        """Content hash of what the article's concepts are made from."""
        options = json.dumps(self.chunker.options, sort_keys=True)
        return content_hash(article.text, self.chunker.name, options, self.encoder or "")


def ingest(db: Database, plan: IngestPlan, *, progress: Progress = SILENT) -> tuple[Stored, int]:
    """Read, cut, encode and store; what is there already is neither encoded nor written again.

    The source is read and the encoder loaded before anything is written, so that a broken file or
    a wrong encoder leaves the database as it was. That also counts the concepts to encode.

    Returns:
        What became of the articles, and how many of them failed (see `lvmdb ingest errors`).

    Raises:
        InputError: the source is missing or broken.
        CorpusError: the dataset has another encoder, or has one and none is given.
        EncoderError: the encoder is missing, or is not what its name says.
    """
    concepts = _survey(db, plan)
    worker = _Worker(db, plan)
    worker.prepare(concepts)
    options: dict[str, Any] = {
        "chunker": plan.chunker.name,
        **plan.chunker.options,
        "encoder": plan.encoder,
        "limit": plan.limit,
    }
    with job(db, plan.dataset, plan.reader_name, plan.source, options) as (running, outcome):
        if worker.loading:
            running.spent("load encoder", 1, worker.loading)
        articles = iter(plan.reader(plan.source, limit=plan.limit))
        with progress.task("ingesting", concepts, "concepts") as advance:
            while group := _timed_group(running, articles):
                worker.process(group, running, outcome, advance)
    return outcome, running.errors


def _survey(db: Database, plan: IngestPlan) -> int:
    """How many concepts the articles have that are new or changed."""
    articles = iter(plan.reader(plan.source, limit=plan.limit))
    concepts = 0
    while group := list(islice(articles, GROUP)):
        todo = _todo(db, plan, group)
        concepts += sum(len(plan.chunker.chunk(article.text)) for article, _ in todo)
    return concepts


def _todo(
    db: Database, plan: IngestPlan, group: Sequence[RawArticle]
) -> list[tuple[RawArticle, bytes]]:
    """The articles of a group that are new or changed, with their content hashes."""
    known = known_hashes(db, plan.dataset, [article.source_key for article in group])
    hashed = [(article, plan.hash_of(article)) for article in group]
    return [(a, digest) for a, digest in hashed if known.get(a.source_key) != digest]


class _Worker:
    def __init__(self, db: Database, plan: IngestPlan) -> None:
        self._db, self._plan = db, plan
        self._loaded: Encoder | None = None
        self._encoder_id: int | None = None
        self.loading = 0.0

    def prepare(self, concepts: int) -> None:
        """Make the dataset, with its encoder if there is anything to encode."""
        with self._db.connect() as connection:
            present = encoders.of_dataset(connection, self._plan.dataset)
            encoders.require_verified(connection, self._plan.dataset)
        if self._plan.encoder is not None and concepts:
            if present is not None and present != self._plan.encoder:
                # Told before the model is fetched and loaded.
                raise another_encoder(self._plan.dataset, present)
            self._encoder()
            return
        with self._db.begin() as connection:
            if self._plan.encoder is None and present is not None:
                raise CorpusError(
                    f"dataset '{self._plan.dataset}' has vectors of the encoder '{present}', which "
                    "its articles would lose: use that one (--encoder), or another dataset"
                )
            ensure_dataset(connection, self._plan.dataset, None)

    def process(
        self, group: list[RawArticle], running: Job, outcome: Stored, advance: Advance
    ) -> None:
        """Store what is new or changed of a group of articles."""
        todo = _todo(self._db, self._plan, group)
        outcome.unchanged += len(group) - len(todo)
        with running.timed("chunk", len(todo)):
            chunked = [(self._chunk(article), digest) for article, digest in todo]
        for article, _ in chunked:
            if not article.texts:
                running.error("chunk", "nothing is left of its text", article.source_key)
        chunked = [(article, digest) for article, digest in chunked if article.texts]
        if not chunked:
            return
        articles, hashes = zip(*chunked, strict=True)
        if self._plan.encoder is not None:
            articles = tuple(self._encode(articles, running, advance))
        for article, digest in zip(articles, hashes, strict=True):
            with running.timed("store", len(article.texts)), self._db.begin() as connection:
                dataset = self._plan.dataset
                stored = store(connection, dataset, self._encoder_id, [article], [digest])
            running.refuse(stored)
            outcome += stored
            if self._plan.encoder is None:
                advance(len(article.texts))

    def _chunk(self, article: RawArticle) -> ChunkedArticle:
        return ChunkedArticle(
            source_key=article.source_key,
            title=article.title,
            url=article.url,
            texts=tuple(self._plan.chunker.chunk(article.text)),
            source=f"{self._plan.source}: article {article.source_key}",
        )

    def _encode(
        self, articles: Sequence[ChunkedArticle], running: Job, advance: Advance
    ) -> Iterator[ChunkedArticle]:
        encoder = self._encoder()
        texts = [text for article in articles for text in article.texts]
        with running.timed("encode", len(texts)):
            vectors = encoder.encode(texts, advance)
        start = 0
        for article in articles:
            end = start + len(article.texts)
            yield replace(article, vectors=vectors[start:end])
            start = end

    def _encoder(self) -> Encoder:
        if self._loaded is None:
            began = time.perf_counter()
            loaded = self._plan.load_encoder()
            with self._db.begin() as connection:
                self._encoder_id = encoders.register(connection, loaded)
                ensure_dataset(connection, self._plan.dataset, self._encoder_id)
            self._loaded, self.loading = loaded, time.perf_counter() - began
        return self._loaded


def _timed_group(running: Job, articles: Iterable[RawArticle]) -> list[RawArticle]:
    with running.timed("read"):
        return list(islice(articles, GROUP))
