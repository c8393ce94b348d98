"""The work of a service: in threads, so that it answers others meanwhile, and never too much of it.

A request takes a place before its body is read, and gives it back with its answer. Work that went
on past its time keeps its place until it ends, since a thread cannot be stopped from outside.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from lvmdb.services.limits import Limits
from lvmdb.services.problems import RETRY_SOON, ProblemError, overloaded

Result = TypeVar("Result")


class AbandonedError(Exception):
    """Nobody waits for this work any more."""


class Deadline:
    """Until when somebody waits for a piece of work.

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._abandoned = False

    @property
    def left(self) -> float:
        """Seconds until then; 0 where nobody waits any more."""
        return 0.0 if self._abandoned else max(0.0, self._end - time.monotonic())

    def abandon(self) -> None:
        """Let the work end at its next `check`."""
        self._abandoned = True

    def check(self, _: int = 0) -> None:
        """To be called now and then by the work; it fits where progress is reported.

        Raises:
            AbandonedError: nobody waits any more.
        """
        if self._abandoned or time.monotonic() > self._end:
            raise AbandonedError


class Work:
    """Threads, and places for the requests that use them.

    Args:
        name: of the threads.
        limits: how many.
    """

    def __init__(self, name: str, limits: Limits) -> None:
        self._seconds = limits.work_seconds
        self._places = limits.threads + limits.waiting
        self._requests = 0
        self._unended: set[Future[object]] = set()
        self._current: set[Deadline] = set()
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix=f"lvmdb-{name}")

    @property
    def taken(self) -> int:
        """Places that are in use."""
        return self._requests + len(self._unended)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for a request.

        Raises:
            ProblemError: 503, all are taken.
        """
        if self.taken >= self._places:
            raise overloaded()
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    async def run(self, job: Callable[[Deadline], Result]) -> Result:
        """What `job` gives, from a thread.

        Args:
            job: called with the time until which somebody waits for it.

        Raises:
            ProblemError: 504, it took too long.
        """
        loop, deadline = asyncio.get_running_loop(), Deadline(self._seconds)

        def work() -> Result:
            deadline.check()  # it may have waited for its thread all the time
            return job(deadline)

        future = self._threads.submit(work)
        self._current.add(deadline)
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.wrap_future(future)
        except (TimeoutError, AbandonedError):
            raise ProblemError(
                504,
                "timed_out",
                f"the work took longer than {self._seconds:g} s: send less at a time",
                retry_after=RETRY_SOON,
            ) from None
        finally:
            self._current.discard(deadline)
            if not future.done():
                deadline.abandon()
                self._keep(future, loop)

    def close(self) -> None:
        """Take no more work, and let what runs end at its next check."""
        for deadline in self._current:
            deadline.abandon()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _keep(self, future: Future[Result], loop: asyncio.AbstractEventLoop) -> None:
        """Count work that nobody waits for until it has ended."""
        if future.cancel():
            return
        self._unended.add(future)  # type: ignore[arg-type]

        def ended(_: Future[Result]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._unended.discard, future)

        future.add_done_callback(ended)
