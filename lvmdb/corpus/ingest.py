"""`lvmdb ingest run`: text to ordered, embedded, coded concepts, exactly once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import RawArticle
from lvmdb.corpus.encoder import Encoder
from lvmdb.corpus.job_task import Task, Totals, find
from lvmdb.corpus.pipeline import Pipeline
from lvmdb.corpus.plan import IngestPlan
from lvmdb.corpus.readers.base import OnError, Reader, given, made
from lvmdb.corpus.shared_job import LONGEST_WAIT, Orphaned, SharedJob, shared_job
from lvmdb.corpus.store import another_encoder, ensure_dataset
from lvmdb.corpus.worker_session import LOCK_CLASS
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.types import DIMENSION
from lvmdb.errors import CorpusError
from lvmdb.progress import SILENT, Progress

_COMPARED = 512
"""Articles whose hashes are looked up together beforehand."""


@dataclass(frozen=True)
class Ingested:
    """What an ingest came to.

    Attributes:
        job_id: of its job.
        joined: whether another process had begun the job.
        totals: what all processes of the job did.
    """

    job_id: int
    joined: bool
    totals: Totals


def ingest(db: Database, plan: IngestPlan, *, progress: Progress = SILENT) -> Ingested:
    """Read, cut, encode, code and store; what is there already is left alone.

    A job over the same source with the same options, in which another process works, is joined.
    Else the source is read once beforehand (unless the plan says otherwise) and the encoder
    loaded, before anything is written: a broken file or a wrong encoder leaves the database as it
    was.

    Raises:
        InputError: the source is missing or broken.
        CorpusError: the dataset has another encoder, or has one and none is given; or nothing
            could be encoded.
        EncoderError: the encoder is missing, or is not what its name says.
    """
    task = Task(plan.dataset, plan.reader_name, plan.source, plan.options, plan.shared)
    with db.connect() as connection:
        joining = plan.shared and find(connection, task) is not None
    surveyed = _survey(db, plan) if plan.survey and not joining else None
    if not plan.survey and not joining:
        # A source that is not there is told before anything is written, in any case.
        for _ in plan.reader(plan.source, limit=1, on_error=lambda _: None):
            pass
    encoder = _Encoder(db, plan)
    encoder.prepare(needed=surveyed is None or surveyed.todo > 0)
    if surveyed is not None:
        task = replace(task, total=surveyed.total)
    with shared_job(db, task) as job:
        if encoder.seconds:
            job.timings.spent("load encoder", 1, encoder.seconds)
        if job.joined:
            progress.say(f"joining ingest job {job.job_id}, which others work on")
        total = 0 if surveyed is None or job.joined else surveyed.total
        with progress.task("ingesting", total, "articles") as advance:
            load = None if plan.encoder is None else encoder.load
            _work(job, Pipeline(db, plan, job, load, advance))
        totals = job.finish(vanished=_whole(plan, job))
    return Ingested(job.job_id, job.joined, totals)


def given_articles(articles: Sequence[RawArticle]) -> Reader:
    """A reader of articles that are at hand; `source` is a name for the record."""

    def read(
        source: str | Path,
        *,
        start: int = 0,
        limit: int | None = None,
        on_error: OnError | None = None,
    ) -> Iterator[RawArticle]:
        return made((given(article) for article in articles), start, limit, on_error)

    return read


def _work(job: SharedJob, pipeline: Pipeline) -> None:
    """Do what is free until everything is done, by whomever."""
    while not job.complete():
        try:
            pipeline.run()
        except Orphaned:
            # What others wait for comes first; what was done for later ranges is done again.
            job.release()
            continue
        if not job.complete():
            time.sleep(LONGEST_WAIT)


def _whole(plan: IngestPlan, job: SharedJob) -> bool:
    """Whether a job's ranges hold all articles of its source: one with a limit may have more."""
    return plan.shared and (plan.limit is None or job.read() < plan.limit)


@dataclass(frozen=True)
class _Surveyed:
    """A source that was read.

    Attributes:
        total: how many articles it has.
        todo: how many are new or changed.
    """

    total: int
    todo: int


def _survey(db: Database, plan: IngestPlan) -> _Surveyed:
    broken = 0

    def count(_: Exception) -> None:
        nonlocal broken
        broken += 1

    articles = iter(
        plan.reader(plan.source, limit=plan.limit, on_error=count if plan.skip_broken else None)
    )
    total = todo = 0
    with db.connect() as connection:
        while group := list(islice(articles, _COMPARED)):
            total += len(group)
            todo += _to_do(connection, plan, group)
    return _Surveyed(total + broken, todo)


def _to_do(connection: Connection, plan: IngestPlan, articles: list[RawArticle]) -> int:
    keys = [article.source_key for article in articles]
    rows = connection.execute(
        query("corpus", "known_articles"), {"dataset": plan.dataset, "source_keys": keys}
    )
    known = {row.source_key: bytes(row.content_hash) for row in rows if not row.uncoded}
    return sum(known.get(article.source_key) != plan.hash_of(article) for article in articles)


class _Encoder:
    """The plan's encoder, loaded when it is needed.

    Attributes:
        seconds: that loading took.
    """

    def __init__(self, db: Database, plan: IngestPlan) -> None:
        self._db, self._plan = db, plan
        self._loaded: tuple[Encoder, int] | None = None
        self.seconds = 0.0

    def prepare(self, *, needed: bool) -> None:
        """Make the dataset, with its encoder if there is anything to encode."""
        plan = self._plan
        with self._db.connect() as connection:
            present = encoders.of_dataset(connection, plan.dataset)
            encoders.require_verified(connection, plan.dataset)
        if plan.encoder is not None and needed:
            if present is not None and present != plan.encoder:
                # Told before the model is fetched and loaded.
                raise another_encoder(plan.dataset, present)
            self.load()
            return
        with self._db.begin() as connection:
            if plan.encoder is None and present is not None:
                raise CorpusError(
                    f"dataset '{plan.dataset}' has vectors of the encoder '{present}', which "
                    "its articles would lose: use that one (--encoder), or another dataset"
                )
            connection.execute(query("ingest", "lock_beginning"), {"lock_class": LOCK_CLASS})
            ensure_dataset(connection, plan.dataset, None)

    def load(self) -> tuple[Encoder, int]:
        """The encoder and its id."""
        if self._loaded is None:
            began = time.perf_counter()
            encoder = self._plan.load_encoder()
            with self._db.begin() as connection:
                connection.execute(query("ingest", "lock_beginning"), {"lock_class": LOCK_CLASS})
                encoder_id = encoders.register(connection, encoder)
                ensure_dataset(connection, self._plan.dataset, encoder_id)
            if self._plan.tagger is not None:
                # A tagger that compares vectors encodes its labels now, while nothing else does.
                self._plan.tagger.tag([], np.empty((0, DIMENSION), dtype=np.float32))
            self._loaded = encoder, encoder_id
            self.seconds = time.perf_counter() - began
        return self._loaded
