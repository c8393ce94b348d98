"""The encoder on the tiny model: the same code as with real weights, in a second."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lvmdb.corpus.encoder import PROBE_SENTENCES, EncoderSpec, check_fingerprint
from lvmdb.corpus.sentence_encoder import SentenceEncoder
from lvmdb.corpus.weights import DEMO_ENCODER, find_weights, sha256
from lvmdb.errors import EncoderError
from lvmdb.settings import Settings

# Where this machine keeps weights: read before the tests get homes of their own.
USUAL = Settings.from_environment(
    {name: os.environ.get(name, "") for name in ("LVMDB_HOME", "LVMDB_MODELS")}
)

TEXTS = [f"{'Some text that grows. ' * (i % 7)}Number {i}" for i in range(40)]


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> SentenceEncoder:
    return SentenceEncoder.load(encoder_folder, EncoderSpec("test/tiny"))


def test_what_an_encoder_says_of_itself(encoder: SentenceEncoder, encoder_folder: Path) -> None:
    assert encoder.name == "test/tiny"
    assert encoder.revision == sha256(encoder_folder / "model.safetensors")
    assert (encoder.pooling, encoder.normalised) == ("mean", True)
    assert (encoder.dimension, encoder.max_tokens, encoder.device) == (768, 256, "cpu")


def test_vectors_come_in_the_order_of_the_texts(encoder: SentenceEncoder) -> None:
    counts: list[int] = []
    vectors = encoder.encode(TEXTS, progress=counts.append)
    assert vectors.shape == (40, 768)
    assert vectors.dtype == np.float32
    assert len(counts) > 1
    assert sum(counts) == 40
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    backwards = encoder.encode(TEXTS[::-1])
    np.testing.assert_allclose(vectors, backwards[::-1], atol=1e-5)
    assert len({v.tobytes() for v in vectors.round(3)}) == 40


def test_a_vector_does_not_depend_on_the_rest_of_its_batch(encoder: SentenceEncoder) -> None:
    together = encoder.encode(TEXTS[:9])
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS[:9]])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_nothing_gives_nothing(encoder: SentenceEncoder) -> None:
    assert encoder.encode([]).shape == (0, 768)


def test_loading_and_encoding_are_silent(
    encoder_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    SentenceEncoder.load(encoder_folder, EncoderSpec("test/tiny")).encode(["a", "b"])
    assert capfd.readouterr() == ("", "")


def test_the_same_weights_match_their_fingerprint(
    encoder: SentenceEncoder, encoder_folder: Path, tmp_path: Path
) -> None:
    stored = encoder.probe_vectors()
    assert stored.shape == (len(PROBE_SENTENCES), 768)
    shutil.copytree(encoder_folder, tmp_path / "copy")
    again = SentenceEncoder.load(tmp_path / "copy", EncoderSpec("another name"))
    assert check_fingerprint(stored.astype(np.float16), again) > 0.99999


def test_other_weights_under_the_same_name_are_refused(
    encoder: SentenceEncoder, build_encoder: Callable[..., Path], tmp_path: Path
) -> None:
    other = SentenceEncoder.load(build_encoder(tmp_path / "other", seed=1), encoder.spec)
    with pytest.raises(EncoderError, match=r"'test/tiny' .* is not the one whose vectors"):
        check_fingerprint(encoder.probe_vectors(), other)


@pytest.mark.parametrize("row", [0, len(PROBE_SENTENCES) - 1])
def test_one_probe_that_differs_is_enough(encoder: SentenceEncoder, row: int) -> None:
    stored = encoder.probe_vectors()
    stored[row] = np.roll(stored[row], 1)
    with pytest.raises(EncoderError, match=f"probe sentence {row + 1}"):
        check_fingerprint(stored, encoder)
    stored[row] = np.nan
    with pytest.raises(EncoderError, match=f"probe sentence {row + 1}"):
        check_fingerprint(stored, encoder)


def test_a_fingerprint_of_another_shape_is_refused(encoder: SentenceEncoder) -> None:
    with pytest.raises(EncoderError, match=r"shape \(2, 768\)"):
        check_fingerprint(encoder.probe_vectors()[:2], encoder)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_vector_that_is_none_names_its_text(
    encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    def encode(texts: list[str], **_: object) -> np.ndarray:
        rows = np.ones((len(texts), 768), dtype=np.float32)
        rows[[text == "the bad one" for text in texts]] = value
        return rows

    monkeypatch.setattr(encoder._model, "encode", encode)
    with pytest.raises(EncoderError, match=r"text 3, 'the bad one'"):
        encoder.encode(["good", "better still", "the bad one", "x"])


def test_a_model_of_another_dimension_is_refused(encoder_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    shutil.copytree(encoder_folder, folder)
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*modules[:2], dense]), encoding="utf-8")
    from sentence_transformers.models import Dense

    (folder / "2_Dense").mkdir()
    Dense(768, 384).save(str(folder / "2_Dense"))
    with pytest.raises(EncoderError, match="vectors of 384 numbers, and lvmdb keeps 768"):
        SentenceEncoder.load(folder, EncoderSpec("small"))


def test_folders_that_hold_no_model(encoder_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"modules\.json or model\.safetensors is missing"):
        SentenceEncoder.load(tmp_path, EncoderSpec("none"))
    shutil.copytree(encoder_folder, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(EncoderError, match="does not load as encoder 'cut'") as e:
        SentenceEncoder.load(tmp_path / "cut", EncoderSpec("cut"))
    assert "\n" not in str(e.value)


@pytest.mark.real_weights
def test_the_published_encoder_finds_what_belongs_together() -> None:
    try:
        folder = find_weights(
            DEMO_ENCODER,
            models_folder=USUAL.models,
            cache_folder=USUAL.home / "models",
            offline=True,
        )
    except EncoderError as error:
        pytest.skip(f"no weights of {DEMO_ENCODER} on this machine: {error}")
    encoder = SentenceEncoder.load(folder, EncoderSpec(DEMO_ENCODER))
    assert (encoder.pooling, encoder.normalised, encoder.max_tokens) == ("mean", True, 384)
    a, b, c = encoder.encode(
        ["A dog barked all night.", "The hound would not be quiet.", "Interest rates rose again."]
    )
    assert a @ b > 0.4 > 0.2 > a @ c
