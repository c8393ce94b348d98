"""`lvmdb bench retrieval`: recall against latency of every engine, on one corpus, side by side.

Engines take turns, block of queries by block, every other block in reverse order, so that what else
the machine does meets them alike; percentiles are medians over the rounds. What was found is held
against exact search before anything is timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lvmdb.progress import SILENT, Progress
from lvmdb.retrieval.bench_corpus import Queries, Searched
from lvmdb.retrieval.engine import Engine, Vectors
from lvmdb.retrieval.pgvector_engines import Pgvector
from lvmdb.retrieval.recall import Scores, Spread, Truth, agreeing

K = 10
"""What is timed asks for so many; recall is told at these as well:"""

RECALL_AT = (1, 10, 50)

_BLOCK = 25
"""Queries until it is another engine's turn."""

PERCENTILES = (50, 95, 99)
"""Of the latency of one query."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Built:
    """What building an engine took.

    Attributes:
        seconds, threads: of the build.
        bytes, memory: as the engine says.
    """

    seconds: float
    threads: int
    bytes: int
    memory: int | None


@dataclass(frozen=True)
class Point:
    """One engine with one setting, asked queries of one kind by so many threads.

    Attributes:
        engine: its name.
        kind: of the engine.
        built: what building it took.
        build_arguments, query_arguments: of the engine.
        queries: how many there are.
        query_kind: of them.
        threads: clients that ask at the same time, and threads of a batch.
        recall: by k; 50 is missing where the setting cannot find so many.
        latency: seconds of one query at percentiles 50, 95 and 99.
        queries_per_second: one query a call.
        batch_queries_per_second: all queries in one call, of each client its share.
        round_trip: seconds that the median `select 1` takes; None where there is no server.
        parity: share of queries for which FAISS's graph with the same m, ef_construction and
            ef_search finds as good concepts; None for what is no graph.
    """

    engine: str
    kind: str
    built: Built
    build_arguments: Mapping[str, int]
    query_arguments: Mapping[str, int]
    queries: int
    query_kind: str
    threads: int
    recall: Mapping[int, Spread]
    latency: Sequence[float]
    queries_per_second: float
    batch_queries_per_second: float
    round_trip: float | None
    parity: float | None


@dataclass
class _Contender:
    """An engine with one setting, and what was measured of it so far."""

    engine: Engine
    built: Built
    arguments: Mapping[str, int]
    recall: dict[int, Spread] = field(default_factory=dict)
    scores: Scores | None = None
    parity: float | None = None
    latencies: list[list[float]] = field(default_factory=list)
    singles: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)
    round_trips: list[float] = field(default_factory=list)

    def clear(self) -> None:
        """Forget what was timed."""
        self.latencies, self.singles, self.batches, self.round_trips = [], [], [], []


def build(
    engines: Sequence[Engine], searched: Searched, threads: int, *, progress: Progress = SILENT
) -> list[Built]:
    """Build every engine over a corpus, one after the other."""
    found = []
    with progress.task("building", len(engines), "indexes") as advance:
        for engine in engines:
            engine.threads(threads)
            began = time.perf_counter()
            engine.build(searched.vectors, searched.ids)
            seconds = time.perf_counter() - began
            found.append(Built(seconds, threads, engine.bytes, engine.memory))
            advance(1)
    return found


def measure(
    engines: Sequence[Engine],
    built: Sequence[Built],
    searched: Searched,
    *,
    rounds: int = 3,
    threads: Sequence[int] = (1,),
    progress: Progress = SILENT,
) -> list[Point]:
    """Ask every engine with every one of its settings.

    Args:
        engines, built: of `build`.
        searched: the corpus and the queries.
        rounds: how often each query is asked; one round more warms up.
        threads: numbers of clients, a measurement each.
        progress: told of every block.
    """
    points = []
    for queries in searched.queries:
        contenders = [
            _Contender(engine, once, arguments)
            for engine, once in zip(engines, built, strict=True)
            for arguments in engine.query_arguments
        ]
        _judge(contenders, searched, queries, progress)
        for count in threads:
            for contender in contenders:
                contender.clear()
            _time(contenders, queries, count, rounds, progress)
            points += [_point(contender, queries, count) for contender in contenders]
    return points


def _judge(
    contenders: Sequence[_Contender], searched: Searched, queries: Queries, progress: Progress
) -> None:
    """What each finds, against exact search and against FAISS's graph."""
    truths = {
        measure: Truth(searched.vectors, searched.ids, queries.vectors, measure)
        for measure in {contender.engine.measure for contender in contenders}
    }
    with progress.task(f"recall on {queries.kind}", len(contenders), "settings") as advance:
        for one in contenders:
            one.engine.threads(1)
            one.engine.configure(one.arguments)
            truth = truths[one.engine.measure]
            for k in RECALL_AT[1:]:
                if one.engine.holds(one.arguments, k):
                    scores = truth.scores(one.engine.batch_search(queries.vectors, k))
                    one.recall[k] = Spread.of(truth.recall(scores, k))
                    if k == K:
                        one.scores = scores
                        one.recall[1] = Spread.of(truth.recall(scores, 1))
            advance(1)
    theirs = {
        _graph(one): one.scores
        for one in contenders
        if one.engine.family == "faiss" and one.engine.kind == "hnsw"
    }
    for one in contenders:
        other = theirs.get(_graph(one)) if one.engine.kind == "hnsw" else None
        if one.scores is not None and other is not None:
            one.parity = agreeing(one.scores, other)


def _graph(one: _Contender) -> tuple[int | None, ...]:
    """How a graph was built and is asked."""
    given = {**one.engine.build_arguments, **one.arguments}
    return tuple(given.get(name) for name in ("m", "ef_construction", "ef_search"))


def _time(
    contenders: Sequence[_Contender], queries: Queries, count: int, rounds: int, progress: Progress
) -> None:
    """Time each in turn: one query a call, block by block; then all in one call."""
    asked, size = queries.vectors, _BLOCK * count
    blocks = [asked[first : first + size] for first in range(0, len(asked), size)]
    title = f"timing {queries.kind}, {count} thread" + ("s" if count > 1 else "")
    steps = (rounds + 1) * (len(blocks) + 1) * len(contenders)
    with ExitStack() as stack, progress.task(title, steps, "blocks") as advance:
        clients = {
            engine.name: stack.enter_context(_Clients(engine, count))
            for engine in dict.fromkeys(one.engine for one in contenders)
        }
        for number in range(rounds + 1):
            seconds = dict.fromkeys(range(len(contenders)), 0.0)
            for one in contenders:
                one.latencies.append([])
            for turn, block in enumerate(blocks):
                for place in _there_and_back(range(len(contenders)), turn):
                    one = contenders[place]
                    seconds[place] += _ask(one, clients[one.engine.name], block)
                    advance(1)
            for place in _there_and_back(range(len(contenders)), number):
                one = contenders[place]
                one.singles.append(len(asked) / seconds[place])
                one.batches.append(len(asked) / _batch(one, clients[one.engine.name], asked))
                advance(1)
            if not number:
                for one in contenders:
                    one.clear()


class _Clients:
    """So many threads, each with an engine of its own over the same index; one is the engine."""

    def __init__(self, engine: Engine, count: int) -> None:
        self.count = count
        self._more = [engine.another() for _ in range(count - 1)]
        self._engines = [engine, *self._more]
        self._pool = ThreadPoolExecutor(count)

    def __enter__(self) -> _Clients:
        return self

    def configure(self, arguments: Mapping[str, int]) -> None:
        """All ask with these arguments."""
        for engine in self._engines:
            engine.configure(arguments)

    def map(self, work: Callable[[Engine, Vectors], Item], queries: Vectors) -> list[Item]:
        """Do the work with each engine and its share of the queries, all at the same time."""
        if self.count == 1:
            return [work(self._engines[0], queries)]
        shares = np.array_split(queries, self.count)
        return list(self._pool.map(work, self._engines, shares))

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        for engine in self._more:
            engine.close()


def _ask(one: _Contender, clients: _Clients, block: Vectors) -> float:
    """Seconds of a block, asked one query a call."""
    one.engine.threads(1)
    clients.configure(one.arguments)
    began = time.perf_counter()
    for asked in clients.map(_asked, block):
        one.latencies[-1] += asked
    seconds = time.perf_counter() - began
    if isinstance(one.engine, Pgvector):
        one.round_trips.append(_seconds(one.engine.round_trip))
    return seconds


def _asked(engine: Engine, block: Vectors) -> list[float]:
    """Seconds of each query."""
    return [_seconds(partial(engine.search, query, K)) for query in block]


def _batch(one: _Contender, clients: _Clients, queries: Vectors) -> float:
    """Seconds of all queries in one call: FAISS has threads, a server one client for each."""
    clients.configure(one.arguments)
    if one.engine.family == "faiss":
        one.engine.threads(clients.count)
        return _seconds(partial(one.engine.batch_search, queries, K))
    return _seconds(lambda: clients.map(lambda e, share: e.batch_search(share, K), queries))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _there_and_back(items: Sequence[Item], turn: int) -> Iterator[Item]:
    return reversed(items) if turn % 2 else iter(items)


def _point(one: _Contender, queries: Queries, count: int) -> Point:
    rounds: NDArray[np.float64] = np.array(one.latencies)  # (rounds, queries)
    latency = np.median(np.percentile(rounds, PERCENTILES, axis=1), axis=1)
    return Point(
        engine=one.engine.name,
        kind=one.engine.kind,
        built=one.built,
        build_arguments=one.engine.build_arguments,
        query_arguments=one.arguments,
        queries=len(queries.vectors),
        query_kind=queries.kind,
        threads=count,
        recall=one.recall,
        latency=latency.tolist(),
        queries_per_second=statistics.median(one.singles),
        batch_queries_per_second=statistics.median(one.batches),
        round_trip=statistics.median(one.round_trips) if one.round_trips else None,
        parity=one.parity,
    )
