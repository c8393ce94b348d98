"""Micro-batches: who is computed together, who alone, and what each is told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from lvmdb.services.batcher import Batcher
from lvmdb.services.problems import ProblemError
from lvmdb.services.work import AbandonedError, Deadline


class Doubling:
    """Doubles numbers, in passes that wait for the test while it is told to."""

    def __init__(self) -> None:
        self.passes: list[tuple[str, list[int]]] = []
        self.began, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    @property
    def held(self) -> bool:
        """Whether a pass waits for the test."""
        return self.began.is_set() and not self.go_on.is_set()

    def __call__(self, key: str, items: Sequence[int]) -> list[int]:
        self.passes.append((key, list(items)))
        self.began.set()
        assert self.go_on.wait(30)
        if 13 in items:
            raise ValueError("13 cannot be doubled")
        return [2 * item for item in items]


Ask = Callable[..., "Future[Sequence[int]]"]


@contextmanager
def doubling(*, most: int = 10, waiting: int = 10) -> Iterator[tuple[Doubling, Ask]]:
    compute = Doubling()
    batcher: Batcher[str, int, int] = Batcher("test", compute, most=most, waiting=waiting)
    with ThreadPoolExecutor(12) as callers:

        def ask(key: str, *items: int, seconds: float = 30) -> Future[Sequence[int]]:
            before, held, deadline = len(batcher._queue), compute.held, Deadline(seconds)
            asked = callers.submit(lambda: batcher.wait(key, items, deadline))
            # While a pass goes on, those that are to wait come in the order of the calls.
            while held and len(batcher._queue) == before and not asked.done():
                time.sleep(0.001)
            return asked

        try:
            yield compute, ask
        finally:
            compute.go_on.set()
            batcher.close()


def busy(compute: Doubling, ask: Ask) -> Future[Sequence[int]]:
    """Let a pass begin that others must wait for."""
    compute.go_on.clear()
    first = ask("a", 1)
    assert compute.began.wait(30)
    return first


def test_one_that_comes_alone_is_computed_at_once() -> None:
    with doubling() as (compute, ask):
        assert list(ask("a", 1, 2).result(30)) == [2, 4]
        assert list(ask("a", 3).result(30)) == [6]
        assert compute.passes == [("a", [1, 2]), ("a", [3])]


def test_those_that_wait_for_the_same_are_computed_together() -> None:
    with doubling() as (compute, ask):
        first = busy(compute, ask)
        waiting = [ask("a", 2), ask("b", 3), ask("a", 4, 5), ask("b", 6)]
        compute.go_on.set()
        assert [list(each.result(30)) for each in (first, *waiting)] == [
            [2], [4], [6], [8, 10], [12],
        ]  # fmt: skip
        assert compute.passes == [("a", [1]), ("a", [2, 4, 5]), ("b", [3, 6])]


def test_a_pass_has_an_end_and_no_caller_is_divided() -> None:
    with doubling(most=3) as (compute, ask):
        busy(compute, ask)
        waiting = [ask("a", 2, 3), ask("a", 4, 5), ask("a", 6), ask("a", *range(7, 12))]
        compute.go_on.set()
        for each in waiting:
            each.result(30)
        assert [items for _, items in compute.passes[1:]] == [[2, 3, 6], [4, 5], [7, 8, 9, 10, 11]]


def test_what_one_asked_for_is_not_the_others_trouble() -> None:
    with doubling() as (compute, ask):
        busy(compute, ask)
        good, bad, other = ask("a", 2), ask("a", 13), ask("a", 4)
        compute.go_on.set()
        assert (list(good.result(30)), list(other.result(30))) == ([4], [8])
        with pytest.raises(ValueError, match="13 cannot be doubled"):
            bad.result(30)


def test_what_nobody_waits_for_any_more_is_not_computed() -> None:
    with doubling() as (compute, ask):
        busy(compute, ask)
        late, good = ask("a", 2, seconds=0.01), ask("a", 3)
        with pytest.raises(AbandonedError):
            late.result(30)
        compute.go_on.set()
        assert list(good.result(30)) == [6]
        assert compute.passes == [("a", [1]), ("a", [3])]


def test_no_more_wait_than_may() -> None:
    with doubling(waiting=2) as (compute, ask):
        first = busy(compute, ask)
        waiting = [ask("a", 2), ask("a", 3)]
        with pytest.raises(ProblemError) as refused:
            ask("a", 4).result(30)
        assert (refused.value.status, refused.value.code) == (503, "overloaded")
        compute.go_on.set()
        assert [list(each.result(30)) for each in (first, *waiting)] == [[2], [4], [6]]


def test_coroutines_are_served_and_told_when_it_is_too_late() -> None:
    compute = Doubling()
    batcher: Batcher[str, int, int] = Batcher("test", compute, most=10, waiting=10)

    async def ask() -> None:
        assert list(await batcher.run("a", [1], Deadline(30))) == [2]
        compute.go_on.clear()
        with pytest.raises(ProblemError) as late:
            await batcher.run("a", [2], Deadline(0.05))
        assert (late.value.status, late.value.code, late.value.retry_after) == (504, "timed_out", 2)

    asyncio.run(ask())
    compute.go_on.set()
    batcher.close()
    with pytest.raises(ProblemError):
        batcher.wait("a", [1], Deadline(1))


def test_its_end_is_told_to_those_that_wait() -> None:
    compute = Doubling()
    batcher: Batcher[str, int, int] = Batcher("test", compute, most=10, waiting=10)
    compute.go_on.clear()
    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(lambda: batcher.wait("a", [1], Deadline(30)))
        assert compute.began.wait(30)
        second = callers.submit(lambda: batcher.wait("a", [2], Deadline(30)))
        while not batcher._queue:
            time.sleep(0.001)
        batcher.close()
        with pytest.raises(AbandonedError):
            second.result(30)
        compute.go_on.set()
        assert list(first.result(30)) == [2]
