"""What the LVM service does with a request, whoever asks: JSON routes, and pages beside them.

    lvm = Lvm.of(context)                                       # once, in the service's `create`
    model = await lvm.models.get("production")                  # or a run's number
    read = await read_texts(lvm, model, [text], deadline)       # texts -> contexts of vectors
    vectors, seconds = await predicted(lvm, model, read.contexts, deadline)
    found, seconds = await decoded(lvm, model, vectors, Wanted(k=5))

Each raises `ProblemError` or an `LvmdbError`, which the application turns into its answer (a page
may show `from_lvmdb(error).message`). A second router is given the same `Lvm`, and none of it
writes to the database.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.chunker import get_chunker
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.decoding.decoded import Decoded
from lvmdb.errors import ConnectionLostError
from lvmdb.evaluation.inference import Inference
from lvmdb.retrieval.found import Hit
from lvmdb.services.context import Context
from lvmdb.services.lvm_encoders import EncoderStore, KeptEncoder
from lvmdb.services.lvm_models import Kept, ModelStore
from lvmdb.services.parts import Needed
from lvmdb.services.searchers import Searchers, SharedDecoder
from lvmdb.services.work import Deadline
from lvmdb.training.environment import resolve_device

CHUNKER = "sentence"
"""What a text is cut into concepts by."""

SAME = 0.9995
"""A concept whose cosine to a vector is at least this is the one that the vector is of."""

Result = TypeVar("Result")


@dataclass(eq=False)
class Lvm:
    """What the service holds: make one for a context, give it to every router.

    Attributes:
        context: of the service; `context.work` has its threads.
        models: runs in memory.
        encoders: of their datasets.
        searchers: connections that search.
    """

    context: Context
    models: ModelStore
    encoders: EncoderStore
    searchers: Searchers
    parts: Sequence[Needed] = field(default=())

    @classmethod
    def of(cls, context: Context) -> Lvm:
        """What belongs to a context; it is closed with it, and its parts are the context's."""
        limits, database = context.limits, context.database
        models = ModelStore(
            database, waiting=limits.threads + limits.waiting, device=resolve_device("auto")
        )
        encoders = EncoderStore(database, context.options, waiting=limits.threads + limits.waiting)
        searchers = Searchers(database)
        kept = Kept(models)
        parts: list[Needed] = [kept, KeptEncoder(encoders, kept)] if encoders.wanted else [kept]
        context.parts = [*context.parts, *parts]
        context.closing += [models.close, encoders.close, searchers.close]
        return cls(context, models, encoders, searchers, parts)

    def deadline(self) -> Deadline:
        """Until when a request that begins now is waited for."""
        return Deadline(self.context.limits.work_seconds)


@dataclass(frozen=True)
class Read:
    """Texts as a model reads them.

    Attributes:
        concepts: of each text, the last ones, as many as the model reads.
        contexts: of each, their vectors `(t, 768)`.
        seconds: that encoding took, waiting for others included.
    """

    concepts: Sequence[Sequence[str]]
    contexts: Sequence[Vectors]
    seconds: float


@dataclass(frozen=True)
class Wanted:
    """What is to be found for a prediction.

    Attributes:
        k: concepts, at most.
        exact: compare with every vector, and need no index.
        without: concepts that are not to be found, nor any with the same text.
    """

    k: int = 10
    exact: bool = False
    without: tuple[UUID, ...] = ()


async def read_texts(
    lvm: Lvm, model: Inference, texts: Sequence[str], deadline: Deadline
) -> Read:
    """Texts, each cut into concepts and encoded; of each the last `model.context_len` are read.

    A text that has no concept, for it is too short, is one concept as a whole.

    Raises:
        ProblemError: 503, the encoder is not there; 422, a text has no vector; 503, 504.
        EndpointError: the encoder is behind an endpoint, which failed.
    """
    lvm.encoders.get(model)  # what cannot be encoded need not be cut

    def cut(work: Deadline) -> list[list[str]]:
        chunker, found = get_chunker(CHUNKER), []
        for text in texts:
            work.check()
            found.append(chunker.chunk(text) or [text.strip()])
        return found

    return await read_concepts(lvm, model, await lvm.context.work.run(cut), deadline)


async def read_concepts(
    lvm: Lvm, model: Inference, concepts: Sequence[Sequence[str]], deadline: Deadline
) -> Read:
    """Contexts that are given as concepts, encoded as they are; see `read_texts`."""
    encoder = lvm.encoders.get(model)
    kept = [list(each[-model.context_len :]) for each in concepts]
    began = time.perf_counter()
    vectors = await lvm.encoders.encode(encoder, [c for each in kept for c in each], deadline)
    ends = np.cumsum([len(each) for each in kept])[:-1]
    contexts: list[Vectors] = np.split(vectors, ends)
    return Read(kept, contexts, time.perf_counter() - began)


async def predicted(
    lvm: Lvm, model: Inference, contexts: Sequence[Vectors], deadline: Deadline
) -> tuple[Vectors, float]:
    """What follows contexts, `(n, 768)`, as the model gives it; and the seconds that it took,
    waiting for others included.

    Raises:
        ProblemError: 422, a prediction is no number; 503, too many wait; 504, it took too long.
    """
    began = time.perf_counter()
    vectors = await lvm.models.infer(model, contexts, deadline)
    return vectors, time.perf_counter() - began


async def decoded(
    lvm: Lvm, model: Inference, vectors: Vectors, wanted: Wanted
) -> tuple[list[Decoded], float]:
    """The nearest concepts of each vector `(n, 768)`, in the dataset of a model; and the seconds.

    Raises:
        CorpusError: the dataset has no index; a vector has no direction.
        ProblemError: 503, the database does not answer; 504, it took too long.
    """
    decoder = SharedDecoder(lvm.searchers, model.dataset, wanted.k, exact=wanted.exact)
    without = [wanted.without] * len(vectors) if wanted.without else None
    began = time.perf_counter()
    found = await searched(lvm, lambda: decoder.decode(vectors, without=without))
    return found, time.perf_counter() - began


async def nearest(
    lvm: Lvm, model: Inference, vector: Vectors, wanted: Wanted
) -> tuple[list[Hit], float]:
    """The concepts that are nearest to a vector `(768,)` itself; as `decoded`."""
    (found,), seconds = await decoded(lvm, model, vector[None], wanted)
    return list(found.hits), seconds


async def own(lvm: Lvm, model: Inference, context: Vectors, *, exact: bool) -> tuple[UUID, ...]:
    """The concepts of the dataset that a context `(t, 768)` is made of, those that are there: so
    that what was said is not found again.

    Raises:
        As `decoded`.
    """

    def find() -> tuple[UUID, ...]:
        with lvm.searchers.take(model.dataset, exact=exact) as searcher:
            found = searcher.batch(context, 1)
        return tuple(
            found.ids(row)[0]
            for row in range(len(context))
            if found.counts[row] and found.cosine[row, 0] >= SAME
        )

    return await searched(lvm, find)


async def full_text(lvm: Lvm, model: Inference, said: str, k: int) -> tuple[list[Hit], float]:
    """The k concepts of a model's dataset that PostgreSQL's full-text search ranks first for a
    text, and the seconds; `cosine` is its rank.

    Raises:
        ProblemError: 503, the database does not answer; 504, it took too long.
    """

    def find() -> list[Hit]:
        with lvm.context.database.connect() as connection:
            asked = {"dataset": model.dataset, "text": said, "k": k}
            rows = connection.execute(query("retrieval", "full_text"), asked)
            return [Hit(*row) for row in rows]

    began = time.perf_counter()
    return await searched(lvm, find), time.perf_counter() - began


async def promoted(lvm: Lvm) -> list[dict[str, Any]]:
    """The runs that have promoted names, as the statement `promoted_runs` gives them, and `loaded`.

    Raises:
        ProblemError: 503, the database does not answer.
    """
    database = lvm.context.database
    rows = await searched(lvm, lambda: _promoted(database))
    held = set(lvm.models.held)
    return [{**row, "loaded": row["run_id"] in held} for row in rows]


async def searched(lvm: Lvm, job: Callable[[], Result]) -> Result:
    """What a job that asks the database gives, from one of the service's threads.

    Raises:
        ProblemError: 503, the database does not answer; 504, it took too long.
    """

    def work(_: Deadline) -> Result:
        try:
            return job()
        except ConnectionLostError:
            # It may be back by now, and only the connection have been of before; once is enough.
            return job()

    return await lvm.context.work.run(work)


def _promoted(database: Database) -> list[dict[str, Any]]:
    with database.connect() as connection:
        rows = connection.execute(query("runs", "promoted_runs")).mappings()
        return [dict(row) for row in rows]
