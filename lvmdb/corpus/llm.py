"""A language model behind an OpenAI-compatible endpoint, such as Ollama's.

    with Llm.from_settings(settings) as llm:
        llm.ask(Question("Be brief.", "What is a concept?"))            # text
        llm.ask_all([Question(system, text, schema=SCHEMA), ...])       # JSON, several at once

Answers are as repeatable as the server makes them: temperature 0, and a seed. Where JSON is asked
for, the server is told its schema; one that knows no schemas is asked for any JSON, and one that
does not know that either, for text. What comes is parsed in the same strict way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lvmdb.corpus.http import Endpoint, Patience
from lvmdb.errors import EndpointAwayError, EndpointError, SettingsError
from lvmdb.settings import Settings

CONCURRENCY = 4
"""Requests at once; more than a server answers at once only wait there."""

_UNKNOWN_FORMAT = (400, 422)  # how servers refuse a `response_format` that they do not know
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        system: what the model is to do.
        user: with what.
        schema: JSON schema of an object, where JSON is wanted.
        most_tokens: an answer that is longer is cut, and is an error.
        examples: pairs of what was asked and what is a good answer, told beforehand.
    """

    system: str
    user: str
    schema: Mapping[str, Any] | None = None
    most_tokens: int = 512
    examples: tuple[tuple[str, str], ...] = ()


class Llm:
    """The client; may be used by several threads at once.

    Args:
        url: of the API, e.g. `http://127.0.0.1:11434/v1`; `/v1` may be left out.
        model: which model to ask for.
        key: the endpoint's, if it wants one.
        concurrency: requests at once.
        seed: sent with each request.
        patience: time-outs and tries.

    Attributes:
        model: which one is asked.

    Raises:
        SettingsError: the address is none, or the key cannot be sent.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        concurrency: int = CONCURRENCY,
        seed: int = 0,
        patience: Patience | None = None,
    ) -> None:
        if not urlsplit(url).path.strip("/"):
            url = url.rstrip("/") + "/v1"
        self.model, self.seed, self.concurrency = model, seed, concurrency
        self._endpoint = Endpoint(
            url,
            "language model (LVMDB_LLM_URL)",
            key=key,
            key_name="LVMDB_LLM_KEY",
            patience=patience,
            connections=concurrency,
        )
        self.url = self._endpoint.url
        self._formats = ["json_schema", "json_object", None]  # what the server may know, best first

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        *,
        concurrency: int = CONCURRENCY,
        patience: Patience | None = None,
    ) -> Llm:
        """The model that the environment names.

        Raises:
            SettingsError: it names none.
        """
        for name, value in (
            ("LVMDB_LLM_URL", settings.llm_url),
            ("LVMDB_LLM_MODEL", settings.llm_model),
        ):
            if value is None:
                raise SettingsError(
                    f"{name} is not set: a language model needs LVMDB_LLM_URL (Ollama's is "
                    "http://127.0.0.1:11434/v1) and LVMDB_LLM_MODEL"
                )
        return cls(
            settings.llm_url or "",
            settings.llm_model or "",
            key=settings.llm_key,
            concurrency=concurrency,
            patience=patience,
        )

    def close(self) -> None:
        """Close its connections."""
        self._endpoint.close()

    def __enter__(self) -> Llm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, question: Question) -> str:
        """The model's answer as text, without white space around it.

        Raises:
            EndpointAwayError: the endpoint is not there, or knows no such model or key.
            EndpointError: it is late, refuses, or its answer is empty or was cut off.
        """
        if question.schema is None:
            return self._said(self._endpoint.post("/chat/completions", self._body(question, None)))
        formats = self._formats
        for place, form in enumerate(formats):
            try:
                answer = self._endpoint.post("/chat/completions", self._body(question, form))
            except EndpointError as error:
                if error.status not in _UNKNOWN_FORMAT or place == len(formats) - 1:
                    raise
                continue
            # From now on a refusal is about the question.
            self._formats = [form]
            return self._said(answer)
        raise AssertionError("the last format raises or returns")

    def ask_json(self, question: Question) -> dict[str, Any]:
        """The model's answer as an object; that it fits the schema is for the caller to see.

        Raises:
            EndpointError: as `ask`; or it is no JSON object.
        """
        said = self.ask(question)
        fenced = _FENCE.fullmatch(said)
        try:
            found = json.loads(fenced[1] if fenced else said, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise EndpointError(f"the model's answer is no JSON: {_short(said)}") from None
        if not isinstance(found, dict):
            raise EndpointError(f"the model's answer is no JSON object: {_short(said)}")
        return found

    def ask_all(self, questions: Sequence[Question]) -> list[dict[str, Any] | EndpointError]:
        """An object for each question, in their order, or why there is none.

        Raises:
            EndpointAwayError: the endpoint is not there; or none of several questions was answered
                because it was late or failed, so that the next would not be either.
        """
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="llm") as pool:
            asked = [pool.submit(self.ask_json, question) for question in questions]
            answers: list[dict[str, Any] | EndpointError] = []
            try:
                for future in asked:
                    try:
                        answers.append(future.result())
                    except EndpointAwayError:
                        raise
                    except EndpointError as error:
                        answers.append(error)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        failed = [answer for answer in answers if isinstance(answer, EndpointError)]
        if len(failed) == len(questions) > 1 and all(error.passing for error in failed):
            raise EndpointAwayError(f"{failed[0]} (so it was for {len(failed)} questions in a row)")
        return answers

    def _body(self, question: Question, form: str | None) -> dict[str, Any]:
        messages = [{"role": "system", "content": question.system}]
        for user, assistant in question.examples:
            messages.append({"role": "user", "content": user})
            messages.append({"role": "assistant", "content": assistant})
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [*messages, {"role": "user", "content": question.user}],
            "temperature": 0,
            "seed": self.seed,
            "max_tokens": question.most_tokens,
            "stream": False,
        }
        if form == "json_schema":
            schema = {"name": "answer", "strict": True, "schema": question.schema}
            body["response_format"] = {"type": form, "json_schema": schema}
        elif form is not None:
            body["response_format"] = {"type": form}
        return body

    def _said(self, answer: Any) -> str:
        try:
            choice = answer["choices"][0]
            content, reason = choice["message"]["content"], choice.get("finish_reason")
        except (AttributeError, IndexError, KeyError, TypeError):
            raise EndpointError(
                f"the language model at {self.url} answered with no chat completion: "
                f"{_short(json.dumps(answer))}"
            ) from None
        if reason == "length":
            raise EndpointError(f"the model's answer was cut off: {_short(str(content))}")
        if not isinstance(content, str) or not content.strip():
            raise EndpointError("the model's answer is empty")
        return content.strip()


def object_schema(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": {name: dict(schema) for name, schema in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _short(text: str) -> str:
    """The beginning of an answer, for a message."""
    return repr(" ".join(text.split())[:120])
