"""Micro-batches: what many callers ask of one model at the same time is computed together.

One thread computes. While it does, requests collect; then it takes all that wait for the same model
and computes them in one pass. A request that comes while nothing runs is computed at once, alone:
nobody waits for company, and the busier the service is, the larger its batches are.

    batcher = Batcher("model", lambda model, contexts: model(contexts), most=256, waiting=64)
    vectors = await batcher.run(model, contexts, Deadline(60))      # in a coroutine
    vectors = batcher.wait(model, contexts, deadline)               # in a thread
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from lvmdb.services.problems import RETRY_SOON, ProblemError, overloaded
from lvmdb.services.work import AbandonedError, Deadline

Key = TypeVar("Key")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)
class _Asked(Generic[Key, Item, Result]):
    """What one caller wants: some items, all of one model."""

    key: Key
    items: Sequence[Item]
    deadline: Deadline
    future: Future[Sequence[Result]] = field(default_factory=Future)


class Batcher(Generic[Key, Item, Result]):
    """A thread that computes for many callers.

    Args:
        name: of its thread.
        compute: gives a result for each item, in their order; of one model at a time.
        most: items of one pass; a caller's own are never divided, however many they are.
        waiting: callers that may wait.
    """

    def __init__(
        self,
        name: str,
        compute: Callable[[Key, Sequence[Item]], Sequence[Result]],
        *,
        most: int,
        waiting: int,
    ) -> None:
        self._compute, self._most, self._waiting = compute, most, waiting
        self._queue: deque[_Asked[Key, Item, Result]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.passes = 0
        """How often something was computed: by fewer passes than callers where they met."""
        # A daemon: a process that is asked to end does not wait for a pass that hangs.
        self._thread = threading.Thread(target=self._work, name=f"lvmdb-{name}", daemon=True)
        self._thread.start()

    async def run(self, key: Key, items: Sequence[Item], deadline: Deadline) -> Sequence[Result]:
        """What is computed for `items`, for a coroutine.

        Args:
            key: the model.
            items: at least one.
            deadline: what still waits then is not computed.

        Raises:
            ProblemError: 503, too many wait already; 504, it took too long.
        """
        asked = self._put(key, items, deadline)
        try:
            async with asyncio.timeout(deadline.left):
                return await asyncio.wrap_future(asked.future)
        except (TimeoutError, AbandonedError):
            raise late() from None
        finally:
            # One whose caller has gone is passed over if its turn has not come.
            asked.future.cancel()

    def wait(self, key: Key, items: Sequence[Item], deadline: Deadline) -> Sequence[Result]:
        """As `run`, for a thread.

        Raises:
            ProblemError: 503, too many wait already.
            AbandonedError: nobody waits any more.
        """
        asked = self._put(key, items, deadline)
        try:
            while True:
                deadline.check()
                try:
                    return asked.future.result(timeout=_LOOK)
                except TimeoutError:
                    # It may have been done just now; or a pass has ended with this very error.
                    if asked.future.done():
                        return asked.future.result()
        finally:
            asked.future.cancel()

    def close(self) -> None:
        """Compute no more; what waits ends as abandoned."""
        with self._changed:
            self._closed = True
            left, self._queue = list(self._queue), deque()
            self._changed.notify()
        for asked in left:
            if asked.future.set_running_or_notify_cancel():
                asked.future.set_exception(AbandonedError())

    def _put(
        self, key: Key, items: Sequence[Item], deadline: Deadline
    ) -> _Asked[Key, Item, Result]:
        asked: _Asked[Key, Item, Result] = _Asked(key, items, deadline)
        with self._changed:
            if self._closed or len(self._queue) >= self._waiting:
                raise overloaded()
            self._queue.append(asked)
            self._changed.notify()
        return asked

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                batch = self._take()
            self._compute_together(batch)
            del batch  # while it waits for more, it keeps no model

    def _take(self) -> list[_Asked[Key, Item, Result]]:
        """The first that waits, and behind it all that wait for the same model and fit."""
        first = self._queue.popleft()
        taken, size, rest = [first], len(first.items), deque[_Asked[Key, Item, Result]]()
        for asked in self._queue:
            if asked.key is first.key and size + len(asked.items) <= self._most:
                taken.append(asked)
                size += len(asked.items)
            else:
                rest.append(asked)
        self._queue = rest
        return taken

    def _compute_together(self, batch: Sequence[_Asked[Key, Item, Result]]) -> None:
        wanted = []
        for asked in batch:
            try:
                asked.deadline.check()
            except AbandonedError as error:
                if asked.future.set_running_or_notify_cancel():
                    asked.future.set_exception(error)
                continue
            if asked.future.set_running_or_notify_cancel():
                wanted.append(asked)
        if not wanted:
            return
        try:
            self.passes += 1
            results = self._compute(wanted[0].key, [item for a in wanted for item in a.items])
        except Exception as error:
            if len(wanted) > 1:
                # What one of them asked for must not be the others' trouble.
                for asked in wanted:
                    self._compute_alone(asked)
                return
            wanted[0].future.set_exception(error)
            return
        start = 0
        for asked in wanted:
            asked.future.set_result(results[start : start + len(asked.items)])
            start += len(asked.items)

    def _compute_alone(self, asked: _Asked[Key, Item, Result]) -> None:
        try:
            self.passes += 1
            asked.future.set_result(self._compute(asked.key, asked.items))
        except Exception as error:
            asked.future.set_exception(error)


_LOOK = 0.25
"""Seconds between two looks of a thread that waits, whether anyone waits for it."""


def late() -> ProblemError:
    """The work took longer than somebody waits for it."""
    return ProblemError(
        504,
        "timed_out",
        "the work took too long: send less at a time",
        retry_after=RETRY_SOON,
    )
