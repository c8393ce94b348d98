"""The record of an ingest or import: what it did, how long each step took, what failed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import insert, text, update

from lvmdb.corpus.store import Stored
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.schema.corpus import ingest_error, ingest_job


class Job:
    """One job while it runs. Steps are timed in memory and written by `finish` and `commit`."""

    def __init__(self, db: Database, job_id: int) -> None:
        self._db = db
        self.job_id = job_id
        self.errors = 0
        self._timings: dict[str, tuple[int, float]] = {}

    @contextmanager
    def timed(self, step: str, items: int = 0) -> Iterator[None]:
        """Add the time of the block to a step."""
        began = time.perf_counter()
        yield
        self.spent(step, items, time.perf_counter() - began)

    def spent(self, step: str, items: int, seconds: float) -> None:
        """Add time that was measured elsewhere."""
        done, before = self._timings.get(step, (0, 0.0))
        self._timings[step] = (done + items, before + seconds)

    def error(self, step: str, message: str, source_key: str | None = None) -> None:
        """Record what could not be ingested."""
        self.errors += 1
        with self._db.begin() as connection:
            connection.execute(
                insert(ingest_error).values(
                    job_id=self.job_id, step=step, message=message, source_key=source_key
                )
            )

    def refuse(self, outcome: Stored) -> None:
        """Record the articles that the store refused."""
        for key, reason in outcome.refused:
            self.error("store", reason, key)

    def finish(self, outcome: Stored, status: str) -> None:
        """Write counts and timings."""
        with self._db.begin() as connection:
            connection.execute(
                update(ingest_job)
                .where(ingest_job.c.job_id == self.job_id)
                .values(
                    status=status,
                    articles=outcome.added + outcome.changed,
                    concepts=outcome.concepts,
                    finished_at=text("now()"),
                )
            )
            for step, (items, seconds) in self._timings.items():
                connection.execute(
                    query("corpus", "add_timing"),
                    {"job_id": self.job_id, "step": step, "items": items, "seconds": seconds},
                )


@contextmanager
def job(
    db: Database, dataset: str, reader: str, source: str, options: Mapping[str, Any]
) -> Iterator[tuple[Job, Stored]]:
    """A job and the outcome that its body adds to; finished however the body ends."""
    with db.begin() as connection:
        job_id = connection.execute(
            insert(ingest_job)
            .values(dataset_source=dataset, reader=reader, source=source, options=dict(options))
            .returning(ingest_job.c.job_id)
        ).scalar_one()
    running, outcome = Job(db, job_id), Stored()
    try:
        yield running, outcome
    except BaseException:
        running.finish(outcome, "failed")
        raise
    running.finish(outcome, "failed" if running.errors else "succeeded")
