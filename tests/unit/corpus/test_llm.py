"""The language model's client against a server that speaks OpenAI's protocol, well or badly."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from answering_server import AnsweringServer, Request

from lvmdb.corpus.http import Patience
from lvmdb.corpus.llm import Llm, Question, object_schema
from lvmdb.errors import EndpointAwayError, EndpointError, SettingsError
from lvmdb.settings import Settings

QUICK = Patience(connect_s=2, answer_s=2, tries=3, first_wait_s=0.001, longest_wait_s=0.002)
PLAIN = Question("Be brief.", "What?")
WANTED = Question("Be brief.", "What?", object_schema(said={"type": "string"}), most_tokens=9)


def says(content: Any, reason: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": {"content": content}, "finish_reason": reason}]}


@pytest.fixture(scope="module")
def running() -> Iterator[AnsweringServer]:
    with AnsweringServer() as server:
        yield server


@pytest.fixture
def server(running: AnsweringServer) -> AnsweringServer:
    running.requests.clear()
    return running


@pytest.fixture
def llm(server: AnsweringServer) -> Iterator[Llm]:
    with Llm(server.url, "tiny", key="k-123", concurrency=3, seed=5, patience=QUICK) as made:
        yield made


def form(request: Request) -> str | None:
    found: str | None = request.body.get("response_format", {}).get("type")
    return found


def test_what_is_asked(server: AnsweringServer, llm: Llm) -> None:
    server.then(200, says(" An answer.\n")).then(200, says('{"said": "so"}'))
    assert llm.ask(PLAIN) == "An answer."
    example = (("Who?", '{"said": "I"}'),)
    shown = Question(WANTED.system, WANTED.user, WANTED.schema, 9, example)
    assert llm.ask_json(shown) == {"said": "so"}
    text, json = server.requests
    assert text.path == "/v1/chat/completions"
    assert text.headers["Authorization"] == "Bearer k-123"
    assert text.body == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What?"},
        ],
        "temperature": 0,
        "seed": 5,
        "max_tokens": 512,
        "stream": False,
    }
    assert json.body["max_tokens"] == 9
    assert [m["role"] for m in json.body["messages"]] == ["system", "user", "assistant", "user"]
    assert json.body["response_format"]["json_schema"] == {
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"said": {"type": "string"}},
            "required": ["said"],
            "additionalProperties": False,
        },
    }


def test_a_server_is_asked_in_the_best_form_that_it_knows(
    server: AnsweringServer, llm: Llm
) -> None:
    server.then(400, {"error": "json_schema?"}).then(422).then(200, says('{"a": 1}'))
    assert llm.ask_json(WANTED) == {"a": 1}
    server.then(200, says("{}")).then(400, {"error": "too long"})
    assert llm.ask_json(WANTED) == {}
    # That it knows this form is certain now, so a refusal is one of the question.
    with pytest.raises(EndpointError, match=r"400 .*\(too long\)$"):
        llm.ask_json(WANTED)
    forms = [form(request) for request in server.requests]
    assert forms == ["json_schema", "json_object", None, None, None]


def test_a_question_that_is_refused_in_every_form(server: AnsweringServer, llm: Llm) -> None:
    for _ in range(3):
        server.then(400, {"error": {"message": "context length"}})
    with pytest.raises(EndpointError, match="context length"):
        llm.ask_json(WANTED)
    server.then(200, says("{}"))
    llm.ask_json(WANTED)
    assert form(server.requests[-1]) == "json_schema"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (says("Sure! {}"), "no JSON: 'Sure! {}'"),
        (says("{'said': 1}"), "no JSON"),
        (says('{"said": NaN}'), "no JSON"),
        (says("[" * 100_000), "no JSON"),
        (says("[1]"), r"no JSON object: '\[1\]'"),
        (says("null"), "no JSON object"),
        (says(" "), "answer is empty"),
        (says(None), "answer is empty"),
        (says('{"said": "a', "length"), "was cut off"),
        ({"choices": []}, "no chat completion: .*choices"),
        ([], "no chat completion"),
        ({"choices": [{"message": "x"}]}, "no chat completion"),
    ],
)
def test_answers_that_are_none(server: AnsweringServer, llm: Llm, answer: Any, why: str) -> None:
    server.then(200, answer)
    with pytest.raises(EndpointError, match=why) as told:
        llm.ask_json(WANTED)
    assert not isinstance(told.value, EndpointAwayError)
    assert len(str(told.value)) < 300
    assert len(server.requests) == 1


def test_json_in_a_fence_is_json(server: AnsweringServer, llm: Llm) -> None:
    server.then(200, says('```json\n{"said": "so"}\n```'))
    assert llm.ask_json(WANTED) == {"said": "so"}


def test_several_questions_at_once(server: AnsweringServer, llm: Llm) -> None:
    """Three under way and no more, answers in the order of the questions."""
    gate = threading.Barrier(3, timeout=5)
    under_way, most, lock = 0, 0, threading.Lock()

    def answer(request: Request) -> dict[str, Any]:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        gate.wait()
        said = request.body["messages"][-1]["content"]
        with lock:
            under_way -= 1
        gate.wait()
        return says("no JSON" if said == "4" else f'{{"said": {said}}}')

    server.answer = answer
    questions = [Question("", str(k), WANTED.schema) for k in range(9)]
    answers = llm.ask_all(questions)
    server.answer = lambda _: {}
    assert most == 3
    assert [a["said"] for a in answers if isinstance(a, dict)] == [0, 1, 2, 3, 5, 6, 7, 8]
    assert isinstance(answers[4], EndpointError)


def test_a_model_that_is_away_ends_it(server: AnsweringServer, llm: Llm) -> None:
    server.then(404, {"error": "model 'tiny' not found"})
    with pytest.raises(EndpointAwayError, match="check its address, and the model's name"):
        llm.ask_all([WANTED])
    nobody = Llm("http://127.0.0.1:9", "tiny", patience=QUICK)
    why = r"\(LVMDB_LLM_URL\) at .*:9/v1 does not answer"
    with nobody, pytest.raises(EndpointAwayError, match=why):
        nobody.ask_all([WANTED] * 20)
    # One that fails may be the question's fault, all of several are the server's.
    for _ in range(3):
        server.then(500)
    (failed,) = llm.ask_all([WANTED])
    assert isinstance(failed, EndpointError)
    for _ in range(6):
        server.then(500)
    with pytest.raises(EndpointAwayError, match=r"500 .* for 2 questions in a row"):
        llm.ask_all([WANTED] * 2)
    assert llm.ask_all([]) == []


def test_the_environment_names_it() -> None:
    given = {"LVMDB_LLM_URL": "http://127.0.0.1:11434/v1", "LVMDB_LLM_MODEL": "tiny"}
    for missing in given:
        rest = {name: value for name, value in given.items() if name != missing}
        with pytest.raises(SettingsError, match=f"^{missing} is not set: .*Ollama"):
            Llm.from_settings(Settings.from_environment(rest))
    with Llm.from_settings(Settings.from_environment(given)) as made:
        assert (made.url, made.model) == ("http://127.0.0.1:11434/v1", "tiny")
