"""What a language model writes about a concept: a probe question, its answer, wrong answers.

CPESH: the concept, the probe that asks for it, the expected answer, soft negatives (nearly right)
and hard ones (plainly wrong).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lvmdb.corpus.llm import Question, object_schema
from lvmdb.corpus.negatives import NEGATIVES
from lvmdb.errors import EndpointError

_MOST_TOKENS = 700
_LONGEST = 2_000  # characters of what is written; more is no question, nor an answer to one

_SYSTEM = """You write training data for retrieval. You are given a passage. Write a question \
that this passage answers, and that can be understood without having seen it: name what it is \
about. Then write the answer, in one sentence and from the passage alone.{negatives} Answer with \
one JSON object and nothing else, with the keys {keys}."""

_NEGATIVES = """ Then write {count} soft negatives, each one sentence on the same subject that is \
nearly but not quite an answer, and {count} hard negatives, each one sentence that does not answer \
the question at all."""


@dataclass(frozen=True)
class Written:
    """What was written about one concept; negatives are None where none were asked for."""

    probe_question: str
    expected_answer: str
    soft_negatives: tuple[str, ...] | None = None
    hard_negatives: tuple[str, ...] | None = None


def question_about(title: str, text: str, *, negatives: bool) -> Question:
    """What the model is asked about a concept of an article."""
    texts = {"type": "string"}
    several = {"type": "array", "items": texts, "minItems": NEGATIVES, "maxItems": NEGATIVES}
    properties: dict[str, Mapping[str, Any]] = {"probe_question": texts, "expected_answer": texts}
    if negatives:
        properties |= {"soft_negatives": several, "hard_negatives": several}
    more = _NEGATIVES.format(count=NEGATIVES) if negatives else ""
    return Question(
        system=_SYSTEM.format(negatives=more, keys=", ".join(properties)),
        user=f"Title: {title}\n\nPassage: {text}",
        schema=object_schema(**properties),
        most_tokens=_MOST_TOKENS,
    )


def parsed(answer: Mapping[str, Any], *, negatives: bool) -> Written:
    """What an answer holds, in one piece or not at all.

    Raises:
        EndpointError: something is missing, empty, too long, or no text.
    """
    question, expected = (_text(answer, name) for name in ("probe_question", "expected_answer"))
    if not negatives:
        return Written(question, expected)
    soft, hard = (_texts(answer, name) for name in ("soft_negatives", "hard_negatives"))
    return Written(question, expected, soft, hard)


def _text(answer: Mapping[str, Any], name: str) -> str:
    return _usable(answer.get(name), name)


def _texts(answer: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Up to as many texts as are kept, at least one."""
    said = answer.get(name)
    if not isinstance(said, list) or not said:
        raise EndpointError(f"the model's answer has no list of texts {name}")
    return tuple(_usable(value, name) for value in said[:NEGATIVES])


def _usable(value: object, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise EndpointError(f"the model's answer has no text {name}")
    text = value.replace("\0", "").strip()
    if not text or len(text) > _LONGEST:
        raise EndpointError(f"the model's {name} has {len(text)} characters, not 1 to {_LONGEST}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise EndpointError(f"the model's {name} has half a surrogate pair") from None
    return text
