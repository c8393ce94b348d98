"""Ranges into the database: most of it at any time, the rest when it is their turn.

The concepts and episodes of new articles are written as soon as they are there, by several
processes at once, in transactions that wait. When all ranges before it are committed, a range's
articles get their ordinals, and all of it becomes visible together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import Connection

from lvmdb.corpus import steps
from lvmdb.corpus.articles import ChunkedArticle
from lvmdb.corpus.jobs import Failure
from lvmdb.corpus.plan import IngestPlan
from lvmdb.corpus.replacing import Origin
from lvmdb.corpus.shared_job import SharedJob
from lvmdb.corpus.steps import Batch
from lvmdb.corpus.store import OvertakenError, Stored, store, write_ahead
from lvmdb.db.engine import Database, is_about_the_data, translated_errors
from lvmdb.db.queries import query
from lvmdb.errors import DatabaseError

Articles: TypeAlias = list[tuple[ChunkedArticle, bytes]]
"""With their content hashes."""


@dataclass(eq=False)
class Written:
    """A range in a transaction of its own.

    Attributes:
        batch: the range.
        encoder_id: of its vectors.
        articles: of it that are to be stored.
        connection: in the transaction.
        ids: of the articles whose concepts are written; None where the server refused one.
    """

    batch: Batch
    encoder_id: int | None
    articles: Articles
    connection: Connection
    ids: dict[str, int] | None = None


class Writer:
    """Writes the ranges of a job that this process has claimed.

    `begin` and `finish` may be called by two threads, each range by one after the other.
    """

    def __init__(self, db: Database, plan: IngestPlan, job: SharedJob) -> None:
        self._db, self._plan, self._job = db, plan, job
        self._waiting: list[Written] = []

    def begin(self, batch: Batch, encoder_id: int | None) -> Written:
        """Write what needs no turn.

        Raises:
            DatabaseError: the server does not answer, or cannot write.
        """
        plan = self._plan
        tagger = None if plan.tagger is None else plan.tagger.name
        articles = [(work.article(plan.source, tagger), work.digest) for work in batch.works]
        known = {work.raw.source_key for work in batch.works if work.article_id is not None}
        new = [article for article, _ in articles if article.source_key not in known]
        written = Written(batch, encoder_id, articles, self._db.open())
        try:
            with translated_errors():
                self._prepare(written.connection)
                written.ids = write_ahead(written.connection, plan.dataset, encoder_id, new)
        except DatabaseError as error:
            written.connection.rollback()
            if not is_about_the_data(error):
                written.connection.close()
                raise
        except BaseException:
            written.connection.close()
            raise
        self._waiting.append(written)
        return written

    def finish(self, written: Written) -> tuple[Stored, float]:
        """Commit a range when it is its turn; returns what it came to, and the seconds waited.

        Raises:
            Orphaned: the range before it is free again.
            DatabaseError: the server does not answer, or cannot write.
        """
        try:
            with translated_errors():
                waited = self._job.await_turn(written.batch.range.ordinal, self._say_still_here)
                if written.ids is not None:
                    try:
                        return self._together(written, written.ids), waited
                    except (DatabaseError, OvertakenError) as error:
                        if isinstance(error, DatabaseError) and not is_about_the_data(error):
                            raise
                        written.connection.rollback()
                # One of the articles is refused: which, is found by writing each by itself.
                return self._one_by_one(written), waited
        finally:
            self._waiting.remove(written)
            written.connection.close()

    def close(self) -> None:
        """Take back what has not been committed."""
        while self._waiting:
            self._waiting.pop().connection.close()

    def _prepare(self, connection: Connection) -> None:
        connection.execute(query("ingest", "commit_soon"))
        # Whoever has these articles afterwards, should this process fall silent, waits for the end
        # of this transaction.
        connection.execute(query("ingest", "end_if_silent"))

    def _say_still_here(self) -> None:
        for written in [*self._waiting]:
            written.connection.execute(query("ingest", "still_here"))

    def _together(self, written: Written, ids: dict[str, int]) -> Stored:
        with translated_errors():
            if not self._job.may_commit(written.connection, written.batch.range.ordinal):
                return Stored()
            outcome = self._store(written, written.articles, ids)
            return self._done(written, outcome, [])

    def _one_by_one(self, written: Written) -> Stored:
        connection = written.connection
        self._prepare(connection)
        if not self._job.may_commit(connection, written.batch.range.ordinal):
            return Stored()
        outcome, refused = Stored(), list[Failure]()
        for article, digest in written.articles:
            try:
                with translated_errors(), connection.begin_nested():
                    outcome += self._store(written, [(article, digest)])
            except DatabaseError as error:
                if not is_about_the_data(error):
                    raise
                refused.append(Failure("store", steps.one_line(error), article.source_key))
        return self._done(written, outcome, refused)

    def _store(
        self, written: Written, articles: Articles, ids: dict[str, int] | None = None
    ) -> Stored:
        return store(
            written.connection,
            self._plan.dataset,
            written.encoder_id,
            [article for article, _ in articles],
            [digest for _, digest in articles],
            origin=Origin(self._job.job_id, self._plan.options_hash),
            written=ids,
        )

    def _done(self, written: Written, outcome: Stored, refused: list[Failure]) -> Stored:
        """Count the range, and commit."""
        batch = written.batch
        refused += [Failure("store", reason, key) for key, reason in outcome.refused]
        outcome.unchanged += batch.unchanged
        self._job.done(
            written.connection,
            batch.range.ordinal,
            read=batch.range.read,
            outcome=outcome,
            seen=[*batch.present, *outcome.article_ids.values()],
            failures=[*batch.failures, *refused],
            failed=batch.failed + len(refused),
        )
        written.connection.commit()
        return outcome
