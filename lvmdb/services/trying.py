"""What the page of predictions shows: a context, what follows it, and what follows that.

A context is a text, or a place in an article of the corpus, whose concepts are read from the
database with their vectors: that needs no encoder. Behind it stand the concepts that were chosen
since. Where the article goes on, what it says there is the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.queries import query
from lvmdb.db.types import DIMENSION, TMD_DIMENSION
from lvmdb.decoding.decoded import Decoded
from lvmdb.decoding.generation import REPEATED, GeneratedStep, GenerationOptions, Stopped
from lvmdb.decoding.smoothing import Smoothed
from lvmdb.errors import UnknownNameError
from lvmdb.evaluation.inference import Inference
from lvmdb.services import predicting
from lvmdb.services.lvm_state import Lvm
from lvmdb.services.page_asked import Asked
from lvmdb.services.predicting import Wanted
from lvmdb.services.problems import ProblemError
from lvmdb.services.searchers import again
from lvmdb.services.work import Deadline

Result = TypeVar("Result")


@dataclass(frozen=True)
class Line:
    """A concept of a context, or of what an article says behind it.

    Attributes:
        text: of it.
        cpe_id, title, article_id, seq: where it is in the corpus; None of what was typed.
        chosen: whether it was put behind the context.
    """

    text: str
    cpe_id: UUID | None = None
    title: str | None = None
    article_id: int | None = None
    seq: int | None = None
    chosen: bool = False


@dataclass(frozen=True)
class Begun:
    """A context.

    Attributes:
        lines: what the model reads, oldest first.
        vectors: `(t, 768)`, or with TMD codes `(t, 784)`.
        title: of the article; None of a text.
        at: the place in it that comes next, as the context began.
        concepts: how many the article has.
        truth: what the article says behind the context and what was chosen since, in order.
        truths: `(n, 768)` its vectors.
        seconds: that encoding took.
    """

    lines: Sequence[Line]
    vectors: Vectors
    title: str | None = None
    at: int | None = None
    concepts: int = 0
    truth: Sequence[Line] = ()
    truths: Vectors | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Guess:
    """What was predicted, in words.

    Attributes:
        decoded: the nearest concepts, or what was written.
        truth: what the article says there; None where that is not known.
        truth_cosine: of the prediction to it.
        seconds: by stage.
        number: of the step, where several were taken.
        moved: cosine of the prediction to what was read last.
    """

    decoded: Decoded
    truth: Line | None
    truth_cosine: float | None
    seconds: dict[str, float]
    number: int = 1
    moved: float | None = None

    @property
    def rank(self) -> int | None:
        """The truth's place among the concepts that were found."""
        if self.truth is None:
            return None
        ids = [hit.cpe_id for hit in self.decoded.hits]
        return ids.index(self.truth.cpe_id) + 1 if self.truth.cpe_id in ids else None


@dataclass(frozen=True)
class Rolled:
    """A model that was rolled forward.

    Attributes:
        guesses: one for each step.
        stopped: why there are no more.
        smoothed: what a language model made of the texts, where it was asked.
    """

    guesses: Sequence[Guess]
    stopped: Stopped
    smoothed: Smoothed | None = None

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, of all steps."""
        found: dict[str, float] = {}
        for each in self.guesses:
            for stage, taken in each.seconds.items():
                found[stage] = found.get(stage, 0.0) + taken
        return found


async def context(lvm: Lvm, model: Inference, asked: Asked, deadline: Deadline) -> Begun:
    """The context of a page.

    Raises:
        ProblemError: 422, there is no such article, place or concept; 503, a text cannot be
            encoded, or the database does not answer; 504.
    """
    if asked.text is not None:
        read = await predicting.read_texts(lvm, model, [asked.text], deadline)
        lines = [Line(text) for text in read.concepts[0]]
        begun = Begun(lines, read.contexts[0], seconds=read.seconds)
    else:
        begun = await of_database(lvm, lambda: _place(lvm, model, asked))
    if asked.then:
        chosen, vectors = await of_database(lvm, lambda: _chosen(lvm, model, asked.then))
        wide = _widened(begun.vectors, vectors.shape[1])
        begun = replace(
            begun,
            lines=[*begun.lines, *chosen][-model.context_len :],
            vectors=np.concatenate([wide, vectors])[-model.context_len :],
        )
    return begun


async def guess(
    lvm: Lvm, model: Inference, begun: Begun, asked: Asked, deadline: Deadline
) -> Guess:
    """What follows a context.

    Raises:
        ProblemError, CorpusError: as `predicting.predicted` and `predicting.decoded`.
    """
    ahead, inference = await predicting.predicted(lvm, model, [begun.vectors], deadline)
    left_out = await _left_out(lvm, model, begun, asked)
    (found,), search = await predicting.decoded(lvm, model, ahead, _wanted(asked), [left_out])
    seconds = {"encoder": begun.seconds} if begun.seconds else {}
    return _guess(begun, found, ahead[0], 0, {**seconds, "model": inference, "search": search})


async def roll(lvm: Lvm, model: Inference, begun: Begun, asked: Asked) -> Rolled:
    """The next concepts, one after the other.

    Raises:
        As `guess`; SettingsError: there is no language model to smooth what was found.
    """
    assert asked.steps is not None, "as the page asks for it"
    if asked.smooth:
        await lvm.run_long(lambda _: lvm.llm())  # told now rather than at the end
    repeated = None if asked.repeat else REPEATED
    options = GenerationOptions(steps=asked.steps, loop=asked.reads, repeated=repeated)
    left_out = await _left_out(lvm, model, begun, asked)
    rolling = await predicting.begun(lvm, model, begun.vectors, options, _wanted(asked), left_out)
    guesses: list[Guess] = []
    while (step := await rolling.step()) is not None:
        guesses.append(_step(begun, step))
    assert rolling.stopped is not None, "as a generation has it that gives no more steps"
    smoothed = None
    if asked.smooth and guesses:
        texts = [each.decoded.text for each in guesses]
        before = [line.text for line in begun.lines]
        smoothed = await predicting.smoothed(lvm, texts, context=before)
    return Rolled(guesses, rolling.stopped, smoothed)


async def of_database(lvm: Lvm, job: Callable[[], Result]) -> Result:
    """What a job that asks the database gives, from one of the service's threads.

    Raises:
        ConnectionLostError: the database does not answer.
        ProblemError: 504, it took too long.
    """
    return await lvm.context.work.run(lambda _: again(job))


def _wanted(asked: Asked) -> Wanted:
    return Wanted(k=asked.k, exact=asked.exact, decode=asked.decode)


async def _left_out(lvm: Lvm, model: Inference, begun: Begun, asked: Asked) -> tuple[UUID, ...]:
    """Concepts that are not news: those of the context."""
    known = tuple(line.cpe_id for line in begun.lines if line.cpe_id is not None)
    typed = [row for row, line in enumerate(begun.lines) if line.cpe_id is None]
    if typed and asked.decode != "vec2text":
        vectors = begun.vectors[typed, :DIMENSION]
        (own,) = await predicting.own(lvm, model, [vectors], exact=asked.exact)
        known += own
    return known


def _step(begun: Begun, step: GeneratedStep) -> Guess:
    found = _guess(begun, step.decoded, step.vector, step.number - 1, dict(step.seconds))
    return replace(found, number=step.number, moved=step.moved)


def _guess(
    begun: Begun, decoded: Decoded, vector: Vectors, ahead: int, seconds: dict[str, float]
) -> Guess:
    if begun.truths is None or ahead >= len(begun.truth):
        return Guess(decoded, None, None, seconds)
    truth = begun.truths[ahead]
    length = float(np.linalg.norm(vector) * np.linalg.norm(truth))
    cosine = float(vector @ truth) / length if length else None
    return Guess(decoded, begun.truth[ahead], cosine, seconds)


def _place(lvm: Lvm, model: Inference, asked: Asked) -> Begun:
    """A place in an article; what is behind it is the truth."""
    with lvm.context.database.connect() as connection:
        found = connection.execute(
            query("decoding", "article_place"), {"article_id": asked.article}
        ).one_or_none()
        if found is None or found.dataset_source != model.dataset:
            hint = f"dataset '{model.dataset}' has none of that number"
            raise UnknownNameError("article", asked.article, hint=hint)
        at = asked.at or min(model.context_len, found.concepts)
        if not 1 <= at <= found.concepts:
            raise ProblemError(
                422,
                "invalid_request",
                f"a place in '{found.title}' with something before it is from 1 to "
                f"{found.concepts}, not {at}",
            )
        first, gone = max(0, at - model.context_len), len(asked.then)
        beyond = at + gone + (asked.steps or 1)
        rows = connection.execute(
            query("decoding", "passage"),
            {"article_id": asked.article, "first": first, "beyond": beyond},
        ).all()
    lines = [
        Line(row.concept_text, row.cpe_id, found.title, asked.article, row.seq) for row in rows
    ]
    vectors, read = _vectors(rows, model), at - first
    return Begun(
        lines[:read],
        vectors[:read],
        found.title,
        at,
        found.concepts,
        lines[read + gone :],
        vectors[read + gone :, :DIMENSION],
    )


def _chosen(lvm: Lvm, model: Inference, cpe_ids: Sequence[UUID]) -> tuple[list[Line], Vectors]:
    """Concepts that were put behind the context; of many, those that are read."""
    asked = list(cpe_ids[-model.context_len :])
    with lvm.context.database.connect() as connection:
        rows = connection.execute(
            query("page", "concepts_chosen"), {"cpe_ids": asked, "dataset": model.dataset}
        ).all()
    if len(rows) < len(asked):
        raise ProblemError(
            422,
            "invalid_request",
            f"a concept that was chosen is not in the dataset '{model.dataset}'",
        )
    lines = [
        Line(row.concept_text, row.cpe_id, row.title, row.article_id, row.seq, chosen=True)
        for row in rows
    ]
    return lines, _vectors(rows, model)


def _vectors(rows: Sequence[Any], model: Inference) -> Vectors:
    vectors = parsed_vectors([row.sent for row in rows], DIMENSION)
    if not model.tmd:
        return vectors
    codes = parsed_vectors([row.code for row in rows], TMD_DIMENSION)
    return np.concatenate([vectors, codes], axis=1)


def _widened(vectors: Vectors, width: int) -> Vectors:
    """What was typed has no TMD codes: zeros stand for them."""
    missing = width - vectors.shape[1]
    return np.pad(vectors, ((0, 0), (0, missing))) if missing > 0 else vectors
