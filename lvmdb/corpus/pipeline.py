"""The steps of an ingest, side by side: while one range is encoded, the next is read and cut, and
the last is coded, grouped and written.

    read, compare, cut  ->  encode  ->  code, group, wait for its turn, store
         (a thread,        (a thread)         (this thread)
       or processes)

Queues between them are bounded. What is encoded together depends on the source and the plan alone,
so that an interrupted ingest that goes on gives the same vectors, to the last bit.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, closing
from typing import TypeAlias

from sqlalchemy import Connection

from lvmdb.ahead import ahead
from lvmdb.corpus import steps
from lvmdb.corpus.articles import ChunkedArticle
from lvmdb.corpus.encoder import Encoder
from lvmdb.corpus.jobs import Failure
from lvmdb.corpus.plan import IngestPlan
from lvmdb.corpus.ranges import Ranges
from lvmdb.corpus.replacing import Origin
from lvmdb.corpus.shared_job import SharedJob
from lvmdb.corpus.steps import Batch, Cut
from lvmdb.corpus.store import OvertakenError, Stored, store, write_ahead
from lvmdb.db.engine import Database, is_about_the_data, translated_errors
from lvmdb.db.queries import query
from lvmdb.errors import CorpusError, DatabaseError
from lvmdb.progress import Advance

DEPTH = 2
"""Ranges that are ready for the next step, at most."""

GIVE_UP_AFTER = 3
"""Ranges in a row at which all articles failed to be encoded: then it is not the articles."""


Articles: TypeAlias = list[tuple[ChunkedArticle, bytes]]
"""With their content hashes."""


class _StoppedError(Exception):
    """Nobody waits for the vectors any more."""


class Pipeline:
    """Does the ranges of a job that this process claims.

    Args:
        db: the database.
        plan: what is done.
        job: whose ranges.
        encoder: loads it on the first call, and gives it with its id; None where nothing is
            encoded.
        advance: told of articles done.
    """

    def __init__(
        self,
        db: Database,
        plan: IngestPlan,
        job: SharedJob,
        encoder: Callable[[], tuple[Encoder, int]] | None,
        advance: Advance,
    ) -> None:
        self._db, self._plan, self._job, self._advance = db, plan, job, advance
        self._load = encoder
        self._encoder_id: int | None = None
        self._all_failed = 0
        self._stopped = False

    def run(self) -> None:
        """Claim and do ranges until none is free.

        Raises:
            Orphaned: a range before those that were claimed is free again.
            LvmdbError: the source, the encoder or the database fails.
        """
        self._stopped = False
        prepared = ahead(self._prepared(), name="lvmdb-read", depth=DEPTH)
        encoded = ahead(self._encoded(prepared), name="lvmdb-encode", depth=DEPTH)
        with closing(encoded):
            try:
                for batch in encoded:
                    self._finish(batch)
            except BaseException:
                # Before it is closed: that waits for the threads.
                self._stopped = True
                raise

    # Each of these runs in a thread of its own.

    def _prepared(self) -> Generator[Batch]:
        """Ranges that are read, compared and cut."""
        waiting: deque[tuple[Batch, Future[Cut] | Cut]] = deque()
        with ExitStack() as stack:
            connection = stack.enter_context(self._db.connect())
            pool = self._pool(stack)
            ranges = Ranges(self._plan)
            while (ordinal := self._job.claim()) is not None:
                began = time.perf_counter()
                found = ranges.get(ordinal)
                batch = steps.compare(connection, self._plan, found)
                connection.rollback()
                self._job.timings.spent("read", found.read, time.perf_counter() - began)
                if found.ended:
                    self._job.source_ends(ordinal + (found.read > 0))
                    if not found.read:
                        continue
                if self._plan.cuts_by_vectors:
                    yield batch
                    continue
                waiting.append((batch, self._cut(pool, batch)))
                if len(waiting) > self._plan.processes:
                    yield self._taken(connection, *waiting.popleft())
            while waiting:
                yield self._taken(connection, *waiting.popleft())

    def _encoded(self, prepared: Generator[Batch]) -> Generator[Batch]:
        """The same with vectors."""
        with closing(prepared), self._db.connect() as connection:
            for batch in prepared:
                if self._plan.cuts_by_vectors:
                    # Here, since nothing else may be encoded at the same time.
                    self._taken(connection, batch, self._cut(None, batch))
                if self._load is not None and batch.works:
                    self._encode(batch)
                yield batch

    def _finish(self, batch: Batch) -> None:
        """Code, group and store a range."""
        timings, plan = self._job.timings, self._plan
        if plan.tagger is not None and batch.works:
            with timings.timed("tag", batch.concepts):
                steps.tag(batch, plan.tagger)
        if plan.episodes is not None and batch.works:
            with timings.timed("episodes", batch.concepts):
                steps.group(batch, plan.episodes)
        began = time.perf_counter()
        try:
            outcome = self._store(batch, together=True)
        except (DatabaseError, OvertakenError) as error:
            if isinstance(error, DatabaseError) and not is_about_the_data(error):
                raise
            # One of the articles is refused: which, is found by writing each by itself.
            outcome = self._store(batch, together=False)
        timings.spent("store", outcome.concepts, time.perf_counter() - began)
        self._advance(batch.range.read)

    # What they are made of.

    def _pool(self, stack: ExitStack) -> ProcessPoolExecutor | None:
        if not self._plan.processes or self._plan.cuts_by_vectors:
            return None
        # Not forked: threads of torch do not live on in a copy of this process.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self._plan.processes, mp_context=context)
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        return pool

    def _cut(self, pool: ProcessPoolExecutor | None, batch: Batch) -> Future[Cut] | Cut:
        texts = [work.raw.text for work in batch.works]
        if pool is None:
            return steps.cut(self._plan.chunker, texts)
        return pool.submit(steps.cut, self._plan.chunker, texts)

    def _taken(self, connection: Connection, batch: Batch, made: Future[Cut] | Cut) -> Batch:
        done = made.result() if isinstance(made, Future) else made
        steps.take_chunks(batch, done)
        if batch.works or done[0]:
            self._job.timings.spent("chunk", batch.concepts, done[1])
        if self._load is not None:
            steps.recall(connection, batch)
            connection.rollback()
        return batch

    def _encode(self, batch: Batch) -> None:
        assert self._load is not None, "there is something to encode with"
        encoder, self._encoder_id = self._load()
        began, articles = time.perf_counter(), len(batch.works)
        count = steps.encode(batch, encoder, self._go_on)
        self._job.timings.spent("encode", count, time.perf_counter() - began)
        self._all_failed = self._all_failed + 1 if articles and not batch.works else 0
        if self._all_failed >= GIVE_UP_AFTER:
            raise CorpusError(
                f"nothing could be encoded of {GIVE_UP_AFTER} ranges of articles in a row: "
                f"{batch.failures[-1].message}"
            )

    def _go_on(self, _: int) -> None:
        if self._stopped:
            raise _StoppedError

    def _store(self, batch: Batch, *, together: bool) -> Stored:
        """Write a range's articles in one transaction, and count it as done."""
        plan, job, ordinal = self._plan, self._job, batch.range.ordinal
        tagger = None if plan.tagger is None else plan.tagger.name
        articles = [(work.article(plan.source, tagger), work.digest) for work in batch.works]
        with self._db.begin() as connection:
            written: dict[str, int] = {}
            connection.execute(query("ingest", "commit_soon"))
            if together:
                # Most of the work needs no turn. Whoever has these articles afterwards, should this
                # process fall silent, waits for the end of this transaction.
                connection.execute(query("ingest", "end_if_silent"))
                new = [w.article(plan.source, tagger) for w in batch.works if w.article_id is None]
                written = write_ahead(connection, plan.dataset, self._encoder_id, new)
            waited = job.await_turn(
                ordinal, lambda: connection.execute(query("ingest", "still_here"))
            )
            if waited:
                job.timings.spent("wait", 0, waited)
                job.timings.spent("store", 0, -waited)
            if not job.may_commit(connection, ordinal):
                connection.rollback()
                return Stored()
            if together:
                outcome, refused = self._written(connection, articles, written), list[Failure]()
            else:
                outcome, refused = self._one_by_one(connection, articles)
            refused += [Failure("store", reason, key) for key, reason in outcome.refused]
            outcome.unchanged += batch.unchanged
            job.done(
                connection,
                ordinal,
                read=batch.range.read,
                outcome=outcome,
                seen=[*batch.present, *outcome.article_ids.values()],
                failures=[*batch.failures, *refused],
                failed=batch.failed + len(refused),
            )
        return outcome

    def _written(
        self, connection: Connection, articles: Articles, written: dict[str, int] | None = None
    ) -> Stored:
        return store(
            connection,
            self._plan.dataset,
            self._encoder_id,
            [article for article, _ in articles],
            [digest for _, digest in articles],
            origin=Origin(self._job.job_id, self._plan.options_hash),
            written=written,
        )

    def _one_by_one(
        self, connection: Connection, articles: Articles
    ) -> tuple[Stored, list[Failure]]:
        """Write what the database takes."""
        outcome, refused = Stored(), list[Failure]()
        for article, digest in articles:
            try:
                with translated_errors(), connection.begin_nested():
                    outcome += self._written(connection, [(article, digest)])
            except DatabaseError as error:
                if not is_about_the_data(error):
                    raise
                refused.append(Failure("store", steps.one_line(error), article.source_key))
        return outcome, refused
