"""What kinds of encoders there are, how they are told apart, and what they share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_t5
import torch
from hypothesis import given
from hypothesis import strategies as st

from lvmdb.corpus.batches import by_length
from lvmdb.corpus.encoder import (
    PROBE_SENTENCES,
    EncoderSpec,
    check_fingerprint,
    typical_length,
    unit,
)
from lvmdb.corpus.precision import quantise
from lvmdb.corpus.sentence_encoder import SentenceEncoder
from lvmdb.corpus.t5_encoder import MAX_TOKENS, T5Encoder
from lvmdb.errors import EncoderError, UsageError

SENTENCES = EncoderSpec.of_name("sentence-transformers/gtr-t5-base")
STATES = EncoderSpec.of_name("vec2text/gtr-t5-base")


@given(st.lists(st.integers(1, 50)), st.integers(1, 200), st.integers(1, 9))
def test_batches_keep_to_their_budget(tokens: list[int], budget: int, most: int) -> None:
    batches = by_length(tokens, budget, most)
    assert sorted(i for batch in batches for i in batch) == list(range(len(tokens)))
    flat = [tokens[i] for batch in batches for i in batch]
    assert flat == sorted(tokens, reverse=True)
    for batch in batches:
        assert len(batch) <= most
        assert len(batch) == 1 or len(batch) * max(tokens[i] for i in batch) <= budget
    for batch in batches[:-1]:
        full = (len(batch) + 1) * tokens[batch[0]] > budget
        assert full or len(batch) == most, "it could have taken the first of the next"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"kind": "word2vec"}, "--kind is one of"),
        ({"kind": "tei"}, "--endpoint goes with --kind openai or tei"),
        ({"endpoint": "http://x"}, "--endpoint goes with --kind openai or tei"),
        ({"kind": "tei", "endpoint": "http://x"}, "leave out --precision"),
        ({"precision": "fp8"}, "--precision is one of fp32, bf16, int8, not 'fp8'"),
        ({"precision": None}, "--precision is one of"),
        ({"name": "vec2text/gtr-t5-base"}, "the name 'vec2text/gtr-t5-base' says --kind vec2text"),
        (
            {"name": "sentence-transformers/gtr-t5-base", "kind": "vec2text"},
            "says --kind sentence-transformers",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        EncoderSpec(**{"name": "e", **values})


def test_both_spaces_of_gtr_t5_come_from_one_folder() -> None:
    assert (SENTENCES.kind, STATES.kind) == ("sentence-transformers", "vec2text")
    assert SENTENCES.weights == STATES.weights == "sentence-transformers/gtr-t5-base"
    assert EncoderSpec("vec2text/x", "vec2text", model="elsewhere").weights == "elsewhere"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_t5.build(tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="module")
def spaces(folder: Path) -> tuple[SentenceEncoder, T5Encoder]:
    return SentenceEncoder.load(folder, SENTENCES), T5Encoder.load(folder, STATES)


def test_the_two_spaces_are_two_encoders(
    spaces: tuple[SentenceEncoder, T5Encoder], folder: Path
) -> None:
    sentences, states = spaces
    assert sentences.revision == states.revision
    assert (sentences.pooling, sentences.normalised, sentences.max_tokens) == ("mean", True, 512)
    assert (states.pooling, states.normalised, states.max_tokens) == ("mean", False, MAX_TOKENS)
    one, other = sentences.probe_vectors(), states.probe_vectors()
    assert np.abs((unit(one) * unit(other)).sum(axis=1)).max() < 0.5
    for stored, encoder, kind in ((one, states, SENTENCES.kind), (other, sentences, STATES.kind)):
        with pytest.raises(EncoderError, match=f"two spaces: these may be .* --kind {kind}"):
            check_fingerprint(stored, encoder)
    assert check_fingerprint(other, T5Encoder.load(folder, STATES)) > 0.99999


def test_the_states_are_those_of_the_encoder(spaces: tuple[SentenceEncoder, T5Encoder]) -> None:
    """Against sentence-transformers' own: its vector is the normalised dense layer of the mean."""
    sentences, states = spaces
    dense = sentences._model[2].linear.weight
    mean = torch.from_numpy(states.probe_vectors())
    expected = torch.nn.functional.normalize(mean @ dense.T, dim=1).detach().numpy()
    # The last one is longer than vec2text's limit, and shorter than the other's.
    np.testing.assert_allclose(sentences.probe_vectors()[:-1], expected[:-1], atol=1e-5)
    assert np.abs(sentences.probe_vectors()[-1] - expected[-1]).max() > 1e-3


def test_unit_vectors_are_kept_and_a_length_beside_them(
    spaces: tuple[SentenceEncoder, T5Encoder],
) -> None:
    sentences, states = spaces
    texts = ["One.", "Another text that is longer.", "x " * 300]
    np.testing.assert_allclose(np.linalg.norm(states.encode(texts), axis=1), 1, atol=1e-6)
    probes = states.probe_vectors()
    length = typical_length(probes)
    assert length > 2
    assert typical_length(sentences.probe_vectors()) == pytest.approx(1)
    # A direction and that length come near to what the model gave.
    back = states.encode(PROBE_SENTENCES) * length
    assert np.linalg.norm(back - probes, axis=1).max() < 0.3 * length


def test_what_is_no_t5_is_refused(folder: Path, encoder_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="it is a bert, and no T5"):
        T5Encoder.load(encoder_folder, STATES)
    with pytest.raises(EncoderError, match="does not load as encoder 'vec2text/gtr-t5-base'"):
        T5Encoder.load(tmp_path, STATES)
    from safetensors.torch import load_file, save_file

    for file in folder.iterdir():
        if file.is_file():
            (tmp_path / file.name).symlink_to(file)
    (tmp_path / "model.safetensors").unlink()
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.final_layer_norm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match="1 of its weights are missing"):
        T5Encoder.load(tmp_path, STATES)


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.999), ("int8", 0.995)])
def test_lower_precisions_come_near(
    spaces: tuple[SentenceEncoder, T5Encoder], folder: Path, precision: str, least: float
) -> None:
    short = PROBE_SENTENCES[:3]
    for exact in spaces:
        spec = EncoderSpec("e", exact.spec.kind, precision=precision)
        rough = type(exact).load(folder, spec)
        assert rough.precision == precision
        cosines = (rough.encode(short) * exact.encode(short)).sum(axis=1)
        assert least < cosines.min()
        assert cosines.max() < 1 - 1e-9, "it computes in something else"


def test_int8_survives_what_is_a_hundred_times_larger() -> None:
    """A channel and a token of transformers' kind, which one scale for all would lose."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 32)
    inputs = torch.randn(40, 64)
    inputs[:, 5] *= 100
    inputs[7] *= 100
    model = torch.nn.ModuleDict({"layer": layer, "unused": torch.nn.Linear(4, 4)})
    with torch.no_grad():
        exact = layer(inputs)
        quantise(model, "cpu", run=lambda: model["layer"](inputs))
        rough = model["layer"](inputs)
    assert type(model["layer"]).__name__ == "Int8Linear"
    assert type(model["unused"]) is torch.nn.Linear
    step = inputs.abs().max() / 127
    one_scale = layer((inputs / step).round() * step)
    cosine = torch.nn.functional.cosine_similarity
    lost = cosine(exact - layer.bias, one_scale - layer.bias) < 0.9
    assert lost.float().mean() > 0.3
    cosines = cosine(exact - layer.bias, rough - layer.bias)
    assert cosines.median() > 0.999
    assert cosines.min() > 0.98
    with pytest.raises(EncoderError, match="int8 is for CPUs, not for cuda"):
        quantise(model, "cuda", run=lambda: None)
