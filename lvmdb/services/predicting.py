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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.db.queries import query
from lvmdb.decoding.decoded import Decoded
from lvmdb.decoding.decoders import DecodingOptions
from lvmdb.decoding.generation import END_TEXT, GenerationOptions
from lvmdb.decoding.passages import same_concepts
from lvmdb.decoding.smoothing import Smoothed, smooth
from lvmdb.decoding.typed import concepts_of, dataset_chunker
from lvmdb.decoding.vec2text import BEAM, STEPS
from lvmdb.evaluation.inference import Inference
from lvmdb.retrieval.found import Hit
from lvmdb.services.lvm_encoders import Shared
from lvmdb.services.lvm_state import Lvm
from lvmdb.services.rolling import Rolling
from lvmdb.services.searchers import SharedDecoder, again
from lvmdb.services.work import Deadline


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
        decode: `nearest`, the text of the nearest concept; `vec2text`, what is written for the
            vector; `auto`, the nearest at or above the dataset's threshold, else what is written.
        steps, beam: of vec2text.
    """

    k: int = 10
    exact: bool = False
    decode: Literal["nearest", "auto", "vec2text"] = "nearest"
    steps: int = STEPS
    beam: int = BEAM

    @property
    def long(self) -> bool:
        """Whether it may take minutes."""
        return self.decode != "nearest"


async def read_texts(lvm: Lvm, model: Inference, texts: Sequence[str], deadline: Deadline) -> Read:
    """Texts, each cut as the dataset's articles were, and encoded; of each the last
    `model.context_len` concepts are read. A text that is too short to be cut is one.

    Raises:
        ProblemError: 503, the encoder is not there; 422, a text has no vector; 503, 504.
        EndpointError: the encoder is behind an endpoint, which failed.
    """
    encoder = lvm.encoders.get(model)
    database, batcher = lvm.context.database, lvm.encoders.batcher

    def cut(work: Deadline) -> list[list[str]]:
        # A chunker that compares sentences waits its turn at the encoder.
        chunker, _ = again(
            lambda: dataset_chunker(database, model.dataset, Shared(batcher, encoder, work))
        )
        found = []
        for text in texts:
            work.check()
            found.append(concepts_of(chunker, text))
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
    lvm: Lvm,
    model: Inference,
    vectors: Vectors,
    wanted: Wanted,
    without: Sequence[Sequence[UUID]] | None = None,
) -> tuple[list[Decoded], float]:
    """What each vector `(n, 768)` says, in the words of a model's dataset; and the seconds.

    Args:
        lvm: the service.
        model: whose predictions they are.
        vectors: of any length.
        wanted: how they are decoded.
        without: of each, concepts that are not to be found, nor any with the same text.

    Raises:
        CorpusError: the dataset has no index; a vector has no direction.
        EndpointError: vec2text was asked for, and does not answer.
        ProblemError: 503, the database does not answer; 504, it took too long.
    """
    began = time.perf_counter()
    run = lvm.run_long if wanted.long else lvm.context.work.run
    found = await run(lambda _: decoder_of(lvm, model, wanted).decode(vectors, without=without))
    return found, time.perf_counter() - began


async def nearest(
    lvm: Lvm, model: Inference, vector: Vectors, wanted: Wanted
) -> tuple[list[Hit], float]:
    """The concepts that are nearest to a vector `(768,)` itself; as `decoded`."""
    (found,), seconds = await decoded(lvm, model, vector[None], wanted)
    return list(found.hits), seconds


async def own(
    lvm: Lvm, model: Inference, contexts: Sequence[Vectors], *, exact: bool = False
) -> list[tuple[UUID, ...]]:
    """Of each context, the concepts of the dataset that it is made of, as far as they are read and
    are there: so that what was said is not found again.

    Raises:
        CorpusError, ProblemError: as `decoded`.
    """
    read = [context[-model.context_len :] for context in contexts]

    def find() -> list[tuple[UUID, ...]]:
        with lvm.searchers.take(model.dataset, exact=exact) as searcher:
            return same_concepts(searcher, read)

    return await lvm.context.work.run(lambda _: again(find))


def decoder_of(lvm: Lvm, model: Inference, wanted: Wanted) -> SharedDecoder:
    """What decodes predictions of a model, in the service's threads."""
    return SharedDecoder(
        lvm.searchers,
        lvm.context.options.settings,
        model.dataset,
        model.encoder_id,
        DecodingOptions(wanted.decode, wanted.k, wanted.steps, wanted.beam),
        # Who writes texts alone searches nothing, and needs no index.
        exact=wanted.exact or wanted.decode == "vec2text",
    )


async def begun(
    lvm: Lvm,
    model: Inference,
    context: Vectors,
    options: GenerationOptions,
    wanted: Wanted,
    without: Sequence[UUID] = (),
) -> Rolling:
    """A generation, before its first step.

    Where the encoder is not there, nothing says what the end concept is, and only the other
    reasons end it.

    Args:
        lvm: the service.
        model: which is rolled forward.
        context: `(t, 768)`, oldest first.
        options: how it goes on, and when it ends.
        wanted: how predictions are decoded.
        without: concepts that are not to be found.

    Raises:
        ProblemError: 503 or 504, the encoder does not answer.
    """
    end = None
    if options.end_cosine is not None and lvm.encoders.there(model):
        deadline = lvm.deadline()
        end = (await lvm.encoders.encode(lvm.encoders.get(model), [END_TEXT], deadline))[0]
    work = lvm.asking if wanted.long else lvm.context.work
    decoder = decoder_of(lvm, model, wanted)
    return Rolling(lvm, work, model, decoder, context, options, end, without)


async def smoothed(lvm: Lvm, texts: Sequence[str], *, context: Sequence[str] = ()) -> Smoothed:
    """Decoded texts, rewritten as one by the language model; as they are, and so marked, where it
    does not answer.

    Raises:
        SettingsError: the environment names no language model.
        MissingDependencyError, ModelError: it names one in a file, which cannot be loaded.
        ProblemError: 504, it took too long.
    """
    return await lvm.run_long(lambda _: smooth(lvm.llm(), texts, context=context))


async def full_text(lvm: Lvm, model: Inference, said: str, k: int) -> tuple[list[Hit], float]:
    """The k concepts of a model's dataset that PostgreSQL's full-text search ranks first for a
    text, as `lvmdb bench vecrag` asks it, and the seconds; `cosine` is its rank.

    Raises:
        ProblemError: 503, the database does not answer; 504, it took too long.
    """

    def find() -> list[Hit]:
        with lvm.context.database.connect() as connection:
            asked = {"dataset": model.dataset, "text": said, "k": k}
            rows = connection.execute(query("retrieval", "full_text"), asked)
            return [Hit(*row) for row in rows]

    began = time.perf_counter()
    found = await lvm.run_long(lambda _: again(find))
    return found, time.perf_counter() - began
