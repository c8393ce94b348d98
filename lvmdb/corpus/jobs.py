"""The record of an import: what it did, how long each step took, what failed.

Ingests, which several processes may share, have `shared_job`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, text, update

from lvmdb.corpus.store import Stored
from lvmdb.corpus.timings import Timings
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.schema.ingest import ingest_job


@dataclass(frozen=True)
class Failure:
    """What could not be done.

    Attributes:
        step: of the pipeline.
        message: why, on one line.
        source_key: the article; None where it could not be read at all.
    """

    step: str
    message: str
    source_key: str | None = None


class Job(Timings):
    """One job while it runs. Steps are timed in memory and written by `finish`."""

    def __init__(self, db: Database, dataset: str, job_id: int) -> None:
        super().__init__()
        self._db, self._dataset = db, dataset
        self.job_id = job_id
        self.errors = 0

    def error(self, step: str, message: str, source_key: str | None = None) -> None:
        """Record what could not be done."""
        self.errors += 1
        with self._db.begin() as connection:
            failure = Failure(step, message, source_key)
            add_errors(connection, self._dataset, self.job_id, [failure])

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
                    added=outcome.added,
                    changed=outcome.changed,
                    unchanged=outcome.unchanged,
                    failed=len(outcome.refused),
                    read=outcome.added + outcome.changed + outcome.unchanged + len(outcome.refused),
                    concepts=outcome.concepts,
                    finished_at=text("now()"),
                )
            )
            self.write(connection, self.job_id)


@contextmanager
def job(
    db: Database, dataset: str, reader: str, source: str, options: Mapping[str, Any]
) -> Iterator[tuple[Job, Stored]]:
    """A job and the outcome that its body adds to; finished however the body ends."""
    with db.begin() as connection:
        job_id = add_job(connection, dataset, reader, source, options)
    running, outcome = Job(db, dataset, job_id), Stored()
    try:
        yield running, outcome
    except BaseException:
        running.finish(outcome, "failed")
        raise
    running.finish(outcome, "failed" if running.errors else "succeeded")


def add_job(
    connection: Connection,
    dataset: str,
    reader: str,
    source: str,
    options: Mapping[str, Any],
    total: int | None = None,
) -> int:
    """Write the row of a job that begins; returns its id."""
    job_id: int = connection.execute(
        insert(ingest_job)
        .values(
            dataset_source=dataset,
            reader=reader,
            source=source,
            options=dict(options),
            total=total,
        )
        .returning(ingest_job.c.job_id)
    ).scalar_one()
    return job_id


def add_errors(
    connection: Connection, dataset: str, job_id: int, failures: Sequence[Failure]
) -> None:
    """Record what could not be done, with the number of tries so far."""
    if not failures:
        return
    connection.execute(
        query("ingest", "add_errors"),
        {
            "dataset": dataset,
            "job_id": job_id,
            "keys": [failure.source_key for failure in failures],
            "steps": [failure.step for failure in failures],
            "messages": [failure.message for failure in failures],
        },
    )
