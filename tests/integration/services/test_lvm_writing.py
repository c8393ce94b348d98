"""The LVM service with vec2text, which is stood in for: texts written, and beside those found."""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from answering_server import AnsweringServer, Request
from stand_in_vec2text import StandIn
from starlette.testclient import TestClient

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.http import Patience
from lvmdb.db.engine import Database
from lvmdb.evaluation.inference import load_inference
from lvmdb.services import lvm, lvm_state
from lvmdb.services.options import ServiceOptions

Clients = Mapping[str, TestClient]
Serving = Callable[..., AbstractContextManager[TestClient]]

WRITTEN = {"The cat slept on the windowsill all afternoon.", "Not guilty."}
"""What the stand-in decodes to."""


def ask(client: TestClient, path: str, **body: object) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def coded(vectors: Vectors) -> list[str]:
    return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]


def events(client: TestClient, **body: object) -> list[tuple[str, Any]]:
    answer = client.post("/generate", json=body)
    assert answer.status_code == 200, answer.text
    lines = [block.split("\n") for block in answer.text.strip().split("\n\n")]
    return [(a.removeprefix("event: "), json.loads(b.removeprefix("data: "))) for a, b in lines]


@contextmanager
def calibrated(db: Database, threshold: float) -> Iterator[None]:
    """With a threshold of the dataset `served`."""
    session = uuid.uuid4()
    with db.raw_connection() as connection:
        connection.execute(
            "INSERT INTO decoding_calibration (session_id, dataset_source, encoder_id, vectors, "
            "sequence_set_id, split, calibrated_on, threshold, queries, hits, latency_p50, "
            "latency_p95, chosen, environment) SELECT %s, dataset_source, encoder_id, 48, "
            "sequence_set_id, 'val', 'truths', %s, 1, 1, 0, 0, true, '{}' FROM sequence_set "
            "WHERE name = 's'",
            [session, threshold],
        )
    try:
        yield
    finally:
        with db.raw_connection() as connection:
            connection.execute("DELETE FROM decoding_calibration WHERE session_id = %s", [session])


def test_a_text_is_written_for_a_prediction(
    clients: Clients, served: Any, service_db: Database, stand_in: StandIn
) -> None:
    context = served.articles[0].vectors[:3]
    expected = load_inference(service_db, served.lstm, torch.device("cpu"))([context])
    given = {"context": coded(context), "decode": "vec2text"}
    said = ask(clients["lvm"], "/predict", vec2text_steps=3, beam=2, **given)
    assert said["text"] in WRITTEN
    assert (said["method"], said["concepts"], said["why"]) == ("vec2text", [], None)
    own = clients["embedding"].post("/embed", json={"texts": [said["text"]]}).json()["vectors"]
    direction = expected[0] / np.linalg.norm(expected[0])
    assert said["cosine"] == pytest.approx(float(direction @ np.array(own[0])), abs=1e-4)
    assert {"model", "decode", "total"} <= set(said["seconds"])
    assert {name: stand_in.asked[-1][name] for name in ("steps", "beam")} == {"steps": 3, "beam": 2}
    both = [coded(context)] * 2
    batch = ask(clients["lvm"], "/predict/batch", contexts=both, decode="vec2text")
    assert [each["text"] for each in batch["predictions"]] == [said["text"]] * 2
    assert {name: stand_in.asked[-1][name] for name in ("steps", "beam")} == {
        "steps": 20,
        "beam": 4,
    }
    page = clients["lvm"].get("/", params={"article": 1, "decode": "vec2text", "steps": 2})
    assert page.status_code == 200
    assert "written by vec2text" in page.text


def test_what_is_near_is_found_and_the_rest_written(
    clients: Clients, served: Any, service_db: Database
) -> None:
    given = {"context": coded(served.articles[1].vectors[:3]), "decode": "auto", "k": 2}
    nearest = ask(clients["lvm"], "/predict", **given)
    assert (nearest["method"], nearest["why"]) == ("nearest", "no threshold is calibrated")
    with calibrated(service_db, -1):
        near = ask(clients["lvm"], "/predict", **given)
    assert (near["text"], near["method"], near["why"]) == (nearest["text"], "nearest", None)
    with calibrated(service_db, 1):
        far = ask(clients["lvm"], "/predict", **given)
        steps = events(clients["lvm"], steps=2, repeated=None, end_cosine=None, **given)
    assert far["method"] == "vec2text"
    assert far["text"] in WRITTEN
    # Beside it, what would have been found; and that is what is read on.
    assert far["concepts"] == nearest["concepts"]
    assert [data["method"] for name, data in steps if name == "step"] == ["vec2text"] * 2


def test_a_generation_reads_what_it_wrote(
    clients: Clients, served: Any, service_db: Database
) -> None:
    context = served.articles[2].vectors[:2]
    given = {"context": coded(context), "loop": "vec2text", "decode": "vec2text", "beam": 1,
             "steps": 2, "end_cosine": None, "repeated": None, "encoding": "float"}  # fmt: skip
    begin, first, second, end = events(clients["lvm"], **given)
    assert (begin[0], end[1]["reason"]) == ("begin", "length")
    text = first[1]["text"]
    assert text in WRITTEN
    own = clients["embedding"].post("/embed", json={"texts": [text]}).json()["vectors"]
    infer = load_inference(service_db, served.lstm, torch.device("cpu"))
    (ahead,) = infer([np.concatenate([context, np.array(own, dtype=np.float32)])])
    np.testing.assert_allclose(second[1]["vector"], ahead / np.linalg.norm(ahead), atol=1e-4)
    assert "feed" in second[1]["seconds"]
    # The stand-in has two texts, and soon says one again.
    *_, (name, told) = events(clients["lvm"], **{**given, "steps": 5, "repeated": 1.0})
    assert (name, told["reason"]) == ("end", "repetition")


def test_without_the_decoding_service_it_is_said(
    serving: Serving, service_options: ServiceOptions, served: Any, service_db: Database
) -> None:
    settings = replace(service_options.settings, decoding_url="http://127.0.0.1:9")
    options = replace(service_options, settings=settings, encoder="none")
    given = {"context": coded(served.articles[3].vectors[:3])}
    with serving(lvm.create(options)) as client, calibrated(service_db, 1):
        refused = client.post("/predict", json={**given, "decode": "vec2text"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (
            503,
            "endpoint_unavailable",
        )
        said = ask(client, "/predict", decode="auto", **given)
        assert said["method"] == "nearest"
        assert said["why"].startswith("below 1.00, and no vec2text: the decoding service (")
        wrong = client.post("/predict", json={**given, "decode": "vec2text", "beam": 17})
        assert wrong.json()["error"]["message"].startswith("beam: ")


def test_a_language_model_that_is_late_leaves_the_text_as_it_is(
    serving: Serving, service_options: ServiceOptions, served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lvm_state, "LLM_PATIENCE", Patience(answer_s=0.1, tries=1))
    given = {"context": coded(served.articles[5].vectors[:3]), "smooth": True}
    with AnsweringServer() as model:
        for _ in range(2):
            model.then(200, {"choices": []}, slow_s=0.5)
        settings = replace(service_options.settings, llm_url=f"{model.url}/v1", llm_model="m")
        options = replace(service_options, settings=settings, encoder="none")
        with serving(lvm.create(options)) as client:
            said = ask(client, "/predict", **given)
            *_, (name, end) = events(client, steps=1, **given)
            monkeypatch.setattr(lvm, "SMOOTHING", 0.0)
            batch = ask(client, "/predict/batch", contexts=[given["context"]], smooth=True)
    assert len(model.requests) == 2
    assert batch["predictions"][0]["smoothed"]["why"] == "there was no time left for it"
    assert name == "end"
    for text, smoothed in ((said["text"], said["smoothed"]), (end["text"], end["smoothed"])):
        assert (smoothed["text"], smoothed["smoothed"], smoothed["added"]) == (text, False, [])
        assert "language model" in smoothed["why"]


def test_searching_does_not_wait_for_writing(
    clients: Clients, decoding_server: AnsweringServer, served: Any
) -> None:
    going, passes_on = threading.Event(), decoding_server.answer

    def slowly(request: Request) -> Any:
        if request.path == "/decode":
            assert going.wait(30)
        return passes_on(request)

    context = coded(served.articles[4].vectors[:3])
    decoding_server.answer = slowly
    try:
        with ThreadPoolExecutor(4) as callers:
            client = clients["lvm"]
            # As many as there are threads that search, and one more.
            writing = [
                callers.submit(ask, client, "/predict", context=context, decode="vec2text")
                for _ in range(lvm.LIMITS.threads + 1)
            ]
            try:
                found = callers.submit(ask, client, "/predict", context=context).result(timeout=10)
            finally:
                going.set()
            assert {each.result()["method"] for each in writing} == {"vec2text"}
    finally:
        decoding_server.answer = passes_on
    assert found["method"] == "nearest"
