"""Generation: the model is rolled forward, a concept at a time, and each prediction decoded.

    for step in generate(infer, decoder, context, GenerationOptions(steps=8)):
        print(step.decoded.text)

What is predicted is a vector that no text has, and the model was trained on vectors of texts. What
it reads of its own words is therefore a choice (`loop`):

    none      the prediction itself, at unit length
    index     the vector of the nearest concept: the prediction is snapped to one that exists
    vec2text  the vector of the text that was written for it

It ends after `steps` concepts, or before that where there is a reason (`STOPS`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Literal
from uuid import UUID

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.db.types import DIMENSION
from lvmdb.decoding.decoded import Decoded, Decoder
from lvmdb.decoding.nearest import same_text
from lvmdb.errors import UsageError

LOOPS = ("none", "index", "vec2text")

END_TEXT = "End of text."
"""Its vector is the end concept's: what is predicted that near to it ends a text."""

END_COSINE = 0.9
"""How near that is."""

REPEATED = 0.98
"""The least cosine of two predictions that say the same."""

MOST_STEPS = 1_000

STOPS: Mapping[str, str] = {
    "length": "as many concepts as were asked for",
    "end": "the prediction is the end concept",
    "repetition": "the prediction, or its text, is one of those before",
    "confidence": "no concept is near enough to the prediction",
    "nothing": "the prediction has no direction, or nothing is left to be found",
}
"""Why a generation ended."""

Predict = Callable[[Sequence[Vectors]], Vectors]
"""From contexts `(t, 768)` each, or with TMD codes `(t, 784)`, to what follows, `(n, 768)`."""

Feed = Callable[[Decoded], Vectors]
"""From what was decoded to the vector `(768,)`, or with its TMD code `(784,)`, that stands for it
in the next context."""


@dataclass(frozen=True)
class GenerationOptions:
    """How a generation goes on, and when it ends.

    Attributes:
        steps: concepts at most.
        loop: what the model reads of its own predictions, one of `LOOPS`.
        novel: concepts that were generated, and those of the same text, are not found again.
        end_cosine: how near to the end concept ends it; None: nothing does.
        repeated: the least cosine to a prediction before that ends it; None: none does.
        least_cosine: a text that is further from its prediction ends it; None: none does.

    Raises:
        UsageError: one of them is out of range.
    """

    steps: int = 5
    loop: Literal["none", "index", "vec2text"] = "index"
    novel: bool = True
    end_cosine: float | None = END_COSINE
    repeated: float | None = REPEATED
    least_cosine: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MOST_STEPS:
            raise UsageError(f"--steps is from 1 to {MOST_STEPS}, not {self.steps}")
        if self.loop not in LOOPS:
            raise UsageError(f"--loop is one of {', '.join(LOOPS)}, not '{self.loop}'")
        for name in ("end_cosine", "repeated", "least_cosine"):
            value = getattr(self, name)
            if value is not None and not -1 <= value <= 1:
                raise UsageError(
                    f"--{name.replace('_', '-')} is a cosine, from -1 to 1, not {value}"
                )


@dataclass(frozen=True)
class GeneratedStep:
    """A concept that was generated.

    Attributes:
        number: from 1.
        decoded: its text, and how far it is from the prediction.
        vector: `(768,)` the prediction, at unit length.
        end_cosine: of the prediction to the end concept; None where there is none.
        moved: cosine of the prediction to the concept read last: what is 1 stands still.
        seconds: by stage: `vectors` (the model), `search`, `decode`, `feed`.
    """

    number: int
    decoded: Decoded
    vector: Vectors
    end_cosine: float | None
    moved: float
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Stopped:
    """Why a generation ended.

    Attributes:
        reason: one of `STOPS`.
        step: the step that it would have been, or the last one.
        told: the same for people.
    """

    reason: str
    step: int
    told: str


class Generation:
    """The steps of a generation, one by one; then `stopped` says why there are no more.

    See `generate` for what it is made of.
    """

    def __init__(
        self,
        predict: Predict,
        decoder: Decoder,
        context: Vectors,
        options: GenerationOptions,
        *,
        end: Vectors | None = None,
        without: Sequence[UUID] = (),
        feed: Feed | None = None,
    ) -> None:
        if options.loop != "none" and feed is None:
            raise UsageError(f"loop '{options.loop}' needs what gives the vectors to read")
        self.stopped: Stopped | None = None
        self._predict, self._decoder, self._options, self._feed = predict, decoder, options, feed
        self._context = np.asarray(context, dtype=np.float32)
        self._end = None if end is None or options.end_cosine is None else _unit(end)
        self._without = list(dict.fromkeys(without))
        self._before: list[Vectors] = []
        self._texts: set[str] = set()

    def __iter__(self) -> Iterator[GeneratedStep]:
        for number in range(1, self._options.steps + 1):
            step = self._step(number)
            if isinstance(step, Stopped):
                self.stopped = step
                return
            yield step
        last = self._options.steps
        self.stopped = Stopped("length", last, f"{last} concepts, as many as were asked for")

    def _step(self, number: int) -> GeneratedStep | Stopped:
        """The next concept, or why there is none any more."""
        began = perf_counter()
        (predicted,) = self._predict([self._context])
        vectors = perf_counter() - began
        if not np.isfinite(predicted).all() or not predicted.any():
            return Stopped("nothing", number, "the prediction has no direction")
        vector = _unit(predicted)
        end = float(vector @ self._end) if self._end is not None else None
        limit = self._options.end_cosine
        if end is not None and limit is not None and end >= limit:
            return Stopped("end", number, f"cosine {end:.2f} to the end concept")
        again = max((float(vector @ each) for each in self._before), default=-1.0)
        if self._options.repeated is not None and again >= self._options.repeated:
            told = f"cosine {again:.3f} to a prediction before"
            return Stopped("repetition", number, told)
        (decoded,) = self._decoder.decode(vector[None], without=[self._without])
        if decoded.method == "nearest" and not decoded.hits:
            return Stopped("nothing", number, "no concept is left to be found")
        least = self._options.least_cosine
        if least is not None and not decoded.cosine >= least:
            told = f"the nearest text has a cosine of {decoded.cosine:.2f}, below {least:.2f}"
            return Stopped("confidence", number, told)
        said = same_text(decoded.text)
        if self._options.repeated is not None and said in self._texts:
            return Stopped("repetition", number, "its text was there before")
        moved = float(vector @ _unit(self._context[-1, :DIMENSION]))
        began = perf_counter()
        self._read(vector, decoded)
        seconds = {"vectors": vectors, **decoded.seconds, "feed": perf_counter() - began}
        self._before.append(vector)
        self._texts.add(said)
        return GeneratedStep(number, decoded, vector, end, moved, seconds)

    def _read(self, vector: Vectors, decoded: Decoded) -> None:
        """Put what stands for the concept behind the context."""
        fed = vector if self._feed is None or self._options.loop == "none" else self._feed(decoded)
        row = np.zeros((1, self._context.shape[1]), dtype=np.float32)
        row[0, : len(fed)] = fed[: row.shape[1]]
        self._context = np.concatenate([self._context, row])
        if self._options.novel and decoded.method == "nearest":
            self._without.append(decoded.hits[0].cpe_id)


def generate(
    predict: Predict,
    decoder: Decoder,
    context: Vectors,
    options: GenerationOptions,
    *,
    end: Vectors | None = None,
    without: Sequence[UUID] = (),
    feed: Feed | None = None,
) -> Generation:
    """Roll a model forward from a context.

    Args:
        predict: the model: an `evaluation.inference.Inference`, or any function like it.
        decoder: turns predictions into texts.
        context: `(t, 768)` what it begins with, oldest concept first; `(t, 784)` with TMD codes,
            of which what is generated has those that `feed` gives, or none.
        options: how it goes on, and when it ends.
        end: `(768,)` the vector of `END_TEXT`, by the encoder of the vectors; None: no end concept.
        without: concepts that are not to be found, nor any with the same text.
        feed: for the loops `index` and `vec2text`, what gives the vector that is read.

    Returns:
        What gives the steps, once.

    Raises:
        UsageError: the loop needs a `feed`.
    """
    return Generation(predict, decoder, context, options, end=end, without=without, feed=feed)


def feed_of(loop: str, snapped: Feed) -> Feed | None:
    """What the model reads of its own predictions in one of `LOOPS`; None: they themselves.

    Args:
        loop: which.
        snapped: the vector of the nearest concept, for the loop `index`.
    """
    return {"none": None, "index": snapped, "vec2text": written}[loop]


def written(decoded: Decoded) -> Vectors:
    """The `Feed` of the loop `vec2text`: the vector of the text that was written.

    Raises:
        UsageError: the text was found, not written.
    """
    if decoded.vector is None:
        raise UsageError("loop 'vec2text' reads texts that vec2text has written: no other decoder")
    return decoded.vector


def percentiles(steps: Sequence[GeneratedStep]) -> dict[str, dict[str, float]]:
    """Seconds of each stage over the steps: `{"search": {"p50": ..., "p95": ...}, ...}`."""
    stages = dict.fromkeys(stage for step in steps for stage in step.seconds)
    return {
        stage: dict(
            zip(
                ("p50", "p95"),
                map(
                    float, np.percentile([step.seconds.get(stage, 0.0) for step in steps], [50, 95])
                ),
                strict=True,
            )
        )
        for stage in stages
    }


def _unit(vector: Vectors) -> Vectors:
    unit: Vectors = (vector / np.linalg.norm(vector)).astype(np.float32)
    return unit
