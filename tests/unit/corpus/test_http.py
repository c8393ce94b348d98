"""Endpoints: what is tried again and what is not, what is said, and that no key ever is."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate

import pytest
from answering_server import AnsweringServer

from lvmdb.corpus.http import Endpoint, Patience, shown
from lvmdb.errors import EndpointError, SettingsError

QUICK = Patience(connect_s=2, answer_s=2, tries=3, first_wait_s=0.001, longest_wait_s=0.002)
KEY = "sk-secret-0123"


@pytest.fixture(scope="module")
def running() -> Iterator[AnsweringServer]:
    with AnsweringServer() as server:
        yield server


@pytest.fixture
def server(running: AnsweringServer) -> AnsweringServer:
    running.requests.clear()
    return running


def endpoint(server: AnsweringServer, **patience: float) -> Endpoint:
    return Endpoint(
        f"{server.url}/v1/",
        "server (ITS_URL)",
        key=KEY,
        key_name="ITS_KEY",
        patience=replace(QUICK, **patience),  # type: ignore[arg-type]
    )


def test_a_request_arrives_as_it_was_sent(server: AnsweringServer) -> None:
    server.then(200, {"ü": 1}).then(200, [])
    with endpoint(server) as asked:
        assert asked.post("/x", {"tëxt": ["a"]}) == {"ü": 1}
        assert asked.get("/y") == []
    first, second = server.requests
    assert (first.method, first.path, first.body) == ("POST", "/v1/x", {"tëxt": ["a"]})
    assert first.headers["Authorization"] == f"Bearer {KEY}"
    assert (second.method, second.path, second.body) == ("GET", "/v1/y", None)
    server.then(200, 2)
    with Endpoint(f"{server.url}?version=2", "server") as asked:
        assert asked.get("/z") == 2
    assert server.requests[-1].path == "/z?version=2"


def test_what_may_pass_is_tried_again(server: AnsweringServer) -> None:
    server.then(500).then(503, b"<html>").then(200, "fine")
    with endpoint(server) as asked:
        assert asked.get("/") == "fine"
        assert len(server.requests) == 3
        server.then(429, {}, {"Retry-After": "0"}).then(200, "fine")
        assert asked.get("/") == "fine"
        server.then(502).then(502, {"error": {"message": "no\nworker"}}).then(502)
        with pytest.raises(
            EndpointError, match=r"\(ITS_URL\) at http.*/v1/ answered 502 .*: try again"
        ) as told:
            asked.get("/")
    assert told.value.status == 502
    assert len(server.requests) == 8


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (400, {"error": {"message": "too long"}}, r"answered 400 Bad Request \(too long\)$"),
        (401, {"detail": f"bad key {KEY}"}, r"\(bad key \*\*\*\): check ITS_KEY"),
        (404, {"error": "model 'x' not found"}, r"not found\): check its address, and the model"),
        (307, b"", "give the address that it leads to"),
        (422, [1], r"answered 422 .*\(\[1\]\)"),
        (200, b"<html>" + KEY.encode(), r"gave no JSON but '<html>\*\*\*'"),
        (200, b"[" * 100_000, "gave no JSON but"),
    ],
)
def test_what_will_not_pass_is_asked_once(
    server: AnsweringServer, status: int, body: object, why: str
) -> None:
    server.then(status, body)
    with endpoint(server) as asked, pytest.raises(EndpointError, match=why) as told:
        asked.post("/", {})
    assert len(server.requests) == 1
    assert KEY not in str(told.value)
    assert "\n" not in str(told.value)
    assert told.value.status == status


def test_retry_after_is_kept_to(server: AnsweringServer) -> None:
    """Where it is a number or a date; the wait itself is tenacity's."""
    in_a_minute = formatdate(time.time() + 60, usegmt=True)
    for said, least, most in (("7", 7, 7), (in_a_minute, 55, 61), (formatdate(0), 0, 0)):
        server.then(503, {}, {"Retry-After": said})
        with endpoint(server, tries=1) as asked, pytest.raises(EndpointError) as told:
            asked.get("/")
        assert least <= (told.value.retry_after or 0) <= most
    with endpoint(server, first_wait_s=9, longest_wait_s=9) as asked:
        server.then(503, {}, {"Retry-After": "0"}).then(200, 1)
        assert asked.get("/") == 1
        server.then(429, {}, {"Retry-After": "900"})
        with pytest.raises(EndpointError, match="asks for 900 s of rest"):
            asked.get("/")
    with endpoint(server) as asked:
        server.then(503, {}, {"Retry-After": "soon"}).then(200, 1)
        assert asked.get("/") == 1


def test_a_late_answer_is_given_up_and_asked_for_again(server: AnsweringServer) -> None:
    server.then(200, "late", slow_s=0.3).then(200, "fine")
    with endpoint(server, answer_s=0.05) as asked:
        assert asked.get("/") == "fine"
        server.then(200, "late", slow_s=0.3).then(200, "late", slow_s=0.3)
        hasty = endpoint(server, answer_s=0.05, tries=2)
        with hasty, pytest.raises(EndpointError, match=r"no answer within 0\.05 s") as told:
            hasty.get("/")
    assert told.value.status is None


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = Endpoint(f"http://me:{KEY}@127.0.0.1:{port}/?q={KEY}", "server", patience=QUICK)
    with there, pytest.raises(EndpointError, match=r"does not answer .*is it running") as told:
        there.get("/")
    assert told.value.passing
    assert KEY not in str(told.value)


def test_addresses_and_keys_that_cannot_be() -> None:
    for url in ("localhost:11434", "ftp://x/", "http://", "http://x:99999/", "http://x/\n"):
        with pytest.raises(SettingsError, match="address of the server is not of the form"):
            Endpoint(url, "server")
    for key in ("a\nb", "ä", "a b"):
        with pytest.raises(SettingsError, match="ITS_KEY holds a character") as told:
            Endpoint("http://x", "server", key=key, key_name="ITS_KEY")
        assert key not in str(told.value)
    assert shown("https://me:secret@host:8/v1?key=secret#x") == "https://host:8/v1"
