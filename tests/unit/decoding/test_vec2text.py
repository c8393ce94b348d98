"""The client of the decoding service, vec2text's process as its parent sees it, its environment."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from answering_server import AnsweringServer, Request
from stand_in_vec2text import build

from lvmdb.corpus.encoder import EncoderSpec
from lvmdb.corpus.http import Patience
from lvmdb.decoding import correctors, vec2text_environment
from lvmdb.decoding.correctors import GTR, Pair, pair_of
from lvmdb.decoding.spaces import Space
from lvmdb.decoding.vec2text import Vec2Text, packed, unpacked
from lvmdb.decoding.vec2text_child import Child, ChildEndedError
from lvmdb.errors import (
    EncoderError,
    EndpointAwayError,
    EndpointError,
    ServiceError,
    SettingsError,
    UsageError,
)
from lvmdb.settings import Settings

SPACE = Space("e", "f" * 64)

ONCE = Patience(answer_s=5.0, tries=1)


def vectors(number: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(number, 768)).astype(np.float32)


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    with AnsweringServer() as server:
        yield server


def test_the_client_asks_and_reads(server: AnsweringServer) -> None:
    def answer(request: Request) -> object:
        sent = unpacked(request.body["vectors"])
        texts = [str(float(row[0])) for row in sent]
        return {"texts": texts, "vectors": packed(np.roll(sent, 1, axis=1))}

    server.answer = answer
    wanted = vectors(70)
    with Vec2Text(server.url, "secret", steps=7, beam=3, patience=ONCE) as client:
        found = client.decode(wanted, SPACE)
        assert client.texts(wanted[:2], SPACE) == [each.text for each in found[:2]]
        assert client.decode(wanted[:0], SPACE) == []
    assert [each.text for each in found] == [str(float(row[0])) for row in wanted]
    shifted = np.roll(wanted, 1, axis=1)
    np.testing.assert_array_equal([each.vector for each in found], shifted)
    exact = [
        float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        for a, b in zip(wanted.astype(float), shifted.astype(float), strict=True)
    ]
    np.testing.assert_allclose([each.cosine for each in found], exact, atol=1e-9)
    first, second, _ = server.requests
    assert [len(each.body["vectors"]) for each in (first, second)] == [64, 6]
    assert first.path == "/decode"
    assert first.headers["Authorization"] == "Bearer secret"
    del first.body["vectors"]
    assert first.body == {
        "encoder": "e", "fingerprint": "f" * 64, "steps": 7, "beam": 3, "encoding": "base64",
    }  # fmt: skip


@pytest.fixture
def client(server: AnsweringServer) -> Iterator[Vec2Text]:
    with Vec2Text(server.url, None, patience=ONCE) as client:
        yield client


def test_what_a_service_refuses_is_said_in_one_line(
    server: AnsweringServer, client: Vec2Text
) -> None:
    server.then(409, {"error": {"message": "these are vectors of 'e'"}})
    with pytest.raises(EncoderError, match="these are vectors of 'e'"):
        client.texts(vectors(1), SPACE)
    server.then(503, {"error": {"message": "vec2text: is being loaded"}})
    with pytest.raises(EndpointError, match=r"'lvmdb serve decoding'.* is being loaded"):
        client.texts(vectors(1), SPACE)
    server.then(401, {})
    with pytest.raises(EndpointAwayError, match="check LVMDB_TOKEN"):
        client.texts(vectors(1), SPACE)
    good = packed(vectors(1))
    wrongs: tuple[object, ...] = (
        {},
        [],
        {"texts": ["a"]},
        {"texts": ["a", "b"], "vectors": good},
        {"texts": [1], "vectors": good},
        {"texts": ["a"], "vectors": ["AAAA"]},
        {"texts": ["a"], "vectors": packed(np.full((1, 768), np.nan, np.float32))},
    )
    for wrong in wrongs:
        server.then(200, wrong)
        with pytest.raises(EndpointError, match="something else than a text and a vector for each"):
            client.texts(vectors(1), SPACE)
    server.then(200, {"inverter": {"name": "i"}})
    with pytest.raises(EndpointError, match="is it of this version"):
        client.written_by(vectors(1), SPACE)


def test_steps_and_beam_have_bounds() -> None:
    for steps, beam in ((-1, 1), (51, 1), (1, 0), (1, 17)):
        with pytest.raises(UsageError, match=r"vec2text's (steps|beam)"):
            Vec2Text("http://127.0.0.1:1", None, steps=steps, beam=beam)


PROCESS = """
import json, os, sys
print("loading", file=sys.stderr)
for line in sys.stdin:
    asked = json.loads(line)
    if "die" in asked:
        os.kill(os.getpid(), 9)
    while "hang" in asked:
        sys.stdin.readline()
    print(json.dumps({"error": "no"} if "wrong" in asked else {"said": asked}), flush=True)
"""


def child(ended: list[bool]) -> Child:
    return Child([sys.executable, "-I", "-c", PROCESS], lambda: ended.append(True))


def test_a_process_is_asked_one_thing_after_the_other() -> None:
    ended: list[bool] = []
    process = child(ended)
    for text in ("a", "ü\n\0"):
        assert process.ask({"embed": [text]}) == {"said": {"embed": [text]}}
    with pytest.raises(ServiceError, match=r"^no$"):
        process.ask({"wrong": 1})
    assert not ended
    with pytest.raises(ChildEndedError, match=r"ended by signal 9: the log says more") as died:
        process.ask({"die": 1})
    assert died.value.passing
    with pytest.raises(ChildEndedError):
        process.ask({"embed": []})
    process.close()
    assert ended == [True]


def test_a_process_that_does_not_answer_is_ended() -> None:
    process = child([])
    with pytest.raises(ChildEndedError, match=r"gave no answer within 0.2 s.* fewer steps"):
        process.ask({"hang": 1}, seconds=0.2)
    with pytest.raises(ChildEndedError):
        process.ask({"embed": []})
    with pytest.raises(ServiceError, match="cannot start /nowhere/python"):
        Child(["/nowhere/python"])


def test_which_pair_belongs_to_which_encoder() -> None:
    whole = pair_of(EncoderSpec.of_name(GTR), None, None)
    mean = pair_of(EncoderSpec.of_name("vec2text/gtr-t5-base"), None, None)
    assert whole.inverter == "ielabgroup/vec2text_gtr-base-st_inversion"
    assert whole.corrector == "ielabgroup/vec2text_gtr-base-st_corrector"
    assert mean == Pair("jxm/gtr__nq__32", "jxm/gtr__nq__32__correct")
    other = EncoderSpec.of_name("sentence-transformers/all-mpnet-base-v2")
    assert pair_of(other, "i", "c") == pair_of(None, "i", "c") == Pair("i", "c")
    with pytest.raises(EncoderError, match="known for encoder 'sentence-transformers/all-mpnet"):
        pair_of(other, None, None)
    with pytest.raises(UsageError, match="--inverter and --corrector go together"):
        pair_of(other, "i", None)


def test_weights_are_found_or_the_reason_is_said(tmp_path: Path) -> None:
    pair = Pair(*build(tmp_path))
    settings = Settings(tmp_path / "home", models=tmp_path)
    found = correctors.find(settings, pair)
    assert found.base == tmp_path / "stand-in-t5"
    assert found.embedder == tmp_path / "sentence-transformers--stand-in"
    assert found.pooling == "sentence-transformers"
    assert found.inverter.revision != found.corrector.revision
    config = tmp_path / "corrector" / "config.json"
    said = json.loads(config.read_text())
    for changed, message in (
        (
            {**said, "model_name_or_path": "t5-large"},
            "are no pair: model_name_or_path is 'stand-in",
        ),
        ({"hidden_size": 768}, "holds no inverter or corrector of vec2text's"),
    ):
        config.write_text(json.dumps(changed))
        with pytest.raises(EncoderError, match=message):
            correctors.find(settings, pair)
    for half in ("inverter", "corrector"):
        unknown = {**said, "embedder_model_name": "gpt2"}
        (tmp_path / half / "config.json").write_text(json.dumps(unknown))
    with pytest.raises(EncoderError, match="trained with the encoder 'gpt2', which lvmdb does not"):
        correctors.find(settings, pair)


def test_an_environment_that_is_not_there_is_asked_for(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    folder = vec2text_environment.folder_of(settings)
    assert folder == tmp_path / "vec2text"
    assert vec2text_environment.folder_of(replace(settings, vec2text=tmp_path / "x")).name == "x"
    with pytest.raises(SettingsError, match=r"is not there .* run 'lvmdb vec2text install'"):
        vec2text_environment.command(folder)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()
    (folder / "lvmdb-requirements.txt").write_text("torch==1.0\n")
    with pytest.raises(SettingsError, match=r"of other versions .* 'lvmdb vec2text install' again"):
        vec2text_environment.command(folder)
    # What somebody else keeps there is not removed.
    with pytest.raises(SettingsError, match="holds something else than an environment"):
        vec2text_environment.install(folder, print)
    assert (folder / "bin" / "python").exists()


def test_what_is_pinned_shares_torch_with_this_environment() -> None:
    pinned = vec2text_environment.requirements()
    constraints = Path(__file__).parents[3] / "constraints.txt"
    assert f"torch=={pinned['torch']}" in constraints.read_text().split()
    assert pinned["vec2text"] == "0.0.13"
    # The last that it works with.
    assert tuple(map(int, pinned["transformers"].split("."))) < (4, 50)
