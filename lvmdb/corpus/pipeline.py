"""The steps of an ingest, side by side: while one range is encoded, the next is read and cut, and
the last is coded, grouped and written.

    read, compare, cut  ->  encode  ->  code, group, write  ->  wait for its turn, commit
    (a thread; cutting    (a thread)        (a thread)               (this thread)
     also by processes)

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

from sqlalchemy import Connection

from lvmdb.ahead import ahead
from lvmdb.corpus import steps
from lvmdb.corpus.encoder import Encoder
from lvmdb.corpus.plan import IngestPlan
from lvmdb.corpus.ranges import Ranges
from lvmdb.corpus.shared_job import SharedJob
from lvmdb.corpus.steps import Batch, Cut
from lvmdb.corpus.writing import Writer, Written
from lvmdb.db.engine import Database
from lvmdb.errors import CorpusError
from lvmdb.progress import Advance

DEPTH = 2
"""Ranges that are ready for the next step, at most."""

GIVE_UP_AFTER = 3
"""Ranges in a row at which all articles failed to be encoded: then it is not the articles."""


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
        self._writer = Writer(db, plan, job)
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
        written = ahead(self._written(encoded), name="lvmdb-write", depth=1)
        with closing(self._writer), closing(written):
            try:
                for one in written:
                    self._finish(one)
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
                if not found.read:
                    self._job.is_empty(ordinal)
                elif found.ended:
                    self._job.source_ends(ordinal + 1)
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

    def _written(self, encoded: Generator[Batch]) -> Generator[Written]:
        """The same coded and grouped, and their concepts written, not to be seen yet."""
        timings, plan = self._job.timings, self._plan
        with closing(encoded):
            for batch in encoded:
                if plan.tagger is not None and batch.works:
                    with timings.timed("tag", batch.concepts):
                        steps.tag(batch, plan.tagger)
                if plan.episodes is not None and batch.works:
                    with timings.timed("episodes", batch.concepts):
                        steps.group(batch, plan.episodes)
                with timings.timed("store"):
                    written = self._writer.begin(batch, self._encoder_id)
                yield written

    def _finish(self, written: Written) -> None:
        """Commit a range when it is its turn."""
        began = time.perf_counter()
        outcome, waited = self._writer.finish(written)
        seconds = time.perf_counter() - began - waited
        self._job.timings.spent("store", outcome.concepts, seconds)
        if waited:
            self._job.timings.spent("wait", 0, waited)
        self._advance(written.batch.range.read)

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
