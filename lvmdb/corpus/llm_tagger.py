"""The tagger that asks a language model, one request a concept; an answer that is none is no code.

The model is told the labels and answers in JSON, with labels or their numbers, or null for what it
cannot tell. Nothing is guessed from an answer that does not parse or names no label: that concept
has no code, and the answer's beginning is in `ingest_error`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.llm import Llm, Question, object_schema
from lvmdb.corpus.tagging import UNSURE, Tag
from lvmdb.corpus.tmd import KINDS, SIZES, VOCABULARY, number, vocabulary
from lvmdb.errors import EndpointError

_MOST_TOKENS = 96

_SYSTEM = """You classify a passage of text by three lists of labels: its domain, the task that \
it serves as an example of, and the modifier that describes it best. Answer with one JSON object \
and nothing else, such as {{"domain": "History", "task": "Fact Retrieval", "modifier": \
"Temporal"}}. Each value is a label of its list, spelt as it is there, or null if none fits.

domain: {domain}

task: {task}

modifier: {modifier}"""


class LlmTagger:
    """Asks for the code of each concept.

    Args:
        llm: the client.
    """

    name = "llm"

    def __init__(self, llm: Llm) -> None:
        self._llm = llm

    @property
    def options(self) -> Mapping[str, Any]:
        """The model, what it is asked, and the vocabulary."""
        asked = hashlib.sha256(instructions().encode()).hexdigest()[:16]
        return {
            "model": self._llm.model,
            "seed": self._llm.seed,
            "prompt": asked,
            "vocabulary": VOCABULARY,
        }

    def tag(self, texts: Sequence[str], vectors: Vectors | None) -> list[Tag]:
        """A tag for each text; vectors are not looked at.

        Raises:
            EndpointAwayError: the endpoint does not answer at all.
        """
        system = instructions()
        answers = self._llm.ask_all(
            [Question(system, text, _schema(), most_tokens=_MOST_TOKENS) for text in texts]
        )
        return [
            Tag(None, str(answer)) if isinstance(answer, EndpointError) else parsed(answer)
            for answer in answers
        ]


def parsed(answer: Mapping[str, Any]) -> Tag:
    """The tag that an answer is: labels or numbers under `domain`, `task` and `modifier`."""
    code: list[int | None] = []
    for kind, size in zip(KINDS, SIZES, strict=True):
        if kind not in answer:
            return Tag(None, f"the model's answer has no {kind}: {_short(answer)}")
        said = answer[kind]
        found = said
        if isinstance(said, str):
            digits = len(said) <= 2 and said.isascii() and said.isdecimal()
            found = int(said) if digits else number(kind, said)
        known = type(found) is int and 0 <= found < size  # True is an int as well
        if said is not None and not known:
            return Tag(None, f"the model's answer names no {kind}: {_short(answer)}")
        code.append(found if known else None)
    domain, task, modifier = code
    return UNSURE if code == [None] * 3 else Tag((domain, task, modifier))


@cache
def instructions() -> str:
    """What the model is told before each text."""
    labels = {
        kind: ", ".join(f"{place} {entry.label}" for place, entry in enumerate(vocabulary()[kind]))
        for kind in KINDS
    }
    return _SYSTEM.format(**labels)


@cache
def _schema() -> dict[str, Any]:
    """A server that keeps to schemas lets the model say nothing but labels."""
    labels = {kind: [entry.label for entry in vocabulary()[kind]] for kind in KINDS}
    return object_schema(**{kind: {"enum": [*labels[kind], None]} for kind in KINDS})


def _short(answer: Mapping[str, Any]) -> str:
    return repr(dict(answer))[:160]
