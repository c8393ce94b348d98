"""vec2text itself, in its environment, with a tiny inverter and corrector that are trained here.

It runs where `lvmdb vec2text install` has made the environment in `LVMDB_TEST_VEC2TEXT`, else in
`vec2text` beside this environment's packages, as `make test` does.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import tiny_vec2text
import torch
from answering_server import Answer, AnsweringServer, Request
from starlette.testclient import TestClient

from lvmdb.corpus import encoders
from lvmdb.corpus.encoder import Encoder
from lvmdb.corpus.weights import has_weights, revision
from lvmdb.db.engine import Database
from lvmdb.decoding import correctors, vec2text_environment
from lvmdb.decoding.correctors import GTR, PAIRS
from lvmdb.decoding.inverter import Inverter, known_encoder
from lvmdb.decoding.round_trip import ThroughText
from lvmdb.decoding.spaces import space_of
from lvmdb.decoding.vec2text import Vec2Text
from lvmdb.decoding.vec2text_child import Child
from lvmdb.errors import EncoderError
from lvmdb.services import decoding
from lvmdb.services.options import ServiceOptions
from lvmdb.settings import Settings

FreshDatabase = Callable[..., AbstractContextManager[Database]]
Serving = Callable[..., AbstractContextManager[TestClient]]

MEAN = "vec2text/gtr-t5-base"

ENVIRONMENT = Path(os.environ.get("LVMDB_TEST_VEC2TEXT") or Path(sys.prefix) / "vec2text")

lacking = vec2text_environment.lacking(ENVIRONMENT)

pytestmark = pytest.mark.skipif(lacking is not None, reason=str(lacking))


class Kept(Child):
    """A process that outlives the service that uses it."""

    def close(self) -> None:
        """Leaves it to others to end it."""

    def end(self) -> None:
        """End it."""
        super().close()


@dataclass(frozen=True)
class Real:
    """vec2text's process, which has trained what it loads, and what it belongs to."""

    child: Child
    db: Database
    settings: Settings
    encoder: Encoder


@pytest.fixture(scope="module")
def real(fresh_database: FreshDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    models = tmp_path_factory.mktemp("models")
    python, *isolated, process = vec2text_environment.command(ENVIRONMENT)
    child = Kept([python, *isolated, tiny_vec2text.__file__, str(models), process])
    try:
        # Asked for nothing that it can do yet, it says so when everything is trained.
        with pytest.raises(Exception, match="nothing is loaded yet"):
            child.ask({"embed": []})
        settings = Settings(tmp_path_factory.mktemp("home"), models=models)
        with fresh_database() as db:
            loaded = [encoders.load(db, settings, name) for name in (GTR, MEAN)]
            for encoder in loaded:
                encoders.add(db, encoder)
            yield Real(child, db, settings, loaded[0])
    finally:
        child.end()


def test_corrections_recover_what_an_inverter_does_not(real: Real, serving: Serving) -> None:
    sentences = random.Random(1).sample(tiny_vec2text.SENTENCES, 24)
    vectors = real.encoder.encode(sentences)
    options = ServiceOptions(real.settings, real.db.dsn, encoder=GTR)
    with (
        serving(decoding.create(options, start=lambda _: real.child)) as client,
        AnsweringServer(lambda request: _passed_on(client, request)) as server,
    ):
        with real.db.connect() as connection:
            space = space_of(connection, GTR)
        right, cosine = {}, {}
        for steps, beam in ((0, 1), (2, 1), (2, 3)):
            with Vec2Text(server.url, None, steps=steps, beam=beam) as decoder:
                # Whatever length a prediction has, its direction is decoded.
                found = decoder.decode(vectors * 3, space)
            texts = [each.text for each in found]
            right[steps, beam] = sum(a == b for a, b in zip(texts, sentences, strict=True))
            cosine[steps, beam] = np.mean([each.cosine for each in found])
            again = real.encoder.encode([text or " " for text in texts])
            np.testing.assert_allclose([each.vector for each in found], again, atol=1e-4)
        # Chance is one in 144. The inverter was stopped early, and its guesses are put right.
        assert right[0, 1] < right[2, 1] < right[2, 3]
        assert right[2, 3] >= 20
        assert cosine[0, 1] < cosine[2, 1] < cosine[2, 3]
        assert cosine[2, 3] > 0.99

        # The vectors of a text are where its round trip ends, and no gradient is asked for.
        with Vec2Text(server.url, None, steps=1, beam=3) as decoder:
            trip = ThroughText(decoder, space, vectors[:1])
            back = trip(torch.from_numpy(vectors[:4]).double())
        assert back.dtype == torch.float64
        assert (
            torch.nn.functional.cosine_similarity(back, torch.from_numpy(vectors[:4])).min() > 0.9
        )
        pair = PAIRS["sentence-transformers", GTR]
        (stamp,) = trip.stamps
        assert stamp.startswith(f"round_trip={pair.inverter}@")
        assert stamp.endswith(",steps=1,beam=3")


def test_vectors_of_another_encoder_are_refused(real: Real) -> None:
    with real.db.connect() as connection:
        whole, mean = (known_encoder(connection, name) for name in (GTR, MEAN))
    of_whole, of_mean = (
        correctors.find(real.settings, correctors.pair_of(known.spec, None, None))
        for known in (whole, mean)
    )
    for weights, known in ((of_mean, whole), (of_whole, mean)):
        with pytest.raises(EncoderError) as refused:
            Inverter(real.child, weights, known)
        said = str(refused.value)
        assert f"'{weights.inverter.name}' and '{weights.corrector.name}' decode the" in said
        assert f"another encoder than '{known.spec.name}'" in said
        assert "the cosine is 0.0" in said or "the cosine is -0.0" in said, said
        assert "GTR-T5 has two spaces" in said
    # Each space has its own, and its own length.
    inverter = Inverter(real.child, of_mean, mean)
    assert inverter.cosine > 0.9999
    assert [len(half.revision) for half in (of_mean.inverter, of_mean.corrector)] == [64, 64]
    texts, vectors = inverter.decode(inverter.embed(["a red fox sees"]), 0, 1)
    assert len(texts) == 1
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_weights_that_are_not_all_there_are_not_made_up(real: Real, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with real.db.connect() as connection:
        known = known_encoder(connection, GTR)
    weights = correctors.find(real.settings, PAIRS["sentence-transformers", GTR])
    folder = tmp_path / "half"
    folder.mkdir()
    whole = load_file(weights.inverter.folder / "model.safetensors")
    del whole["encoder_decoder.shared.weight"]
    save_file(whole, folder / "model.safetensors")
    (folder / "config.json").write_text((weights.inverter.folder / "config.json").read_text())
    cut = replace(weights, inverter=replace(weights.inverter, folder=folder))
    with pytest.raises(EncoderError, match=r"do not load: ValueError: .* lacks \d of its weights"):
        Inverter(real.child, cut, known)


def test_weights_may_lie_in_parts(real: Real, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with real.db.connect() as connection:
        known = known_encoder(connection, GTR)
    weights = correctors.find(real.settings, PAIRS["sentence-transformers", GTR])
    whole = load_file(weights.corrector.folder / "model.safetensors")
    folder, names = tmp_path / "half", sorted(whole)
    folder.mkdir()
    (folder / "config.json").write_text((weights.corrector.folder / "config.json").read_text())
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    index = {name: part for part, held in parts.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    for part, held in parts.items():
        assert not has_weights(folder)
        save_file({name: whole[name].contiguous() for name in held}, folder / part)
    assert has_weights(folder)
    assert len(revision(folder)) == 64
    vectors = real.encoder.encode(tiny_vec2text.SENTENCES[:3])
    texts = []
    for corrector in (weights.corrector, replace(weights.corrector, folder=folder)):
        found = Inverter(real.child, replace(weights, corrector=corrector), known)
        texts.append(found.decode(vectors, 2, 1)[0])
    assert texts[0] == texts[1]


def _passed_on(client: TestClient, request: Request) -> Answer:
    answer = client.request(request.method, request.path, json=request.body)
    return Answer(answer.status_code, answer.json(), {})
