"""docs/services.md: examples are answered as it says, limits and ports are the real ones."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from lvmdb.services.catalogue import SERVICES
from lvmdb.services.limits import (
    KEY_LENGTH,
    TEXT_LENGTH,
    TEXTS,
    TITLE_LENGTH,
    URL_LENGTH,
    Limits,
)

PAGE = (Path(__file__).parents[3] / "docs" / "services.md").read_text(encoding="utf-8")

EXAMPLES = re.findall(r"```sh\n(curl [^`]*)```\n```json\n([^`]*)```", PAGE)
STREAMED = re.findall(r"```sh\n(curl [^`]*)```\n```text\n([^`]*)```", PAGE)
BY_PORT = {service.port(): service.name for service in SERVICES.values()}


def test_every_service_has_an_example() -> None:
    # One each, three more of lvm, and one of /health.
    assert len(EXAMPLES) == len(SERVICES) + 4
    assert {_name(command) for command, _ in EXAMPLES} == set(SERVICES)


@pytest.mark.parametrize(("command", "said"), EXAMPLES)
def test_an_example_is_answered_as_the_page_says(
    clients: Mapping[str, TestClient], command: str, said: str
) -> None:
    asked, *piped = re.split(r"\|\s+", command)
    words = shlex.split(asked)
    client, path = clients[_name(asked)], urlsplit(words[2]).path
    if "-d" in words:
        header, _, value = words[words.index("-H") + 1].partition(": ")
        body = words[words.index("-d") + 1].encode()
        answer = client.post(path, content=body, headers={header: value})
    else:
        answer = client.get(path)
    if piped:
        chosen, last = (shlex.split(each) for each in piped)
        pairs = (name.partition(": .") for name in chosen[1].strip("{}").split(", "))
        passed = {name: answer.json()[of or name] for name, _, of in pairs}
        path = urlsplit(last[2]).path
        answer = clients[_name(command)].post(path, json=passed)
    assert answer.status_code == 200, answer.text
    expected = json.loads(said)
    _alike(answer.json(), expected, path)
    if path in ("/chunk", "/health"):
        assert answer.json() == expected
    if path == "/ingest":
        numbers = ("dataset", "added", "changed", "unchanged", "concepts", "failed")
        assert [answer.json()[n] for n in numbers] == [expected[n] for n in numbers]


def test_the_example_of_events_is_answered_with_such(clients: Mapping[str, TestClient]) -> None:
    ((command, said),) = STREAMED
    words = shlex.split(command)
    answer = clients[_name(command)].post(
        urlsplit(words[2]).path, json=json.loads(words[words.index("-d") + 1])
    )
    assert answer.status_code == 200, answer.text
    named = re.findall(r"^event: (.*)$", answer.text, re.MULTILINE)
    assert list(dict.fromkeys(named)) == re.findall(r"^event: (.*)$", said, re.MULTILINE)


def test_the_example_of_an_error_is_the_shape_of_all(clients: Mapping[str, TestClient]) -> None:
    (said,) = re.findall(r'```json\n(\{"error".*?)```', PAGE, re.DOTALL)
    answer = clients["chunking"].post("/chunk", json={"text": "a", "txet": "a"})
    assert answer.json() == json.loads(said)


def test_the_limits_are_the_real_ones() -> None:
    rows = dict(re.findall(r"^\| ([a-z ,]+) \| (.*) \|$", PAGE, re.MULTILINE))
    limits = {name: import_module(service.module).LIMITS for name, service in SERVICES.items()}
    common, ingest = limits["embedding"], limits["ingest"]
    assert common == limits["tmd"] == Limits()
    assert (
        rows["bytes of a body"] == f"{common.body_bytes >> 20} MiB | {ingest.body_bytes >> 20} MiB"
    )
    assert rows["seconds for a body to arrive"] == (
        f"{common.body_seconds:g} | {ingest.body_seconds:g}"
    )
    assert rows["seconds that a request may wait and be worked on"] == (
        f"{common.work_seconds:g} | {ingest.work_seconds:g}"
    )
    assert rows["texts, or articles, of a request"] == f"{TEXTS} | {TEXTS}"
    assert rows["characters of a text"] == f"{TEXT_LENGTH:,} | {TEXT_LENGTH:,}"
    assert f"| {KEY_LENGTH}, {TITLE_LENGTH:,}, {URL_LENGTH:,} |" in PAGE
    places = {name: of.threads + of.waiting for name, of in limits.items()}
    assert rows["requests that wait or are worked on"] == (
        f"{places['embedding']} (chunking {places['chunking']}, lvm {places['lvm']}) | "
        f"{places['ingest']}"
    )


def test_the_ports_and_paths_are_the_real_ones(clients: Mapping[str, TestClient]) -> None:
    for service in SERVICES.values():
        (paths,) = re.findall(rf"^\| {service.name} \| {service.port()} \| (.*?) \|", PAGE, re.M)
        described = clients[service.name].get("/openapi.json").json()["paths"]
        assert set(re.findall(r"/[a-z/]+", paths)) == {p for p in described if "health" not in p}


def _name(command: str) -> str:
    port = urlsplit(shlex.split(command.split("| ")[-1])[2]).port
    assert port is not None
    return BY_PORT[port]


def _alike(found: Any, expected: Any, where: str) -> None:
    """The same fields, and values of the same types; of a list, its first item."""
    if isinstance(expected, dict) and isinstance(found, dict):
        assert set(found) == set(expected), where
        for key, value in expected.items():
            _alike(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list) and isinstance(found, list):
        assert bool(found) == bool(expected), where
        if expected:
            _alike(found[0], expected[0], f"{where}[0]")
    elif expected is not None and found is not None:
        assert type(found) is type(expected), where
