"""The worker: takes runs from the queue, one for each of its slots, and gives each a process.

A process that dies, of memory or anything else, takes no worker with it; a worker that dies takes
its processes with it, and the others find its runs by its missing heartbeat. One thread does all of
it; another sends the heartbeats. A server that goes away is waited for, while the processes go on.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lvmdb.db.engine import Database
from lvmdb.db.patience import PATIENCE
from lvmdb.errors import ConnectionLostError, LvmdbError
from lvmdb.progress import SILENT, Progress
from lvmdb.scheduling import queue, settling
from lvmdb.scheduling.policy import DEFAULT, Ended, Ending, Fate, Limits
from lvmdb.scheduling.queue import Job
from lvmdb.scheduling.slots import Slot
from lvmdb.scheduling.tries import GRACE, Command, Try

TICK, POLL = 0.1, 1.0
"""Seconds between two looks at the processes, and between two looks at the queue."""

HEARTBEAT_EVERY, SILENT_AFTER, GONE_AFTER = 5.0, 30.0, 86400.0
"""Seconds between two heartbeats; without one after which a worker is dead; is forgotten."""

STOPPED = Ended(Ending.INTERRUPTED, "its worker was stopped")


@dataclass
class Counts:
    """What became of the runs that a worker tried.

    Attributes:
        succeeded: trained and evaluated.
        failed: given up.
    """

    succeeded: int = 0
    failed: int = 0


class Worker:
    """Runs queued runs.

    Args:
        db: the database.
        slots: where runs run, one at a time in each.
        command: what tries a run.
        limits: what a run may ask for.
        advance: queues what is due and says how many runs that is; asked before a run is taken and
            whenever none is offered.
        until_empty: end when no run waits or runs anywhere, and none is due.
        progress: told of each run's begin and end.
        verbose: whether it is also told what their processes say.
    """

    def __init__(
        self,
        db: Database,
        slots: Sequence[Slot],
        command: Command,
        *,
        limits: Limits = DEFAULT,
        advance: Callable[[], int] = lambda: 0,
        until_empty: bool = False,
        progress: Progress = SILENT,
        verbose: bool = False,
    ) -> None:
        self._db, self._command, self._limits = db, command, limits
        self._advance, self._until_empty = advance, until_empty
        self._progress, self._verbose = progress, verbose
        self._free = list(slots)
        self._tries: list[Try] = []
        # Ran out of memory beside others, and waits for these to end.
        self._waiting: Job | None = None
        self._names: dict[int, str] = {}
        self._worker_id = 0
        self._stops = 0
        self._empty = False
        self._look_at = self._search_at = 0.0
        self._away_since: float | None = None
        self.counts = Counts()

    def stop(self) -> None:
        """Take no more runs and put back those that are running; a second time: at once.

        For signal handlers.
        """
        self._stops += 1

    def run(self) -> Counts:
        """Work until the queue is empty, or until it is stopped.

        Raises:
            ConnectionLostError: the server stayed away.
        """
        with self._registered():
            try:
                while not self._over():
                    self._outlive(self._tick)
                    time.sleep(TICK)
            finally:
                self._put_back_all()
        return self.counts

    def _over(self) -> bool:
        if not self._stops:
            return self._empty
        # Without a server nothing can be put back: the others will find it.
        away = self._away_since is not None
        return all(each.poll() for each in self._tries) if away else not self._busy

    @property
    def _busy(self) -> bool:
        return bool(self._tries) or self._waiting is not None

    def _tick(self) -> None:
        self._stop_what_must()
        self._settle_ended()
        now = time.monotonic()
        if self._stops:
            self._put_back_waiting()
        elif now >= self._look_at:
            if now >= self._search_at:
                self._take_back()
                self._search_at = now + HEARTBEAT_EVERY
            self._fill()
            self._look_at = time.monotonic() + POLL
            self._empty = self._until_empty and self._nothing_left()

    def _stop_what_must(self) -> None:
        """Needs no server."""
        for each in self._tries:
            if self._stops > 1:
                each.kill(STOPPED)
            elif self._stops:
                each.stop(STOPPED)
            elif each.seconds > self._limits.time:
                minutes = f"{self._limits.time / 60:g}"
                message = f"it reached the time limit of {minutes} minutes"
                each.stop(Ended(Ending.OUT_OF_TIME, message))

    def _settle_ended(self) -> None:
        for each in list(self._tries):
            if (ended := each.poll()) is not None:
                self._settle(each.job, ended, each)
                self._tries.remove(each)
                self._free.append(each.slot)
                # Its slot is free for another.
                self._look_at = 0.0

    def _settle(self, job: Job, ended: Ended, tried: Try | None = None) -> None:
        pid = None if tried is None else tried.pid
        settled = settling.settle(self._db, job, self._worker_id, ended, self._limits, pid)
        took = "" if tried is None else f" ({tried.seconds:.1f} s)"
        self._say(job, f"{settled.said}{took}")
        self.counts.succeeded += settled.fate is Fate.END and ended.ending is Ending.DONE
        self.counts.failed += settled.fate is Fate.GIVE_UP

    def _take_back(self) -> None:
        held = [each.job.job_id for each in self._tries]
        if self._waiting is not None:
            held.append(self._waiting.job_id)
        for job, settled in settling.take_back(
            self._db, self._worker_id, held, SILENT_AFTER, self._limits
        ):
            self._progress.say(f"run {job.run_id} {settled.said}")
            self.counts.failed += settled.fate is Fate.GIVE_UP

    def _fill(self) -> None:
        """Give each free slot a run."""
        while self._free and (job := self._next()) is not None:
            slot = self._free.pop(0)
            say = self._progress.say if self._verbose else None
            try:
                started = Try(job, slot, self._command(job, slot), self._db.dsn, say)
            except OSError as error:
                self._free.append(slot)
                self._settle(job, Ended(Ending.ERROR, f"its process cannot be started: {error}"))
                return
            self._tries.append(started)
            self._say(job, f"begins (try {job.failures + 1} of {self._limits.tries})")

    def _next(self) -> Job | None:
        """The run to begin now, if any; one that must be alone waits until it is."""
        if self._waiting is None:
            if any(each.job.alone for each in self._tries):
                return None
            self._waiting = self._take()
        job = self._waiting
        if job is None or (job.alone and self._tries):
            return None
        self._waiting = None
        return job

    def _take(self) -> Job | None:
        self._advance()
        while True:
            with self._db.begin() as connection:
                job = queue.take(connection, self._worker_id)
            if job is None:
                return None
            name = settling.admit(self._db, job, self._worker_id, self._limits)
            if name is not None:
                self._names[job.run_id] = name
                return job

    def _nothing_left(self) -> bool:
        if self._busy or self._live():
            return False
        # The last one to end may have made others due, and its worker may have died of it. What
        # another worker was choosing meanwhile is in the queue by now.
        return self._advance() == 0 and not self._live()

    def _live(self) -> bool:
        with self._db.begin() as connection:
            return bool(queue.live_runs(connection))

    def _put_back_waiting(self) -> None:
        if self._waiting is not None:
            self._settle(self._waiting, STOPPED)
            self._waiting = None

    def _put_back_all(self) -> None:
        """What is left when the worker ends in an error, or without a server."""
        until = time.monotonic() + GRACE
        for each in self._tries:
            each.stop(STOPPED)
        while not all(each.poll() for each in self._tries):
            if time.monotonic() > until or self._stops > 1:
                for each in self._tries:
                    each.kill(STOPPED)
            time.sleep(TICK)
        with contextlib.suppress(LvmdbError):
            self._settle_ended()
            self._put_back_waiting()

    def _outlive(self, action: Callable[[], None]) -> None:
        """Do something that needs the server; what it cannot do now it does the next time."""
        try:
            action()
        except ConnectionLostError as error:
            now = time.monotonic()
            if self._away_since is None:
                self._away_since = now
                self._progress.say(f"waiting for the server to come back: {error}")
            elif now - self._away_since > PATIENCE:
                raise
        else:
            self._away_since = None

    @contextmanager
    def _registered(self) -> Iterator[None]:
        """Be a worker that sends heartbeats, while the block lasts."""
        queue.ensure(self._db)
        self._register()
        stop = threading.Event()
        beating = threading.Thread(
            target=self._beat, args=(stop,), name="lvmdb-worker-heartbeat", daemon=True
        )
        beating.start()
        try:
            yield
        finally:
            stop.set()
            beating.join()
            with contextlib.suppress(LvmdbError), self._db.begin() as connection:
                queue.unregister(connection, self._worker_id)

    def _register(self) -> None:
        with self._db.begin() as connection:
            self._worker_id = queue.register(connection, GONE_AFTER)

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(HEARTBEAT_EVERY):
            # A server that is away may come back.
            with contextlib.suppress(LvmdbError):
                with self._db.begin() as connection:
                    alive = queue.beat(connection, self._worker_id)
                # Asleep for so long that it was forgotten: what it had is the others' by now.
                if not alive:
                    self._register()

    def _say(self, job: Job, what: str) -> None:
        self._progress.say(f"run {job.run_id} {self._names.get(job.run_id, '')} {what}")
