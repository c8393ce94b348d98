"""Endpoints of both kinds, served over HTTP by a model that is compared with directly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering_server import AnsweringServer, Request

from lvmdb.corpus.encoder import PROBE_SENTENCES, EncoderSpec, check_fingerprint
from lvmdb.corpus.endpoint_encoder import AT_ONCE, EndpointEncoder
from lvmdb.corpus.http import Patience
from lvmdb.corpus.sentence_encoder import SentenceEncoder
from lvmdb.errors import EncoderError, LvmdbError, UsageError

QUICK = Patience(connect_s=2, answer_s=2, tries=2, first_wait_s=0.01, longest_wait_s=0.01)
INFO = {
    "model_id": "test/tiny",
    "model_sha": "abc",
    "model_dtype": "float16",
    "model_type": {"embedding": {"pooling": "mean"}},
    "max_input_length": 256,
    "max_batch_tokens": 4096,
    "max_client_batch_size": 8,
}


@pytest.fixture(scope="module")
def model(encoder_folder: Path) -> SentenceEncoder:
    return SentenceEncoder.load(encoder_folder, EncoderSpec("test/tiny"))


class Served:
    """A model behind both interfaces; `spoil` may change what it answers to a request."""

    def __init__(self, model: SentenceEncoder) -> None:
        self.model = model
        self.info: dict[str, Any] = dict(INFO)
        self.factor = 1.0
        self.sent: list[list[str]] = []

    def __call__(self, request: Request) -> Any:
        if (request.method, request.path) == ("GET", "/info"):
            return self.info
        if request.path == "/embed":
            assert request.body["truncate"] is True
            assert request.body["normalize"] is False
            return self.vectors(request.body["inputs"])
        assert request.path == "/v1/embeddings"
        rows = [
            {"object": "embedding", "index": i, "embedding": row}
            for i, row in enumerate(self.vectors(request.body["input"]))
        ]
        return {"object": "list", "data": rows[::-1], "model": request.body["model"]}

    def vectors(self, texts: list[str]) -> Any:
        self.sent.append(texts)
        return (self.model.encode(texts) * self.factor).tolist()


@pytest.fixture
def served(model: SentenceEncoder) -> Served:
    return Served(model)


@pytest.fixture
def server(served: Served) -> Iterator[AnsweringServer]:
    with AnsweringServer(served) as running:
        yield running


def spec(kind: str, server: AnsweringServer, model: str | None = None) -> EncoderSpec:
    path = "/v1" if kind == "openai" else ""
    return EncoderSpec("remote", kind, model, server.url + path, None)


def connect(kind: str, server: AnsweringServer, model: str | None = None) -> EndpointEncoder:
    return EndpointEncoder.connect(spec(kind, server, model), "sesame", QUICK)


TEXTS = [f"{'Some text that grows. ' * (i % 7)}Number {i}" for i in range(30)]


@pytest.mark.parametrize("kind", ["openai", "tei"])
def test_an_endpoint_gives_the_models_vectors(
    kind: str, server: AnsweringServer, served: Served, model: SentenceEncoder
) -> None:
    remote = connect(kind, server)
    counts: list[int] = []
    np.testing.assert_allclose(remote.encode(TEXTS, counts.append), model.encode(TEXTS), atol=1e-5)
    assert sum(counts) == len(TEXTS)
    assert check_fingerprint(model.probe_vectors(), remote) > 0.99999
    assert served.sent[0] == sorted(PROBE_SENTENCES, key=lambda t: -(len(t.encode()) // 4))
    assert {r.headers["Authorization"] for r in server.requests} == {"Bearer sesame"}
    if kind == "tei":
        assert max(map(len, served.sent)) == 8
        assert 1 < server.most_at_once <= AT_ONCE
        known = (remote.revision, remote.pooling, remote.max_tokens, remote.precision)
        assert known == ("abc", "mean", 256, "fp16")
    else:
        known = (remote.revision, remote.pooling, remote.max_tokens, remote.precision)
        assert known == (None, None, None, None)
        assert server.requests[-1].body["model"] == "remote"


def test_whether_it_normalises_is_seen(server: AnsweringServer, served: Served) -> None:
    assert connect("tei", server).normalised
    served.factor = 3.0
    remote = connect("tei", server)
    assert not remote.normalised
    lengths = np.linalg.norm(remote.probe_vectors(), axis=1)
    np.testing.assert_allclose(lengths, 3, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(remote.encode(["x"]), axis=1), 1, rtol=1e-5)


def test_a_model_that_can_shorten_its_vectors_is_asked_to(server: AnsweringServer) -> None:
    connect("openai", server, "big@768")
    body = server.requests[-1].body
    assert (body["model"], body["dimensions"]) == ("big", 768)
    connect("openai", server, "big")
    assert "dimensions" not in server.requests[-1].body


ROW = [0.1] * 768
EIGHT = len(PROBE_SENTENCES)


def _openai(rows: list[Any], places: list[Any] | None = None) -> dict[str, Any]:
    numbered = places or list(range(len(rows)))
    return {"data": [{"index": i, "embedding": r} for i, r in zip(numbered, rows, strict=True)]}


@pytest.mark.parametrize(
    ("kind", "answer", "told"),
    [
        ("tei", [ROW[:384]] * EIGHT, "makes vectors of 384 numbers, and lvmdb keeps 768"),
        ("openai", _openai([ROW * 2] * EIGHT), r"1536 numbers.*ask for --model remote@768"),
        ("tei", [ROW] * 7, "was sent 8 texts and gave 7 vectors"),
        ("openai", _openai([ROW] * 9), "was sent 8 texts and gave 9 vectors"),
        ("openai", _openai([ROW] * EIGHT, [0, 0, 2, 3, 4, 5, 6, 7]), "numbered its 8 vectors"),
        ("openai", _openai([ROW] * EIGHT, [*"abcdefg", 7]), "something else than vectors"),
        ("tei", [ROW] * 7 + [ROW[:5]], "gave vectors of 5 and of 768 numbers"),
        ("tei", [ROW] * 7 + [[float("nan"), *ROW[1:]]], "no usable vector .norm nan. for text"),
        ("tei", [ROW] * 7 + [[None, *ROW[1:]]], "no usable vector|not of numbers"),
        ("tei", [ROW] * 7 + [[0.0] * 768], r"no usable vector \(norm 0.0\)"),
        ("tei", [ROW] * 7 + [["x", *ROW[1:]]], "gave vectors that are not of numbers"),
        ("tei", {"vectors": []}, "something else than vectors"),
        ("tei", [], "was sent 8 texts and gave 0 vectors"),
        ("openai", [ROW] * EIGHT, "something else than vectors"),
        ("openai", {"data": None}, "something else than vectors"),
        ("openai", {"data": [{"index": 0}]}, "something else than vectors"),
    ],
)
def test_a_wrong_answer_is_one_clear_line(kind: str, answer: Any, told: str) -> None:
    with AnsweringServer() as server:
        if kind == "tei":
            server.then(200, INFO)
        server.then(200, answer)
        with pytest.raises(EncoderError, match=told) as error:
            connect(kind, server)
    assert "\n" not in str(error.value)
    assert "remote" in str(error.value)


@pytest.mark.parametrize(
    ("info", "told"),
    [
        ({**INFO, "model_id": "other"}, "serves other, not test/tiny"),
        ({**INFO, "model_type": {"reranker": {}}}, "which makes no sentence vectors"),
        ({"status": "ok"}, "is not one of text-embeddings-inference: try --kind openai"),
    ],
)
def test_an_endpoint_that_serves_something_else(info: Any, told: str) -> None:
    with AnsweringServer() as server:
        server.then(200, info)
        with pytest.raises(EncoderError, match=told):
            connect("tei", server, "test/tiny")


def test_failures_name_the_encoder_and_never_the_key(served: Served) -> None:
    late = Patience(connect_s=2, answer_s=0.2, tries=1)
    with AnsweringServer(served) as server:
        where = spec("openai", server)
        server.then(500, "busy").then(503, "busy")
        with pytest.raises(LvmdbError, match=r"encoder 'remote' at .* answered 503"):
            EndpointEncoder.connect(where, "sesame", QUICK)
        server.then(401, {"error": "bad key sesame"})
        with pytest.raises(LvmdbError, match="check LVMDB_ENCODER_KEY") as refused:
            EndpointEncoder.connect(where, "sesame", QUICK)
        assert "sesame" not in str(refused.value)
        server.then(200, {}, slow_s=0.5)
        with pytest.raises(LvmdbError, match=r"no answer within 0\.2 s"):
            EndpointEncoder.connect(where, "sesame", late)
        server.then(500, "busy")  # a passing failure is no failure
        assert EndpointEncoder.connect(where, None, QUICK).encode(["x"]).shape == (1, 768)
    with pytest.raises(LvmdbError, match=r"encoder 'remote' at .* does not answer"):
        EndpointEncoder.connect(where, "sesame", QUICK)
    for address in ("http://me:secret@host/v1", "http://host/v1?key=secret"):
        with pytest.raises(UsageError, match="LVMDB_ENCODER_KEY") as told:
            EndpointEncoder.connect(EncoderSpec("e", "openai", None, address, None))
        assert "secret" not in str(told.value)
