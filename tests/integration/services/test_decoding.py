"""`/decode`, at the decoding service and at the embedding service; vec2text is stood in for."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np
import pytest
from answering_server import AnsweringServer, Request
from stand_in_vec2text import StandIn
from starlette.testclient import TestClient

from lvmdb.db.engine import Database
from lvmdb.decoding.spaces import space_of
from lvmdb.decoding.vec2text_child import ChildEndedError
from lvmdb.services import decoding, embedding
from lvmdb.services.limits import Limits
from lvmdb.services.options import ServiceOptions
from lvmdb.services.problems import Problems

Clients = Mapping[str, TestClient]
Serving = Callable[..., AbstractContextManager[TestClient]]

CAT, GUILT = "The cat slept on the windowsill all afternoon.", "Not guilty."


def problem_of(answer: httpx2.Response) -> tuple[int, str, str]:
    error = Problems.model_validate(answer.json()).error
    return answer.status_code, error.code, error.message


@pytest.fixture(scope="module")
def vectors(clients: Clients) -> list[list[float]]:
    answer = clients["embedding"].post("/embed", json={"texts": [GUILT, CAT]})
    found: list[list[float]] = answer.json()["vectors"]
    return found


def test_vectors_are_decoded_by_what_belongs_to_their_encoder(
    clients: Clients,
    vectors: list[list[float]],
    service_options: ServiceOptions,
    service_db: Database,
    stand_in: StandIn,
) -> None:
    encoder = str(service_options.encoder)
    with service_db.connect() as connection:
        space = space_of(connection, encoder)
    longer = (np.array(vectors) * 40).tolist()
    sent = {"vectors": longer, "encoder": encoder, "steps": 3, "beam": 2}
    here = clients["decoding"].post("/decode", json=sent)
    assert here.status_code == 200, here.text
    answer = here.json()
    assert answer["texts"] == [GUILT, CAT]
    assert (answer["encoder"], answer["fingerprint"]) == (encoder, space.fingerprint)
    assert (answer["steps"], answer["beam"]) == (3, 2)
    assert {k: stand_in.asked[-1][k] for k in ("steps", "beam")} == {"steps": 3, "beam": 2}
    np.testing.assert_allclose(answer["cosines"], 1, atol=1e-6)
    np.testing.assert_allclose(answer["vectors"], vectors, atol=1e-6)
    for half in ("inverter", "corrector"):
        assert answer[half]["name"] == getattr(service_options, half)
        assert len(answer[half]["revision"]) == 64
    assert answer["inverter"]["revision"] != answer["corrector"]["revision"]
    # At the embedding service the same, for its own encoder unless another is named.
    there = clients["embedding"].post("/decode", json=sent)
    assert there.json() == answer
    del sent["encoder"]
    assert clients["embedding"].post("/decode", json=sent).json() == answer
    # A fingerprint says whose they are, whatever the encoder is called.
    named = {"encoder": "renamed", "fingerprint": space.fingerprint, "encoding": "base64"}
    text = base64.b64encode(np.array(vectors[0], "<f4").tobytes()).decode()
    for client in (clients["decoding"], clients["embedding"]):
        (found,) = client.post("/decode", json={"vectors": [text], **named}).json()["vectors"]
        written = np.frombuffer(base64.b64decode(found), "<f4")
        np.testing.assert_allclose(written, vectors[0], atol=1e-6)


def test_vectors_of_another_encoder_are_refused(
    clients: Clients, vectors: list[list[float]], service_options: ServiceOptions
) -> None:
    encoder, other = str(service_options.encoder), "0" * 64
    for client in (clients["decoding"], clients["embedding"]):
        for given, said in (
            ({"encoder": "gtr"}, "these are vectors of 'gtr': this service decodes those of '"),
            ({"encoder": encoder, "fingerprint": other}, f"'{encoder}', and its fingerprint is"),
        ):
            answer = client.post("/decode", json={"vectors": vectors, **given})
            status, code, message = problem_of(answer)
            assert (status, code) == (409, "conflict"), message
            assert said in message
    unnamed = {"vectors": vectors, "fingerprint": other}
    missing = problem_of(clients["decoding"].post("/decode", json=unnamed))
    assert missing == (422, "invalid_request", "encoder: is missing")
    assert problem_of(clients["embedding"].post("/decode", json=unnamed))[0] == 409


def test_vectors_that_are_none_are_named(
    clients: Clients, vectors: list[list[float]], service_options: ServiceOptions
) -> None:
    good, encoder = vectors[0], str(service_options.encoder)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"vectors": [good, [0.0] * 768]}, "vectors.1: has no direction"),
        ({"vectors": [good, good[:-1]]}, "vectors.1"),
        ({"vectors": [good, "AAAA"]}, "vectors.1"),
        ({"vectors": []}, "vectors"),
        ({"vectors": [good] * 65}, "vectors"),
        ({"vectors": [good], "steps": 51}, "steps"),
        ({"vectors": [good], "beam": 0}, "beam"),
        ({"vectors": [good], "fingerprint": "abc"}, "fingerprint"),
    ]
    for client in (clients["decoding"], clients["embedding"]):
        for body, said in wrong:
            status, code, message = problem_of(
                client.post("/decode", json={"encoder": encoder, **body})
            )
            assert (status, code) == (422, "invalid_request"), message
            assert message.startswith(said)


def test_texts_do_not_wait_for_vectors(
    serving: Serving,
    clients: Clients,
    vectors: list[list[float]],
    service_options: ServiceOptions,
    decoding_server: AnsweringServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedding, "DECODING", Limits(threads=1, waiting=0, work_seconds=30))
    began, going, passes_on = threading.Event(), threading.Event(), decoding_server.answer

    def slowly(request: Request) -> Any:
        began.set()
        assert going.wait(30)
        return passes_on(request)

    decoding_server.answer = slowly
    sent = {"vectors": vectors}
    try:
        with (
            serving(embedding.create(service_options)) as client,
            ThreadPoolExecutor(1) as caller,
        ):
            first = caller.submit(client.post, "/decode", json=sent)
            try:
                assert began.wait(30)
                assert problem_of(client.post("/decode", json=sent))[:2] == (503, "overloaded")
                assert client.post("/embed", json={"texts": [CAT]}).status_code == 200
            finally:
                going.set()
            assert first.result().status_code == 200
    finally:
        decoding_server.answer = passes_on


def test_a_process_that_ends_is_started_again(
    serving: Serving, vectors: list[list[float]], service_options: ServiceOptions, stand_in: StandIn
) -> None:
    began: list[Callable[[], object]] = []

    def start(ended: Callable[[], object]) -> StandIn:
        began.append(ended)
        return stand_in

    sent = {"vectors": vectors, "encoder": str(service_options.encoder)}
    with serving(decoding.create(service_options, start=start)) as client:
        stand_in.problem = ChildEndedError("vec2text's process ended by signal 9: the log says")
        try:
            status, code, message = problem_of(client.post("/decode", json=sent))
        finally:
            stand_in.problem = None
        assert (status, code) == (503, "endpoint_unavailable")
        assert "ended by signal 9" in message
        assert len(began) == 1
        began[0]()
        deadline = time.monotonic() + 20
        while (answer := client.get("/health")).status_code != 200:
            assert "vec2text: its process ended, and is started again" in answer.text
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert len(began) == 2
        assert client.post("/decode", json=sent).json()["texts"] == [GUILT, CAT]
    # One that is ended with its service is not.
    began[1]()
    assert len(began) == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"inverter": None, "corrector": None}, "no vec2text corrector is known for encoder '"),
        ({"encoder": "nobody/knows"}, "unknown encoder 'nobody/knows'"),
        ({}, "vec2text's environment is not there"),
    ],
)
def test_what_it_lacks_is_said(
    serving: Serving, service_options: ServiceOptions, changed: dict[str, Any], said: str
) -> None:
    options = replace(service_options, dataset=None, **changed)
    with serving(decoding.create(options), ready=False) as client:
        deadline = time.monotonic() + 20
        while said not in (answer := client.get("/health")).text:
            assert "is being" in answer.text, answer.text
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert answer.status_code == 503
        body = {"vectors": [[1.0] * 768], "encoder": "e"}
        assert problem_of(client.post("/decode", json=body))[:2] == (503, "not_ready")


def test_an_encoder_that_is_another_is_refused_once(
    serving: Serving, service_options: ServiceOptions, stand_in: StandIn
) -> None:
    class Another(StandIn):
        def ask(self, question: dict[str, Any], seconds: float = 1.0) -> Any:
            embedded = question.get("embed", [])
            return super().ask({**question, "embed": [text[::-1] for text in embedded]})

    another = Another(stand_in._encoder, [CAT])
    with serving(decoding.create(service_options, start=lambda _: another), ready=False) as client:
        deadline = time.monotonic() + 20
        while "the cosine is" not in (answer := client.get("/health")).text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        _, _, message = problem_of(answer)
        assert "and at least 0.999 is needed" in message
        # It is looked at again, but not loaded again as long as nothing has changed.
        time.sleep(1.0)
        assert len(another.loaded) == 1


def test_an_embedding_service_without_a_decoding_service_says_so(
    serving: Serving, service_options: ServiceOptions, vectors: list[list[float]]
) -> None:
    with AnsweringServer() as server:
        options = replace(
            service_options, settings=replace(service_options.settings, decoding_url=server.url)
        )
        with serving(embedding.create(options)) as client:
            server.then(
                503, {"error": {"code": "not_ready", "message": "vec2text: is being loaded"}}
            )
            status, code, message = problem_of(client.post("/decode", json={"vectors": vectors}))
            assert (status, code) == (503, "endpoint_unavailable")
            assert "'lvmdb serve decoding'" in message
            assert "vec2text: is being loaded" in message
            server.then(200, b"<html>")
            assert problem_of(client.post("/decode", json={"vectors": vectors}))[0] == 503
    with serving(embedding.create(options)) as client:
        answer = client.post("/decode", json={"vectors": vectors})
        assert problem_of(answer)[:2] == (503, "endpoint_unavailable")
        assert "does not answer" in answer.text
        assert "Retry-After" in answer.headers
        assert client.post("/embed", json={"texts": ["a"]}).status_code == 200
