"""Smoothing: a language model rewrites decoded sentences into fluent text without adding facts.

    with smoother(settings) as llm:
        smoothed = smooth(llm, ["The harbour is old.", "It is of 1871."], context=before)

Decoded sentences are concepts of several articles: each reads well, their sequence does not. What
comes back is looked at: numbers and names that the sentences and the context do not hold are listed
(`metrics.facts`). Where the model does not answer, or not with a text, the sentences stay as they
are, and it says why: words from a model are never needed to get an answer.

What is asked stands in `prompts/smoothing-N.md`. A prompt that is changed gets a new number, which
is kept with each text.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Template
from typing import Protocol

from lvmdb.corpus.http import Patience
from lvmdb.corpus.llm import Llm, Question
from lvmdb.errors import EndpointError, ModelError
from lvmdb.metrics.facts import added_facts
from lvmdb.settings import Settings

PROMPT = "smoothing-1"
"""The prompt in use: a name and its version."""

LONGER = 2.0
"""A rewritten text of more than so many times the sentences' characters is something else."""

_SPARE = 200
"""Characters that a rewritten text may have besides: one short sentence has little to double."""

KEPT = 0.25
"""The least share of the sentences' three-letter pieces that a rewritten text has: one of fewer is
about something else. Fluent rewriting keeps three quarters and more."""

_CONTEXT = 4_000
"""Characters of context that are shown, from its end on back."""


class Asked(Protocol):
    """A language model: `corpus.llm.Llm`, or one in this process."""

    model: str

    def ask(self, question: Question) -> str:
        """The answer as text.

        Raises:
            EndpointError: there is none.
        """


@dataclass(frozen=True)
class Smoothed:
    """Text for people.

    Attributes:
        text: the rewritten text, or the sentences as they were.
        smoothed: whether it was rewritten.
        why: where it was not, the reason.
        prompt: what was asked, with its version.
        seconds: that it took, tries and waits included.
        added: numbers and names that are in neither the sentences nor the context.
    """

    text: str
    smoothed: bool
    why: str | None
    prompt: str
    seconds: float
    added: tuple[str, ...] = ()


def smooth(llm: Asked, texts: Sequence[str], *, context: Sequence[str] = ()) -> Smoothed:
    """Rewrite sentences as one fluent text; on any failure they come back as they are, marked.

    Args:
        llm: who rewrites them.
        texts: decoded sentences, in order.
        context: texts before them, which the new text follows on from.
    """
    began = time.perf_counter()
    plain = " ".join(filter(None, (text.strip() for text in texts)))
    before = " ".join(filter(None, (text.strip() for text in context)))
    try:
        if not plain:
            raise EndpointError("there is no text to rewrite")
        text = _checked(llm.ask(question(texts, before)), plain)
    except EndpointError as error:
        return Smoothed(plain, False, str(error), PROMPT, time.perf_counter() - began)
    seconds = time.perf_counter() - began
    return Smoothed(text, True, None, PROMPT, seconds, added_facts(text, [plain, before]).added)


def question(texts: Sequence[str], context: str) -> Question:
    """What the model is asked."""
    parts = _prompt(PROMPT)
    sentences = "\n".join(" ".join(text.split()) for text in texts)
    return Question(
        system=parts["system"],
        user=Template(parts["user"]).substitute(context=context[-_CONTEXT:], sentences=sentences),
        # A token is about four bytes of text; half as many bytes leave room to be cut off by none.
        most_tokens=64 + len(sentences.encode(errors="replace")) // 2,
        examples=((parts["example user"], parts["example answer"]),),
    )


def smoother(
    settings: Settings, *, patience: Patience | None = None
) -> AbstractContextManager[Asked]:
    """The language model that the environment names: an endpoint, or a GGUF file's.

    Args:
        settings: of the environment.
        patience: with an endpoint: time-outs and tries.

    Raises:
        SettingsError: it names none.
        MissingDependencyError: what it needs is not installed.
        ModelError: the file cannot be loaded.
    """
    if settings.llm_url is not None and settings.llm_url.startswith("file:"):
        from lvmdb.decoding.local_llm import LocalLlm

        return LocalLlm.from_url(settings.llm_url)
    return Llm.from_settings(settings, patience=patience)


def _checked(answer: str, plain: str) -> str:
    """The answer, if it can be a rewritten text.

    Raises:
        EndpointError: it cannot.
    """
    text = " ".join(answer.replace("\0", "").split())
    most = round(LONGER * len(plain)) + _SPARE
    if not text:
        raise EndpointError("the model's answer is empty")
    if len(text) > most:
        raise EndpointError(f"the model's answer has {len(text)} characters, not at most {most}")
    if (kept := _kept(text, plain)) < KEPT:
        raise EndpointError(
            f"the model's answer has {100 * kept:.0f} % of the sentences' letters in threes, "
            f"not {100 * KEPT:.0f} % or more: it is about something else"
        )
    if any(mark in text for mark in _MARKS):
        raise EndpointError("the model's answer holds marks of the question, not text alone")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise EndpointError("the model's answer has half a surrogate pair") from None
    return text


def _kept(text: str, plain: str) -> float:
    """The share of a text's runs of three letters, in any case, that another has."""
    wanted, said = (
        {folded[start : start + 3] for start in range(max(1, len(folded) - 2))}
        for folded in (plain.casefold(), text.casefold())
    )
    return len(wanted & said) / len(wanted)


_MARKS = ("<context>", "</context>", "<sentences>", "</sentences>")


@cache
def _prompt(name: str) -> dict[str, str]:
    """The parts of a prompt by their headings."""
    file = resources.files("lvmdb.decoding") / "prompts" / f"{name}.md"
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            lines = parts.setdefault(line.removeprefix("# ").strip(), [])
        else:
            lines.append(line)
    if set(parts) != {"system", "user", "example user", "example answer"}:
        raise ModelError(f"prompt {name} has not the parts that it needs: {', '.join(parts)}")
    return {part: "\n".join(lines).strip() for part, lines in parts.items()}
