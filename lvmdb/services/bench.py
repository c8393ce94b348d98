"""`lvmdb bench serve`: how fast the LVM service answers one client, and many at once.

The clients are threads of this process, each with a connection that it keeps; they share the
machine with the service, as they would in no other place. What they send are the contexts of
held-out windows, so that no encoder is in what is measured. A round trip is what a client waits;
`in the service` is what the answer says that its model and its search took, for those who have
another way to it than HTTP.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.db import runs
from lvmdb.db.benchmarks import REQUESTS, Measured
from lvmdb.db.engine import Database
from lvmdb.decoding.held_out import held_out
from lvmdb.decoding.vec2text import packed
from lvmdb.errors import ServiceError, UsageError
from lvmdb.progress import SILENT, Progress
from lvmdb.retrieval.searcher import Searcher
from lvmdb.sequences import sets

PATHS = ("/infer", "/predict")
"""What is asked: the model alone, and the model with a search."""

CONTEXTS = 200
"""Held-out windows whose contexts are sent, over and over."""

P50, P95 = "p50 ms", "p95 ms"
"""Units of the milliseconds that half, and 95 %, of the requests take at most."""

_WAIT = 60.0
"""Seconds that a client waits for an answer."""


@dataclass
class Pass:
    """What clients met in one pass.

    Attributes:
        waited: seconds of each request, from sending to the whole answer.
        inside: seconds of each that the service says model and search took.
        refused: answers that were no success: their status and code, and how many.
        seconds: of the whole pass.
    """

    waited: list[float] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def held_out_contexts(db: Database, run_id: int, queries: int = CONTEXTS) -> list[Vectors]:
    """Contexts `(t, 768)` of windows of a run's test split.

    Raises:
        UnknownNameError: there is no such run.
        SequenceError: its set has no test windows.
    """
    run = runs.get(db, run_id)
    with db.connect() as connection:
        sequences = sets.get_by_id(connection, run.sequence_set_id)
    windows = held_out(db, sequences, "test", queries=queries)
    with Searcher(db, sequences.dataset_source, exact=True) as searcher:
        flat = searcher.vectors([key for each in windows.context for key in each])
    return np.split(flat, np.cumsum([len(each) for each in windows.context])[:-1])


def bench_serve(
    url: str,
    contexts: Sequence[Vectors],
    *,
    model: int | str,
    clients: Sequence[int] = (1, 32),
    k: int = 10,
    seconds: float = 5.0,
    repetitions: int = 3,
    token: str | None = None,
    progress: Progress = SILENT,
) -> list[Measured]:
    """Measure a service that runs.

    Args:
        url: of the service.
        contexts: what is asked about.
        model: which model is asked.
        clients: how many ask at the same time; the first is what others are compared with.
        k: concepts that `/predict` finds.
        seconds: of each pass.
        repetitions: passes that are counted; one before them is not.
        token: that the service asks for.
        progress: told of every pass.

    Returns:
        By path and number of clients: requests a second, and milliseconds.

    Raises:
        UsageError: the address is none of HTTP.
        ServiceError: nothing answers there, or a request was refused.
    """
    passes: dict[tuple[str, int], list[Pass]] = {(p, n): [] for p in PATHS for n in clients}
    with progress.task("asking", (repetitions + 1) * len(passes), "passes") as advance:
        for repetition in range(repetitions + 1):
            for (path, number), done in passes.items():
                bodies = [_body(path, context, model, k) for context in contexts]
                ran = load(url, path, bodies, number, seconds, token=token)
                if ran.refused:
                    said = "; ".join(f"{what}: {times}" for what, times in ran.refused.items())
                    raise ServiceError(f"{path} refused requests of {number} clients ({said})")
                done += [ran] if repetition else []
                advance(1)
    found: list[Measured] = []
    for (path, number), done in passes.items():
        found += _measured(path, number, done, clients[0])
    return found


def load(
    url: str,
    path: str,
    bodies: Sequence[bytes],
    clients: int,
    seconds: float,
    *,
    token: str | None = None,
) -> Pass:
    """Send requests from several clients at once, each its next when the last was answered.

    Args:
        url: of a service.
        path: where to.
        bodies: what is sent, in turns; each client begins at another one.
        clients: how many.
        seconds: until none sends any more.
        token: that the service asks for.

    Raises:
        UsageError: the address is none of HTTP.
        ServiceError: a client had no answer.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise UsageError(f"--url is the address of a service, as http://127.0.0.1:8003, not {url}")
    host, port = parts.hostname, parts.port or 80
    sent = {"Content-Type": "application/json"}
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    passed, lock, failed = Pass(), threading.Lock(), list[Exception]()
    began = time.perf_counter()

    def ask(first: int) -> None:
        own = Pass()
        connection = http.client.HTTPConnection(host, port, timeout=_WAIT)
        number = first * len(bodies) // clients
        try:
            while time.perf_counter() - began < seconds and not failed:
                _ask(connection, path, bodies[number % len(bodies)], sent, own)
                number += 1
        except (OSError, http.client.HTTPException, ValueError) as error:
            failed.append(error)
        finally:
            connection.close()
        with lock:
            passed.waited += own.waited
            passed.inside += own.inside
            for what, times in own.refused.items():
                passed.refused[what] = passed.refused.get(what, 0) + times

    threads = [threading.Thread(target=ask, args=(each,)) for each in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed.seconds = time.perf_counter() - began
    if failed:
        said = str(failed[0]) or type(failed[0]).__name__
        raise ServiceError(f"{url}{path} does not answer: {said}")
    return passed


def _ask(
    connection: http.client.HTTPConnection,
    path: str,
    body: bytes,
    headers: Mapping[str, str],
    into: Pass,
) -> None:
    began = time.perf_counter()
    connection.request("POST", path, body, dict(headers))
    answer = connection.getresponse()
    read = answer.read()
    into.waited.append(time.perf_counter() - began)
    said: Any = json.loads(read)
    if answer.status == 200:
        taken = said["seconds"]
        into.inside.append(taken["model"] + taken.get("search", 0.0))
    else:
        what = f"{answer.status} {said['error']['code']}"
        into.refused[what] = into.refused.get(what, 0) + 1


def _body(path: str, context: Vectors, model: int | str, k: int) -> bytes:
    body: dict[str, Any] = {"model": model, "context": packed(context)}
    # What the context consists of is known here, and need not be looked for.
    more = {"k": k, "without_context": False} if path == "/predict" else {"encoding": "base64"}
    return json.dumps(body | more).encode()


def _measured(path: str, clients: int, passes: Sequence[Pass], least: int) -> list[Measured]:
    def name(number: int) -> str:
        return f"{path}, {number} client{'s' if number > 1 else ''}"

    given = {"kind": "lvmdb", "path": path, "clients": clients}
    speeds = [len(each.waited) / each.seconds for each in passes]
    peer = name(least) if clients != least else None
    found = [Measured(name(clients), REQUESTS, speeds, peer, given)]
    for where in ("round trip", "in the service"):
        taken = [p.waited if where == "round trip" else p.inside for p in passes]
        for unit, share in ((P50, 50), (P95, 95)):
            times = [1000 * float(np.percentile(each, share)) for each in taken]
            contender = name(clients) if where == "round trip" else f"{name(clients)}, {where}"
            found.append(Measured(contender, unit, times, None, {**given, "where": where}))
    return found
