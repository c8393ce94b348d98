"""What every service does with hostile bodies, wrong callers, too much work and no database."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import psycopg
import pytest
from fastapi import APIRouter, FastAPI
from psycopg import conninfo, sql
from starlette.testclient import TestClient

from lvmdb.db.engine import Database
from lvmdb.services import chunking, embedding, parts
from lvmdb.services.application import application
from lvmdb.services.catalogue import SERVICES
from lvmdb.services.context import Context
from lvmdb.services.limits import TEXT_LENGTH, Limits
from lvmdb.services.options import ServiceOptions
from lvmdb.services.problems import Problems
from lvmdb.services.requests import StrictModel, StrictRoute
from lvmdb.services.work import Deadline

Clients = Mapping[str, TestClient]
FreshDatabase = Callable[..., AbstractContextManager[Database]]
Serving = Callable[..., AbstractContextManager[TestClient]]

PATHS = {
    "chunking": ("/chunk", "/chunk/batch"),
    "tmd": ("/route", "/route/batch"),
    "ingest": ("/ingest",),
    "embedding": ("/embed",),
}

JSON = {"Content-Type": "application/json"}

HOSTILE: list[tuple[bytes, dict[str, str], int, str]] = [
    (b"", JSON, 400, "invalid_json"),
    (b" \n", JSON, 400, "invalid_json"),
    (b'{"text": "caf\xe9"}', JSON, 400, "invalid_json"),
    (b"\xef\xbb\xbf{}", JSON, 400, "invalid_json"),
    (b'{"text": ', JSON, 400, "invalid_json"),
    (b"[" * 100_000, JSON, 400, "invalid_json"),
    (b'{"a":' * 100_000, JSON, 400, "invalid_json"),
    (b"[" * 100_000 + b"]" * 100_000, JSON, 400, "invalid_json"),
    (b'{"text": NaN}', JSON, 400, "invalid_json"),
    (b'{"text": -Infinity}', JSON, 400, "invalid_json"),
    (b'{"text": 1%s}' % (b"0" * 5_000), JSON, 400, "invalid_json"),
    (b'{"text": "a", "text": "b"}', JSON, 400, "invalid_json"),
    (b'{"text": "a"}', {}, 415, "unsupported_media_type"),
    (b'{"text": "a"}', {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
    (b"text=a", {"Content-Type": "application/x-www-form-urlencoded"}, 415, ""),
    (b"{}", {"Content-Type": "application/json; charset=latin-1"}, 415, ""),
    (b"{}", JSON, 422, "invalid_request"),
    (b"[]", JSON, 422, "invalid_request"),
    (b"null", JSON, 422, "invalid_request"),
    (b'"text"', JSON, 422, "invalid_request"),
    (b'{"nonsense": 1e400}', JSON, 422, "invalid_request"),
    (b'{"\\ud800": 1}', JSON, 422, "invalid_request"),
    (b"x" * ((32 << 20) + 1), JSON, 413, "body_too_large"),
]
"""Body, headers, status, code."""

WRONG_TEXTS: list[tuple[object, str]] = [
    ("a\0b", "NUL"),
    ("", "white space"),
    (" \n\u2003", "white space"),
    ("\ud800", "surrogate"),
    ("a" * (TEXT_LENGTH + 1), str(TEXT_LENGTH)),
    (7, "string"),
    (None, "string"),
    (["a"], "string"),
]
"""A text, and what the message says of it."""


def problem_of(answer: httpx2.Response) -> Any:
    """The error of an answer, which must have the one shape that errors have."""
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error = Problems.model_validate(answer.json()).error
    assert error.code.replace("_", "").isalnum()
    assert error.message
    assert "\n" not in error.message
    assert len(error.message) <= 500
    return error


def body_with(path: str, text: object) -> dict[str, object]:
    if path == "/ingest":
        return {"articles": [{"source_key": "k", "title": "t", "text": text}]}
    if path in ("/embed", "/route/batch", "/chunk/batch"):
        return {"texts": ["fine", text]}
    return {"text": text}


@pytest.mark.parametrize("service", SERVICES)
def test_hostile_bodies_are_the_callers_fault(clients: Clients, service: str) -> None:
    for path in PATHS[service]:
        for body, headers, status, code in HOSTILE:
            answer = clients[service].post(path, content=body, headers=headers)
            assert answer.status_code == status, (path, body[:40], answer.text)
            assert code in problem_of(answer).code


@pytest.mark.parametrize("service", SERVICES)
def test_texts_that_cannot_be_kept_are_named(clients: Clients, service: str) -> None:
    for path in PATHS[service]:
        for text, said in WRONG_TEXTS:
            body = json.dumps(body_with(path, text)).encode()
            answer = clients[service].post(path, content=body, headers=JSON)
            assert answer.status_code == 422, (path, answer.text)
            error = problem_of(answer)
            assert said in error.message, (path, error.message)
            assert error.details[0].field in ("text", "texts.1", "articles.0.text")


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_of_a_request_is_passed_over(clients: Clients, service: str) -> None:
    client = clients[service]
    for path in PATHS[service]:
        good = body_with(path, "fine")
        misspelt = client.post(path, json={**good, "txet": "a"})
        assert (misspelt.status_code, problem_of(misspelt).message) == (422, "txet: unknown field")
        queried = client.post(path, params={"limit": 3}, json=good)
        assert (queried.status_code, problem_of(queried).code) == (422, "invalid_request")
    many = client.post(PATHS[service][0], json={f"f{k}": 0 for k in range(100)})
    assert len(problem_of(many).details) == 20


@pytest.mark.parametrize("service", SERVICES)
def test_other_paths_and_methods_have_the_same_shape(clients: Clients, service: str) -> None:
    client, (path, *_) = clients[service], PATHS[service]
    missing = [client.get("/nowhere"), client.post(f"{path}/"), client.get("/%ff%00"),
               client.post("/health/dead")]  # fmt: skip
    assert {(a.status_code, problem_of(a).code) for a in missing} == {(404, "not_found")}
    wrong = [client.get(path), client.delete(path), client.options(path), client.post("/health")]
    assert {(a.status_code, problem_of(a).code) for a in wrong} == {(405, "method_not_allowed")}
    assert wrong[0].headers["allow"] == "POST"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_describes_itself(clients: Clients, service: str) -> None:
    client = clients[service]
    assert client.get("/docs").status_code == 200
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {*PATHS[service], "/health", "/health/live"}
    assert client.get("/health").json()["status"] == "ready"
    assert client.get("/health/live").json() == {"status": "live", "service": service}


def test_another_name_for_this_machine_is_refused(clients: Clients) -> None:
    client = clients["chunking"]
    for host in ("evil.example", "evil.example:8001", "", "127.0.0.1.evil.example"):
        answer = client.get("/health/live", headers={"Host": host})
        assert (answer.status_code, problem_of(answer).code) == (403, "wrong_host"), host
    for host in ("localhost", "localhost:8001", "127.0.0.1:9", "[::1]:8001", "[::1]"):
        assert client.get("/health/live", headers={"Host": host}).status_code == 200, host


def test_a_token_is_asked_of_every_caller(
    serving: Serving, service_options: ServiceOptions
) -> None:
    settings = replace(service_options.settings, token="s3cret")
    options = replace(service_options, settings=settings, host="0.0.0.0")
    with serving(chunking.create(options)) as client:
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"},
                      {"Authorization": "Basic s3cret"}, {"Authorization": "Bearer"},
                      {"Authorization": "Bearer s3cre\u00e9".encode("latin-1")}):  # fmt: skip
            for path in ("/chunk", "/nowhere"):
                answer = client.post(path, content=b"{", headers=given)  # type: ignore[arg-type]
                assert (answer.status_code, problem_of(answer).code) == (401, "unauthorized")
                assert answer.headers["www-authenticate"] == "Bearer"
        known = {"Authorization": "Bearer s3cret", "Host": "models.example"}
        assert client.post("/chunk", json={"text": "a"}, headers=known).status_code == 200
        assert client.get("/health").status_code == 200
        described = client.get("/openapi.json").json()
        assert described["paths"]["/chunk"]["post"]["security"] == [{"HTTPBearer": []}]


class Nothing(StrictModel):
    """The body of a test's own service."""


@dataclass
class Busy:
    """A service whose work waits for the test."""

    client: TestClient
    context: Context
    go_on: threading.Event
    checks: list[str]

    def ask(self) -> httpx2.Response:
        return self.client.post("/work", json={})

    def wait(self, taken: int) -> None:
        for _ in range(1_000):
            if self.context.work.taken == taken:
                return
            threading.Event().wait(0.01)
        raise AssertionError(f"{self.context.work.taken} places are taken, not {taken}")


@pytest.fixture
def busy(
    serving: Serving, service_options: ServiceOptions
) -> Callable[..., AbstractContextManager[Busy]]:
    @contextmanager
    def serve(**limits: Any) -> Iterator[Busy]:
        context = Context("busy", service_options, Limits(**limits), Database(service_options.dsn))
        router = APIRouter(route_class=StrictRoute)
        go_on, checks = threading.Event(), []

        def work(deadline: Deadline) -> dict[str, str]:
            checks.append("began")
            go_on.wait(30)
            deadline.check()
            checks.append("ended")
            return {"done": "yes"}

        @router.post("/work")
        async def endpoint(_: Nothing) -> dict[str, str]:
            return await context.work.run(work)

        @router.post("/fault")
        async def fault(_: Nothing) -> None:
            raise RuntimeError("a secret of the house")

        with serving(application(context, router, "busy", "")) as client:
            yield Busy(client, context, go_on, checks)
            go_on.set()

    return serve


def test_too_much_work_is_refused_while_health_answers(
    busy: Callable[..., AbstractContextManager[Busy]],
) -> None:
    with busy(threads=1, waiting=1) as service, ThreadPoolExecutor(2) as callers:
        waiting = [callers.submit(service.ask) for _ in range(2)]
        service.wait(taken=2)
        refused = service.ask()
        assert (refused.status_code, problem_of(refused).code) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) > 0
        assert service.client.get("/health").status_code == 200
        assert service.client.get("/health/live").status_code == 200
        service.go_on.set()
        assert [asked.result().json() for asked in waiting] == [{"done": "yes"}] * 2
        service.wait(taken=0)
        assert service.ask().status_code == 200


def test_work_past_its_time_keeps_its_place_and_ends(
    busy: Callable[..., AbstractContextManager[Busy]],
) -> None:
    with busy(threads=1, waiting=0, work_seconds=0.05) as service:
        late = service.ask()
        assert (late.status_code, problem_of(late).code) == (504, "timed_out")
        assert service.context.work.taken == 1
        assert service.ask().status_code == 503
        service.go_on.set()
        service.wait(taken=0)
        assert service.checks == ["began"], "it must not go on when nobody waits"


def test_a_fault_says_nothing_of_the_house(
    busy: Callable[..., AbstractContextManager[Busy]],
) -> None:
    with busy() as service:
        answer = service.client.post("/fault", json={})
        assert (answer.status_code, problem_of(answer).code) == (500, "internal_error")
        assert "secret" not in answer.text


def test_a_body_that_does_not_come_is_not_waited_for(
    busy: Callable[..., AbstractContextManager[Busy]],
) -> None:
    with busy(body_seconds=0.05) as service:
        never: list[dict[str, object]] = [{"type": "http.request", "body": b"{", "more_body": True}]
        assert _posted(service.client.app, never)["status"] == 408
        cut: list[dict[str, object]] = [*never, {"type": "http.disconnect"}]
        assert _posted(service.client.app, cut)["status"] == 400


def _posted(app: Any, messages: list[dict[str, object]]) -> dict[str, Any]:
    """The first message of an application's answer to a body that comes so, and then no more."""
    left, sent = list(messages), []

    async def receive() -> Any:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/work", "raw_path": b"/work",
             "query_string": b"", "http_version": "1.1", "scheme": "http", "root_path": "",
             "headers": headers}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return dict(sent[0])


@contextmanager
def database_away(server_dsn: str, db: Database) -> Iterator[None]:
    """For a while connections to a database are refused, as when its server is down."""
    name = str(conninfo.conninfo_to_dict(db.dsn)["dbname"])
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(allow.format(sql.Identifier(name), False))
        connection.execute(end, [name])
        try:
            yield
        finally:
            connection.execute(allow.format(sql.Identifier(name), True))


def test_a_database_that_went_away_is_said_and_come_back_to(
    clients: Clients,
    service_db: Database,
    server_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "FRESH", 0.0)
    monkeypatch.setattr(parts, "FIRST_DELAY", 0.05)
    article = body_with("/ingest", "A text of more than eight words, as a concept needs.")
    with database_away(server_dsn, service_db):
        for client in clients.values():
            unready = client.get("/health")
            assert unready.status_code == 503
            assert problem_of(unready).details[0].field == "database"
            assert "retry-after" in unready.headers
            assert client.get("/health/live").status_code == 200
        refused = clients["ingest"].post("/ingest", json=article)
        assert (refused.status_code, problem_of(refused).code) == (503, "not_ready")
        assert "retry-after" in refused.headers
        assert "host" not in refused.text, "where the database is, is nobody's business"
        # What needs no database goes on.
        assert clients["embedding"].post("/embed", json={"texts": ["a"]}).status_code == 200
    assert clients["ingest"].post("/ingest", json=article).status_code == 200
    assert {client.get("/health").status_code for client in clients.values()} == {200}


def test_a_service_that_starts_without_a_database_becomes_ready(
    serving: Serving,
    service_options: ServiceOptions,
    service_db: Database,
    server_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "FRESH", 0.0)
    monkeypatch.setattr(parts, "FIRST_DELAY", 0.05)
    with ExitStack() as late, database_away(server_dsn, service_db):
        client = late.enter_context(serving(embedding.create(service_options), ready=False))
        unready = client.get("/health")
        assert {d.field for d in problem_of(unready).details} == {"database", "encoder"}
        early = client.post("/embed", json={"texts": ["a"]})
        assert (early.status_code, problem_of(early).code) == (503, "not_ready")
        late.callback(_becomes_ready, client)


def _becomes_ready(client: TestClient) -> None:
    for _ in range(1_000):
        if client.get("/health").status_code == 200:
            break
        threading.Event().wait(0.02)
    assert client.post("/embed", json={"texts": ["a"]}).status_code == 200


def test_a_database_without_tables_is_said(
    fresh_database: FreshDatabase, serving: Serving, service_options: ServiceOptions
) -> None:
    with fresh_database(migrated=False) as empty:
        app: FastAPI = chunking.create(replace(service_options, dsn=empty.dsn))
        with serving(app, ready=False) as client:
            answer = client.get("/health")
            assert answer.status_code == 503
            assert "lvmdb migrate" in problem_of(answer).message
