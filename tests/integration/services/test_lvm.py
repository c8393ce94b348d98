"""The LVM service: it answers as the functions behind it, by whichever run a name stands for."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from answering_server import AnsweringServer
from sqlalchemy import delete, select, update
from starlette.testclient import TestClient

from lvmdb.corpus.articles import VectorArticle, Vectors
from lvmdb.db import aliases, runs
from lvmdb.db.engine import Database
from lvmdb.db.schema.runs import checkpoint
from lvmdb.db.schema.schedules import run_alias
from lvmdb.decoding.generation import GenerationOptions, generate
from lvmdb.decoding.nearest import NearestDecoder
from lvmdb.decoding.passages import snapped
from lvmdb.evaluation.inference import load_inference
from lvmdb.models.lstm import LSTM
from lvmdb.retrieval.searcher import Searcher
from lvmdb.services import lvm, lvm_models, lvm_names, parts
from lvmdb.services.context import Context
from lvmdb.services.limits import Limits
from lvmdb.services.lvm_state import Lvm
from lvmdb.services.options import ServiceOptions
from lvmdb.training.plan import plan
from lvmdb.training.train import train

Clients = Mapping[str, TestClient]
Serving = Callable[..., AbstractContextManager[TestClient]]


@pytest.fixture(autouse=True)
def _promptly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What names stand for is asked at every request."""
    monkeypatch.setattr(lvm_names, "FRESH", 0.02)
    monkeypatch.setattr(parts, "FRESH", 0.0)


@pytest.fixture
def client(clients: Clients) -> TestClient:
    return clients["lvm"]


@pytest.fixture
def contexts(served: Any) -> list[Vectors]:
    articles: list[VectorArticle] = served.articles
    return [articles[0].vectors[:3], articles[1].vectors[1:3], articles[2].vectors]


def ask(client: TestClient, path: str, **body: object) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer: httpx2.Response, status: int, code: str) -> str:
    found = answer.json()["error"]
    assert (answer.status_code, found["code"]) == (status, code), answer.text
    return str(found["message"])


def coded(vectors: Vectors) -> list[str]:
    return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]


def events_of(answer: httpx2.Response) -> list[tuple[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in answer.text.strip().split("\n\n"):
        (first, second) = block.split("\n")
        found.append((first.removeprefix("event: "), json.loads(second.removeprefix("data: "))))
    return found


def test_vectors_are_the_models(
    client: TestClient, served: Any, service_db: Database, contexts: list[Vectors]
) -> None:
    expected = load_inference(service_db, served.lstm, torch.device("cpu"))(contexts)
    one = ask(client, "/infer", context=contexts[0].tolist())
    np.testing.assert_allclose(one["prediction"], expected[0], atol=1e-5)
    assert one["model"] == {
        "run": served.lstm, "architecture": "lstm", "dataset": "served", "context_len": 3,
    }  # fmt: skip
    assert set(one["seconds"]) == {"model", "total"}
    sent = [coded(each) for each in contexts]
    batch = ask(client, "/infer/batch", contexts=sent, encoding="base64")["predictions"]
    raw = [np.frombuffer(base64.b64decode(each), "<f4") for each in batch]
    np.testing.assert_allclose(raw, expected, atol=1e-5)
    mixed = [contexts[0][0].tolist(), *coded(contexts[0][1:])]
    # Vectors of any length are read as directions.
    mixed[0] = [1e300 * number for number in mixed[0]]
    again = ask(client, "/infer", context=mixed, model=served.lstm)["prediction"]
    np.testing.assert_allclose(again, expected[0], atol=1e-5)


def test_a_prediction_in_words_is_the_nearest_concept(
    client: TestClient, served: Any, service_db: Database
) -> None:
    article = served.articles[0]
    infer = load_inference(service_db, served.mean, torch.device("cpu"))
    (expected,) = infer([article.vectors[:3]])
    with Searcher(service_db, "served", exact=True) as searcher:
        everything, _ = searcher.hits(expected, 48)
    given = {"model": "plain", "k": 4, "exact": True}
    read = list(article.texts[:3])
    words = ask(client, "/predict", concepts=read, **given)
    hits = [hit for hit in everything if hit.concept_text not in read][:4]
    assert [each["cpe_id"] for each in words["concepts"]] == [str(hit.cpe_id) for hit in hits]
    assert words["text"] == hits[0].concept_text
    assert words["cosine"] == pytest.approx(hits[0].cosine, abs=1e-5)
    assert (words["method"], words["read"], words["smoothed"]) == ("nearest", read, None)
    assert words["concepts"][0]["article"] in {each.title for each in served.articles}
    assert set(words["seconds"]) == {"encoder", "model", "search", "total"}
    vectors = ask(client, "/predict", context=coded(article.vectors[:3]), **given)
    assert (vectors["text"], vectors["read"]) == (words["text"], None)
    # What the context says may be found if it is asked for; what is named is not.
    own = ask(client, "/predict", concepts=read, without_context=False, **given)
    assert own["concepts"][0]["cpe_id"] == str(everything[0].cpe_id)
    named = ask(client, "/predict", concepts=read, without=[str(hits[0].cpe_id)], **given)
    assert named["text"] == hits[1].concept_text


def test_texts_are_cut_encoded_and_answered_together(client: TestClient, served: Any) -> None:
    text = " ".join(served.articles[3].texts * 3)
    one = ask(client, "/predict", text=text, k=2)
    batch = ask(client, "/predict/batch", texts=[text, "Short."], k=2)
    assert batch["read"] == [one["read"], ["Short."]]
    assert 1 <= len(one["read"]) <= 3
    assert batch["predictions"][0]["text"] == one["text"]
    contexts = [coded(served.articles[k].vectors[:2]) for k in (0, 1)]
    by_vectors = ask(client, "/predict/batch", contexts=contexts, k=1)
    assert by_vectors["read"] is None
    alone = [ask(client, "/predict", context=each, k=1)["text"] for each in contexts]
    assert [each["text"] for each in by_vectors["predictions"]] == alone


def test_a_generation_is_that_of_the_function(
    client: TestClient, served: Any, service_db: Database
) -> None:
    context = served.articles[4].vectors[:2]
    infer = load_inference(service_db, served.lstm, torch.device("cpu"))
    with Searcher(service_db, "served") as searcher:
        rolled = generate(
            infer,
            NearestDecoder(searcher, 2),
            context,
            GenerationOptions(steps=3, repeated=None, end_cosine=None),
            feed=snapped(searcher),
        )
        expected = list(rolled)
    sent = {"steps": 3, "k": 2, "repeated": None, "end_cosine": None, "without_context": False}
    answer = client.post("/generate", json={"context": coded(context), "encoding": "float", **sent})
    events = events_of(answer)
    assert [name for name, _ in events] == ["begin", "step", "step", "step", "end"]
    assert events[0][1]["read"] == []
    assert events[0][1]["end_concept"] is False
    for step, (_, told) in zip(expected, events[1:], strict=False):
        assert (told["number"], told["text"]) == (step.number, step.decoded.text)
        np.testing.assert_allclose(told["vector"], step.vector, atol=1e-5)
        assert len(told["concepts"]) == 2
        assert {"vectors", "search", "decode", "feed"} <= set(told["seconds"])
    end = events[-1][1]
    assert (end["reason"], end["steps"]) == ("length", 3)
    assert end["text"].split("\n") == [step.decoded.text for step in expected]


def test_a_generation_ends_where_there_is_a_reason(client: TestClient, served: Any) -> None:
    concepts = list(served.articles[5].texts[:2])
    ends = client.post("/generate", json={"concepts": concepts, "end_cosine": -1})
    (_, begin), (name, end) = events_of(ends)
    assert (begin["end_concept"], begin["read"]) == (True, concepts)
    assert (name, end["reason"], end["steps"], end["text"]) == ("end", "end", 0, "")
    far = client.post("/generate", json={"concepts": concepts, "least_cosine": 1})
    assert events_of(far)[-1][1]["reason"] == "confidence"
    wrong = client.post("/generate", json={"text": "a", "loop": "vec2text"})
    assert "give decode 'vec2text'" in refused(wrong, 422, "invalid_request")


def test_a_fault_in_a_generation_is_its_last_event(
    client: TestClient, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = NearestDecoder.decode
    calls: list[int] = []

    def failing(self: NearestDecoder, *given: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("a secret of the house")
        return decode(self, *given, **more)

    monkeypatch.setattr(NearestDecoder, "decode", failing)
    answer = client.post("/generate", json={"concepts": ["a"], "end_cosine": None})
    events = events_of(answer)
    assert [name for name, _ in events] == ["begin", "step", "error"]
    assert events[-1][1]["error"]["code"] == "internal_error"
    assert "secret" not in answer.text


def test_a_caller_who_leaves_ends_the_work(service_options: ServiceOptions, served: Any) -> None:
    app = lvm.create(service_options)
    context: Context = app.state.context
    body = {"context": coded(served.articles[0].vectors[:1]), "steps": 64, "novel": False,
            "repeated": None, "end_cosine": None, "loop": "none"}  # fmt: skip
    sent: list[bytes] = []

    async def left() -> int:
        gone = asyncio.Event()
        given = iter([{"type": "http.request", "body": json.dumps(body).encode()}])

        async def receive() -> Any:
            for message in given:
                return message
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))
            if b"event: step" in sent[-1]:
                gone.set()

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/generate", "raw_path": b"/generate",
                 "query_string": b"", "http_version": "1.1", "scheme": "http", "root_path": "",
                 "asgi": {"spec_version": "2.3"}, "headers": headers}  # fmt: skip
        await app(scope, receive, send)
        for _ in range(500):
            if not context.work.taken:
                break
            await asyncio.sleep(0.01)
        taken = context.work.taken
        await context.close()
        return taken

    assert asyncio.run(left()) == 0
    steps = sum(b"event: step" in part for part in sent)
    assert 1 <= steps < 20
    assert not any(b"event: end" in part for part in sent)


def test_the_lists_of_a_search_are_those_of_its_vectors(
    client: TestClient, served: Any, service_db: Database
) -> None:
    said = served.articles[6].texts[2]
    found = ask(client, "/search", text=said, k=3, full_text=True)
    assert found["plain"][0]["text"] == said
    assert found["plain"][0]["cosine"] == pytest.approx(1, abs=1e-4)
    ahead = ask(client, "/predict", text=said, k=3, without_context=False)
    assert [each["cpe_id"] for each in found["prediction"]] == [
        each["cpe_id"] for each in ahead["concepts"]
    ]
    assert said in [each["text"] for each in found["full_text"]]
    assert ask(client, "/search", text=said, k=3)["full_text"] is None
    # Words that do not count, and marks that mean something in a query.
    for odd in ("the of", "' | & ! :* <-> \\"):
        assert ask(client, "/search", text=odd, full_text=True)["full_text"] == []


def test_promoted_runs_are_listed(client: TestClient, served: Any) -> None:
    ask(client, "/infer", context=coded(served.articles[0].vectors[:1]), model="plain")
    answer = client.get("/models")
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["models"]
    assert (first["alias"], first["run"], first["loaded"]) == ("plain", served.mean, True)
    assert (second["alias"], second["run"], second["kind"]) == ("production", served.lstm, "model")
    assert first["test"] == {"cosine": {"value": 0.5, "low": 0.4, "high": 0.6}}
    assert second["parameters"] > 0
    assert (second["dataset"], second["sequences"], second["test"]) == ("served", "s", {})
    assert client.get("/models", params={"limit": 1}).status_code == 422


def test_text_is_smoothed_or_says_why_not(
    serving: Serving, service_options: ServiceOptions, served: Any, client: TestClient
) -> None:
    concepts = list(served.articles[0].texts[:2])
    unset = client.post("/predict", json={"concepts": concepts, "smooth": True})
    assert "LVMDB_LLM_URL" in refused(unset, 503, "not_ready")
    message = {"message": {"content": "It was all rather old."}, "finish_reason": "stop"}
    with AnsweringServer(lambda _: {"choices": [message]}) as model:
        settings = replace(service_options.settings, llm_url=f"{model.url}/v1", llm_model="m")
        with serving(lvm.create(replace(service_options, settings=settings))) as smoothing:
            words = ask(smoothing, "/predict", concepts=concepts, smooth=True)
            events = events_of(
                smoothing.post("/generate", json={"concepts": concepts, "smooth": True, "steps": 1})
            )
    assert words["smoothed"]["prompt"].startswith("smoothing-")
    assert words["text"] != words["smoothed"]["text"] or not words["smoothed"]["smoothed"]
    assert events[-1][1]["smoothed"]["prompt"] == words["smoothed"]["prompt"]


def test_without_an_encoder_vectors_are_answered(
    serving: Serving, service_options: ServiceOptions, served: Any
) -> None:
    context = coded(served.articles[0].vectors[:2])
    with serving(lvm.create(replace(service_options, encoder="none"))) as client:
        assert client.get("/health").json()["checked"] == ["database", "model"]
        ask(client, "/infer", context=context)
        ask(client, "/predict", context=context)
        assert events_of(client.post("/generate", json={"context": context, "steps": 1}))
        for path, body in (("/predict", {"text": "a"}), ("/search", {"text": "a"}),
                           ("/predict/batch", {"texts": ["a"]})):  # fmt: skip
            assert "--encoder none" in refused(client.post(path, json=body), 503, "not_ready")


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        ([0.0] * 768, "context.0: has no direction"),
        ([1.0] * 767, "at least 768"),
        ([1.0] * 769, "at most 768"),
        ([1e400] * 768, "finite"),
        (["1"] * 768, "valid number"),
        ([True] * 768, "valid number"),
        ([10**400] * 768, "context.0"),
        ("A" * 4096, "context.0: has no direction"),
        ("/" * 4096, "context.0: has no direction"),
        ("A" * 4095 + "=", "must be the base64 of 768"),
        ("A" * 4095 + "\u00e9", "must"),
        ("A" * 4092, "at least 4096"),
        (None, "context.0"),
        ({}, "context.0"),
    ],
)
def test_a_vector_that_is_none_is_named(client: TestClient, vector: object, said: str) -> None:
    sent = json.dumps({"context": [vector]}).replace("Infinity", "1e400")
    answer = client.post("/infer", content=sent, headers={"Content-Type": "application/json"})
    assert said in refused(answer, 422, "invalid_request")


@pytest.mark.parametrize("model", ["nobody", 999_999, 2**53, -1, 0, 1.5, "No Name", None, True])
def test_a_model_that_is_not_there_is_the_callers(
    client: TestClient, served: Any, model: object
) -> None:
    body = {"context": coded(served.articles[0].vectors[:1]), "model": model}
    assert client.post("/infer", json=body).status_code == 422


@contextmanager
def another_run(db: Database, alias: str) -> Iterator[int]:
    """A run that is promoted under a name, and is gone afterwards."""
    run_id = plan(db, "lstm", "s", {"hidden": "4", "layers": "1", "epochs": "1"}, seed=7)
    train(db, run_id, device="cpu")
    aliases.promote(db, run_id, alias)
    try:
        yield run_id
    finally:
        with db.begin() as connection:
            connection.execute(delete(run_alias).where(run_alias.c.name == alias))
        runs.remove(db, run_id)


def test_a_name_that_moves_is_followed_and_a_run_that_is_not_itself_refused(
    client: TestClient, served: Any, service_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lvm_models, "REFUSED_SECONDS", 0.0)

    def asked(model: object = "moving") -> httpx2.Response:
        time.sleep(2 * lvm_names.FRESH)
        body = {"context": coded(served.articles[0].vectors[:3]), "model": model}
        return client.post("/infer", json=body)

    def runs_on() -> int:
        return int(asked().json()["model"]["run"])

    assert "unknown promoted run 'moving'" in refused(asked(), 422, "unknown_name")
    with another_run(service_db, "moving") as run_id:
        assert runs_on() == run_id
        aliases.promote(service_db, served.mean, "moving")
        assert runs_on() == served.mean
        aliases.promote(service_db, run_id, "moving")
        assert runs_on() == run_id

        # Its weights change behind its back: what is in memory is not what the run is.
        which = (checkpoint.c.run_id == run_id) & (checkpoint.c.kind == "best")
        with service_db.begin() as connection:
            honest = connection.execute(select(checkpoint.c.sha256).where(which)).scalar_one()
            connection.execute(update(checkpoint).where(which).values(sha256=b"x" * 32))
        assert "is damaged" in refused(asked(), 409, "run_refused")
        with service_db.begin() as connection:
            connection.execute(update(checkpoint).where(which).values(sha256=honest))

        # Its code changes: only the golden pair tells.
        forward = LSTM.forward
        with monkeypatch.context() as patched:
            patched.setattr(LSTM, "forward", lambda self, c, m: 2 * forward(self, c.flip(1), m))
            answer = asked()
            assert "do not give the output" in refused(answer, 409, "run_refused")
            assert "retry-after" in answer.headers
            # Others go on.
            assert asked("plain").status_code == 200
        assert runs_on() == run_id
    assert "unknown run" in refused(asked(run_id), 422, "unknown_name")


def test_no_more_models_are_held_than_may(
    service_options: ServiceOptions, service_db: Database, served: Any
) -> None:
    store = lvm_models.ModelStore(service_db, most=1)

    async def ask() -> None:
        first = await store.get(served.lstm)
        assert await store.get("production") is first
        await store.get(served.mean)
        assert store.held == [served.mean]
        many = await asyncio.gather(*(store.get(served.lstm) for _ in range(5)))
        assert len({id(each) for each in many}) == 1
        assert many[0] is not first
        store.close()

    asyncio.run(ask())


def test_before_a_run_is_promoted_nothing_is_waited_for(
    service_options: ServiceOptions, service_db: Database, served: Any
) -> None:
    store = lvm_models.ModelStore(service_db)

    async def ask() -> None:
        arrived: list[object] = []
        waits, there = (
            lvm_models.Kept(store, "nobody"),
            lvm_models.Kept(store, "plain", arrived.append),
        )
        for kept in (waits, there):
            assert kept.reason == "is being loaded"
            kept.start()
        while waits.reason or there.reason:
            await asyncio.sleep(0.01)
        assert waits.model is None
        assert there.model is not None
        assert there.model.run_id == served.mean
        assert arrived[0] is there.model
        for kept in (waits, there):
            kept.stop()
        store.close()

    asyncio.run(ask())


def test_many_callers_share_passes(
    service_options: ServiceOptions, served: Any, contexts: list[Vectors]
) -> None:
    context = Context("lvm", service_options, Limits(), Database(service_options.dsn))
    held = Lvm.of(context)

    async def ask() -> None:
        model = await held.models.get()
        alone = model(contexts)
        deadline = held.deadline()
        found = await asyncio.gather(
            *(held.models.infer(model, [each], deadline) for each in contexts * 8)
        )
        np.testing.assert_allclose(np.concatenate(found), np.tile(alone, (8, 1)), atol=1e-5)
        assert held.models.batcher.passes < 24
        await context.close()

    asyncio.run(ask())


def test_a_database_that_is_away_under_load_is_come_back_to(
    client: TestClient,
    served: Any,
    service_db: Database,
    database_away: Callable[[Database], AbstractContextManager[None]],
) -> None:
    context, ended = coded(served.articles[0].vectors[:3]), threading.Event()
    seen: dict[str, list[httpx2.Response]] = {"/infer": [], "/predict": []}

    def load(path: str) -> None:
        while not ended.is_set():
            seen[path].append(client.post(path, json={"context": context}))

    def asked(path: str, times: int) -> None:
        before = len(seen[path])
        while len(seen[path]) < before + times:
            time.sleep(0.005)

    with ThreadPoolExecutor(2) as callers:
        working = [callers.submit(load, path) for path in seen]
        for path in seen:
            asked(path, 3)
        with database_away(service_db):
            for path in seen:
                asked(path, 5)
            unknown = client.post("/infer", json={"context": context, "model": 999_999})
            assert unknown.status_code == 503
        for path in seen:
            asked(path, 5)
        ended.set()
        for each in working:
            each.result()
    # The model is in memory, and goes on; a search cannot.
    assert {answer.status_code for answer in seen["/infer"]} == {200}
    statuses = [answer.status_code for answer in seen["/predict"]]
    assert set(statuses) == {200, 503}
    assert statuses[-3:] == [200, 200, 200]
    for answer in seen["/predict"]:
        if answer.status_code == 503:
            assert answer.json()["error"]["code"] == "database_unavailable"
            assert int(answer.headers["retry-after"]) > 0


def test_nothing_is_written(
    client: TestClient, served: Any, service_db: Database, counts: Callable[[Database], object]
) -> None:
    before = counts(service_db)
    concepts = list(served.articles[0].texts[:2])
    ask(client, "/predict", concepts=concepts)
    ask(client, "/search", text=concepts[0])
    events_of(client.post("/generate", json={"concepts": concepts, "steps": 1}))
    client.get("/models")
    assert counts(service_db) == before
