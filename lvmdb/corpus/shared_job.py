"""An ingest job that several processes share: who is in it, who has claimed what, whose turn it is.

The source is cut into ranges of articles, in order. A process claims the first free one, and
commits it when all before it are committed. So the database holds at any moment a beginning of the
source, and the result is the same however many processes there were and whenever they died.

A process is in the job while its session holds a lock and its heartbeats come. Ranges of one that
is gone are free; should it come back, it finds that they are no longer its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from lvmdb.corpus.job_task import Task, Totals, find
from lvmdb.corpus.jobs import Failure, add_errors, add_job
from lvmdb.corpus.store import Stored
from lvmdb.corpus.timings import Timings
from lvmdb.corpus.worker_session import WorkerSession
from lvmdb.db.claims import worker_name
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.errors import CorpusError

FIRST_WAIT, LONGEST_WAIT = 0.005, 0.2
"""Seconds until a process looks again whether its turn has come, and at most."""


class Orphaned(Exception):  # noqa: N818  (a turn of events, no error)
    """A range that others wait for has lost its process."""


class SharedJob:
    """A job in which this process works; use `shared_job`.

    Attributes:
        job_id: of the job.
        joined: whether another process had begun it.
        timings: of this process, written with each range.
        session: that holds the lock.
    """

    def __init__(self, db: Database, task: Task) -> None:
        """Join the job of another process, or begin one."""
        self._db, self._task = db, task
        self.timings = Timings()
        # Before its row is seen: a process without its lock is taken for dead.
        self.session = WorkerSession(db)
        self._worker_id = self.session.worker_id
        self._behind_end = False
        try:
            with db.begin() as connection:
                self.job_id, self.joined = self._enter(connection)
        except BaseException:
            self.session.close()
            raise

    def claim(self) -> int | None:
        """The first free range; None if there is none (others may still have some)."""
        row = self._mine("claim_freed")
        if row is None and not self._behind_end:
            row = self._mine("claim_next")
        return None if row is None else int(row[0])

    def source_ends(self, ranges: int) -> None:
        """The source has so many ranges.

        Raises:
            CorpusError: another process has read more, or fewer.
        """
        if self._of_job("source_ended", ranges=ranges) is None:
            raise CorpusError(
                f"{self._task.source}: it does not end where another process of this job found "
                "its end: give all of them the same source"
            )
        self._of_job("drop_ranges_behind", ranges=ranges)

    def is_empty(self, ordinal: int) -> None:
        """Nothing of the source is in this range.

        The source ends somewhere before it; where, says whoever has its last articles.

        Raises:
            CorpusError: as `source_ends`, of a source without any article.
        """
        self._behind_end = True
        if ordinal == 0:
            self.source_ends(0)

    def await_turn(self, ordinal: int, meanwhile: Callable[[], object] = lambda: None) -> float:
        """Wait until all ranges before this one are committed; returns the seconds.

        Args:
            ordinal: of the range.
            meanwhile: called now and then.

        Raises:
            Orphaned: the process that has the next one is gone.
        """
        wait = waited = 0.0
        while (row := self._of_job("next_in_turn")) is not None and row[0] < ordinal:
            if not row[1]:
                raise Orphaned
            wait = min(2 * wait or FIRST_WAIT, LONGEST_WAIT)
            time.sleep(wait)
            waited += wait
            meanwhile()
        return waited

    def may_commit(self, connection: Connection, ordinal: int) -> bool:
        """Whether a range is still this process's, and stays so until the transaction ends.

        Raises:
            CorpusError: the job has been ended by others.
        """
        # Also held by who begins jobs: nobody can end this one in the meantime.
        connection.execute(query("corpus", "lock_dataset"), {"dataset": self._task.dataset})
        self._require_kept(connection)
        mine = query("ingest", "still_mine")
        return bool(connection.execute(mine, {**self._keys, "ordinal": ordinal}).scalar_one())

    def done(
        self,
        connection: Connection,
        ordinal: int,
        *,
        read: int,
        outcome: Stored,
        seen: Sequence[int],
        failures: Sequence[Failure],
        failed: int,
    ) -> None:
        """Count a range as done, in the transaction that wrote its articles.

        Args:
            connection: in which `may_commit` said so.
            ordinal: of the range.
            read: articles that it held.
            outcome: what became of them.
            seen: ids of those that are there.
            failures: what went wrong.
            failed: articles of which nothing was kept.
        """
        bad = {failure.source_key for failure in failures}
        good = [key for key in outcome.article_ids if key not in bad]
        resolve = {"dataset": self._task.dataset, "keys": good}
        if good:
            connection.execute(query("ingest", "resolve_errors"), resolve)
        add_errors(connection, self._task.dataset, self.job_id, failures)
        connection.execute(
            query("ingest", "commit_range"),
            {
                "job_id": self.job_id,
                "ordinal": ordinal,
                "read": read,
                "added": outcome.added,
                "changed": outcome.changed,
                "unchanged": outcome.unchanged,
                "failed": failed,
                "concepts": outcome.concepts,
                "seen": list(seen),
            },
        )
        articles = outcome.added + outcome.changed
        counts = {"read": read, "articles": articles, "concepts": outcome.concepts}
        connection.execute(
            query("ingest", "count_worker"), {"worker_id": self._worker_id, **counts}
        )
        self.timings.write(connection, self.job_id)

    def release(self) -> None:
        """Give back what was claimed and not committed."""
        self._mine("release_ranges")

    def complete(self) -> bool:
        """Whether all ranges are committed."""
        row = self._of_job("is_complete")
        return row is None or bool(row[0])

    def read(self) -> int:
        """How many articles its ranges held."""
        row = self._of_job("articles_read")
        return 0 if row is None else int(row[0])

    def finish(self, *, vanished: bool) -> Totals:
        """End the job, if no other process has; say what became of it.

        Once this returns, all ranges are on the disk: they did not wait for it (`commit_soon`), but
        whoever ended the job did, and the server's log is flushed in its order.

        Args:
            vanished: whether its ranges hold all that its source has.

        Raises:
            CorpusError: others have ended it, with ranges that were not committed.
        """
        keys = {"job_id": self.job_id}
        with self._db.begin() as connection:
            connection.execute(query("corpus", "lock_dataset"), {"dataset": self._task.dataset})
            totals = self._totals(connection)
            if totals.status != "running":
                self._require_kept(connection)
                return totals
            self.timings.write(connection, self.job_id)
            if vanished:
                connection.execute(query("ingest", "add_vanished"), keys)
            connection.execute(query("ingest", "finish_job"), {**keys, "vanished": vanished})
            connection.execute(query("ingest", "forget_ranges"), {"dataset": self._task.dataset})
            return self._totals(connection)

    def leave(self) -> None:
        """Give everything back; a job that nobody is left in has failed, unless it is finished."""
        try:
            with self._db.begin() as connection:
                connection.execute(query("corpus", "lock_dataset"), {"dataset": self._task.dataset})
                connection.execute(query("ingest", "release_ranges"), self._keys)
                connection.execute(query("ingest", "end_worker"), {"worker_id": self._worker_id})
                self.timings.write(connection, self.job_id)
                self._end_dead(connection)
        finally:
            self.session.close()

    @property
    def _keys(self) -> dict[str, int]:
        return {"job_id": self.job_id, "worker_id": self._worker_id}

    def _enter(self, connection: Connection) -> tuple[int, bool]:
        task = self._task
        connection.execute(query("corpus", "lock_dataset"), {"dataset": task.dataset})
        self._end_dead(connection)
        job_id = find(connection, task) if task.shared else None
        joined = job_id is not None
        if job_id is None:
            job_id = add_job(
                connection, task.dataset, task.reader, task.source, task.options, task.total
            )
        connection.execute(
            query("ingest", "add_worker"),
            {"worker_id": self._worker_id, "job_id": job_id, "name": worker_name()},
        )
        return job_id, joined

    def _end_dead(self, connection: Connection) -> None:
        dataset = {"dataset": self._task.dataset}
        connection.execute(query("ingest", "end_dead_jobs"), dataset)
        connection.execute(query("ingest", "forget_ranges"), dataset)

    def _require_kept(self, connection: Connection) -> None:
        keys = {"job_id": self.job_id}
        if connection.execute(query("ingest", "given_up"), keys).scalar_one():
            raise CorpusError(
                f"ingest job {self.job_id} was given up by others while this process was "
                "silent: run the same command again"
            )

    def _totals(self, connection: Connection) -> Totals:
        row = connection.execute(query("ingest", "job_totals"), {"job_id": self.job_id}).one()
        return Totals(**row._mapping)

    def _mine(self, name: str) -> tuple[Any, ...] | None:
        return self.session.ask(name, **self._keys)

    def _of_job(self, name: str, **parameters: Any) -> tuple[Any, ...] | None:
        return self.session.ask(name, job_id=self.job_id, **parameters)


@contextmanager
def shared_job(db: Database, task: Task) -> Iterator[SharedJob]:
    """Work in a job while the block lasts, and send heartbeats."""
    job = SharedJob(db, task)
    try:
        with job.session.heartbeats():
            yield job
    finally:
        job.leave()
