"""What the LVM service's answers hold."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from lvmdb.decoding.decoded import Decoded
from lvmdb.decoding.smoothing import Smoothed
from lvmdb.evaluation.inference import Inference
from lvmdb.retrieval.found import Hit


class RunOf(BaseModel):
    """The run that answered."""

    run: int
    architecture: str
    dataset: str
    context_len: int = Field(description="Concepts that it reads.")


class Concept(BaseModel):
    """A concept that was found."""

    cpe_id: UUID
    text: str
    cosine: float
    article_id: int
    article: str = Field(description="Its title.")
    seq: int = Field(description="The concept's place in the article, from 0.")


class SmoothedText(BaseModel):
    """What a language model made of the text."""

    text: str = Field(description="Fluent; or as it was, where the model did not answer.")
    smoothed: bool
    why: str | None = Field(description="Where it was not rewritten, the reason.")
    prompt: str = Field(description="What the model was asked, with its version.")
    added: list[str] = Field(description="Numbers and names that it added.")


class Said(BaseModel):
    """A text for a prediction."""

    text: str = Field(description="Empty where no concept is left to be found.")
    method: str = Field(description="`nearest`: of that concept; `vec2text`: written for it.")
    cosine: float | None = Field(description="Of the prediction to it; null where there is none.")
    band: str = Field(description="How far to trust it: certain, likely, possible or unsure.")
    why: str | None = Field(description="Where it was come by otherwise than asked for, why.")
    concepts: list[Concept] = Field(description="The nearest ones, best first.")
    smoothed: SmoothedText | None = Field(None, description="Null where it was not asked for.")


class Timed(BaseModel):
    """Who answered, and how long it took."""

    model: RunOf
    seconds: dict[str, float] = Field(
        description="By stage: `encoder`, `model`, `search`, `decode` (by vec2text), `smooth`, "
        "`full_text`, those that there were, and `total`; of a batch, for all."
    )


class InferAnswer(Timed):
    """What follows a context, as the model gives it: of whatever length."""

    prediction: list[float] | str


class InferBatchAnswer(Timed):
    """What follows each context, in their order."""

    predictions: list[list[float]] | list[str]


class PredictAnswer(Timed, Said):
    """What follows, in words."""

    read: list[str] | None = Field(
        description="The concepts that were read; null where vectors were sent."
    )


class PredictBatchAnswer(Timed):
    """What follows each, in words, in their order."""

    read: list[list[str]] | None
    predictions: list[Said]


class SearchAnswer(Timed):
    """Lists beside each other, for the same query."""

    read: list[str] = Field(description="The query as the model read it.")
    plain: list[Concept] = Field(description="Nearest to the query's own vector.")
    prediction: list[Concept] = Field(description="Nearest to what the model says follows it.")
    full_text: list[Concept] | None = Field(
        description="By PostgreSQL's full-text search, `cosine` being its rank; null if not asked."
    )


class Score(BaseModel):
    """A metric's value with its 95 % interval, null where none was computed."""

    value: float
    low: float | None
    high: float | None


class PromotedRun(BaseModel):
    """A run that has a promoted name."""

    alias: str
    run: int
    kind: str
    architecture: str
    parameters: int
    dataset: str
    sequences: str
    context_len: int
    encoder: str
    moved_at: datetime = Field(description="When the name came to stand for this run.")
    loaded: bool = Field(description="Whether this service has it in memory.")
    test: dict[str, Score] = Field(
        description="What it was last found worth on its test split, among all concepts."
    )


class ModelsAnswer(BaseModel):
    """The promoted runs, by name."""

    models: list[PromotedRun]


def run_of(model: Inference) -> RunOf:
    """A model as an answer names it."""
    return RunOf(
        run=model.run_id,
        architecture=model.architecture,
        dataset=model.dataset,
        context_len=model.context_len,
    )


def concepts(hits: Sequence[Hit]) -> list[Concept]:
    """What was found as an answer writes it."""
    return [
        Concept.model_construct(
            cpe_id=hit.cpe_id,
            text=hit.concept_text,
            cosine=hit.cosine,
            article_id=hit.article_id,
            article=hit.title,
            seq=hit.seq,
        )
        for hit in hits
    ]


def said(decoded: Decoded) -> dict[str, Any]:
    """A text for a vector, as the fields of an answer."""
    return {
        "text": decoded.text,
        "method": decoded.method,
        "why": decoded.why,
        "cosine": None if math.isnan(decoded.cosine) else decoded.cosine,
        "band": decoded.band,
        "concepts": concepts(decoded.hits),
    }


def smoothed_text(smoothed: Smoothed) -> SmoothedText:
    """What a language model made of a text, as an answer writes it."""
    return SmoothedText(
        text=smoothed.text,
        smoothed=smoothed.smoothed,
        why=smoothed.why,
        prompt=smoothed.prompt,
        added=list(smoothed.added),
    )


def rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    """Times as an answer writes them, in microseconds."""
    return {stage: round(taken, 6) for stage, taken in seconds.items()}


def times(began: float, **stages: float) -> dict[str, float]:
    """Seconds of stages, and of all that was done since `began`, by `time.perf_counter`."""
    return rounded({**stages, "total": time.perf_counter() - began})
