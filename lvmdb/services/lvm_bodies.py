"""What the LVM service's requests hold."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from lvmdb.db.aliases import DEFAULT
from lvmdb.db.types import DIMENSION
from lvmdb.decoding.generation import END_COSINE, END_TEXT, REPEATED, GenerationOptions
from lvmdb.decoding.vec2text import BEAM, MOST_BEAM, MOST_STEPS, STEPS
from lvmdb.services.limits import TEXTS
from lvmdb.services.predicting import Wanted
from lvmdb.services.requests import Name, StrictModel, Text
from lvmdb.services.vectors import Vector

MOST_CONCEPTS = 64
"""Concepts of a context; a model reads its last few."""

MOST_FOUND = 100
"""Concepts that may be asked for."""

MOST_GENERATED = 64
"""Concepts that one request may generate."""

MOST_LEFT_OUT = 200
"""Concepts that may be named as not to be found."""

ContextVectors = Annotated[list[Vector], Field(min_length=1, max_length=MOST_CONCEPTS)]
Model = Annotated[
    Annotated[int, Field(ge=1, le=2**53 - 1), Tag("run")] | Annotated[Name, Tag("name")],
    Discriminator(lambda given: "name" if isinstance(given, str) else "run"),
]
Id = Annotated[UUID, Field(strict=False)]


class Asking(StrictModel):
    """Which model is asked."""

    model: Model = Field(
        DEFAULT, description="A run's number, or a name under which one is promoted."
    )


class Encoded(Asking):
    """How vectors are answered."""

    encoding: Literal["float", "base64"] = Field(
        "float",
        description="How vectors are answered: each as an array of numbers, or as the base64 of "
        f"its {DIMENSION} little-endian float32. They may be sent as either.",
    )


class InferRequest(Encoded):
    """A context, oldest vector first; each is brought to unit length."""

    context: ContextVectors


class InferBatchRequest(Encoded):
    """Contexts, each as for one."""

    contexts: Annotated[list[ContextVectors], Field(min_length=1, max_length=TEXTS)]


class Finding(Asking):
    """What is to be found for a prediction."""

    k: int = Field(10, ge=1, le=MOST_FOUND, description="Concepts, at most.")
    exact: bool = Field(False, description="Compare with every vector, and need no index.")

    @property
    def wanted(self) -> Wanted:
        """The same, as `predicting` has it."""
        return Wanted(k=self.k, exact=self.exact)


class Leaving(Finding):
    """What is to be found, what not, and what is done with it."""

    decode: Literal["nearest", "auto", "vec2text"] = Field(
        "nearest",
        description="How a prediction becomes text: by the nearest concept; by vec2text, which "
        "writes one; or by the nearest where it is near enough for the dataset, else by vec2text.",
    )
    vec2text_steps: int = Field(
        STEPS, ge=0, le=MOST_STEPS, description="Corrections of vec2text's first guess."
    )
    beam: int = Field(
        BEAM, ge=1, le=MOST_BEAM, description="Guesses that vec2text keeps beside each other."
    )
    smooth: bool = Field(
        False, description="Let the language model of LVMDB_LLM_URL rewrite the text fluently."
    )
    without: list[Id] = Field(
        [],
        max_length=MOST_LEFT_OUT,
        description="Concepts that are not to be found, nor any with the same text.",
    )
    without_context: bool = Field(
        True, description="Leave out the concepts that the context consists of, as well."
    )

    @property
    def wanted(self) -> Wanted:
        """The same, as `predicting` has it."""
        return Wanted(self.k, self.exact, self.decode, self.vec2text_steps, self.beam)


class Reading(BaseModel):
    """One of three ways to say what a context is."""

    text: Text | None = Field(
        None, description="Is cut as the dataset's articles were; the last concepts are read."
    )
    concepts: Annotated[list[Text], Field(min_length=1, max_length=MOST_CONCEPTS)] | None = Field(
        None, description="Texts that are concepts already, oldest first."
    )
    context: ContextVectors | None = Field(None, description="Vectors, oldest first.")

    @model_validator(mode="after")
    def _one(self) -> Reading:
        if sum(each is not None for each in (self.text, self.concepts, self.context)) != 1:
            raise ValueError("give one of text, concepts and context")
        return self


class PredictRequest(Leaving, Reading):
    """What is to be gone on from."""


Cosine = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]


class GenerateRequest(Leaving, Reading):
    """What is to be gone on from, how far, and when to end before that."""

    k: int = Field(3, ge=1, le=MOST_FOUND, description="Concepts of each step, at most.")
    steps: int = Field(5, ge=1, le=MOST_GENERATED, description="Concepts, at most.")
    loop: Literal["none", "index", "vec2text"] = Field(
        "index",
        description="What the model reads of its own words: the prediction itself, the vector of "
        "the nearest concept, or that of the text that vec2text wrote.",
    )
    novel: bool = Field(True, description="What was generated is not found again.")
    end_cosine: Cosine | None = Field(
        END_COSINE, description=f"Ends at a prediction so near to the vector of '{END_TEXT}'."
    )
    repeated: Cosine | None = Field(
        REPEATED, description="Ends at a prediction so near to one before."
    )
    least_cosine: Cosine | None = Field(
        None, description="Ends where the text is further than this from its prediction."
    )
    encoding: Literal["float", "base64"] | None = Field(
        None, description="Answer the predicted vectors as well, so written."
    )

    @property
    def options(self) -> GenerationOptions:
        """The same, as `decoding.generation` has it."""
        return GenerationOptions(
            steps=self.steps,
            loop=self.loop,
            novel=self.novel,
            end_cosine=self.end_cosine,
            repeated=self.repeated,
            least_cosine=self.least_cosine,
        )

    @model_validator(mode="after")
    def _writes(self) -> GenerateRequest:
        if self.loop == "vec2text" and self.decode != "vec2text":
            raise ValueError("loop 'vec2text' reads what vec2text writes: give decode 'vec2text'")
        if self.loop == "index" and self.decode == "vec2text":
            raise ValueError("loop 'index' reads concepts that were found: not decode 'vec2text'")
        return self


class PredictBatchRequest(Leaving):
    """Several of them: texts, or contexts."""

    texts: Annotated[list[Text], Field(min_length=1, max_length=TEXTS)] | None = None
    contexts: Annotated[list[ContextVectors], Field(min_length=1, max_length=TEXTS)] | None = None

    @model_validator(mode="after")
    def _one(self) -> PredictBatchRequest:
        if (self.texts is None) == (self.contexts is None):
            raise ValueError("give one of texts and contexts")
        return self


class SearchRequest(Finding):
    """What is searched for."""

    text: Text
    full_text: bool = Field(
        False, description="Ask PostgreSQL's full-text search, too, which reads the whole dataset."
    )
