"""Codes: the vocabulary, their dense form, how they are written, and who is nearest to a vector."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.embedding_tagger import EmbeddingTagger
from lvmdb.corpus.llm_tagger import instructions, parsed
from lvmdb.corpus.tagging import UNSURE, Tag
from lvmdb.corpus.tmd import (
    KINDS,
    SIZES,
    dense,
    is_complete,
    label,
    number,
    parse_code,
    vocabulary,
)
from lvmdb.errors import CorpusError, InputError, UsageError


def test_every_label_has_one_sentence() -> None:
    for kind, size in zip(KINDS, SIZES, strict=True):
        labels = vocabulary()[kind]
        assert len(labels) == size == len({entry.definition for entry in labels})
        for place, entry in enumerate(labels):
            assert entry.definition.endswith(".")
            assert 4 <= len(entry.definition.split()) <= 30
            assert label(kind, place) == entry.label
            assert number(kind, f" {entry.label.upper()} ".replace("-", "_")) == place
        assert number(kind, "nothing") is None


def test_the_dense_form_is_the_projection_that_it_is_said_to_be() -> None:
    matrix = np.random.default_rng(1337).standard_normal((16, 15))
    for domain, task, modifier in ((0, 0, 0), (7, 0, 5), (15, 31, 63), (8, 16, 33)):
        digits = f"{domain:04b}{task:05b}{modifier:06b}"
        signs = [1.0 if digit == "1" else -1.0 for digit in digits]
        expected = [sum(matrix[row, k] * signs[k] for k in range(15)) for row in range(16)]
        length = sum(value * value for value in expected) ** 0.5
        (found,) = dense([(domain, task, modifier)])
        np.testing.assert_allclose(found, np.array(expected) / length, rtol=1e-6)
    # What is stored must not change with the version of a library.
    assert dense([(7, 0, 5)])[0, :3] == pytest.approx([-0.3585709, -0.4171219, -0.11463484])


def test_no_two_codes_have_the_same_dense_form() -> None:
    domains, tasks, modifiers = map(range, SIZES)
    every = dense(list(product(domains, tasks, modifiers)))
    assert every.shape == (16 * 32 * 64, 16)
    assert np.linalg.norm(every, axis=1) == pytest.approx(1.0, abs=1e-6)
    assert len({row.tobytes() for row in every}) == len(every)
    assert dense([]).shape == (0, 16)


def test_codes_as_they_are_written() -> None:
    assert parse_code("x", "7.0.63") == (7, 0, 63)
    for wrong in ("16.0.0", "0.32.0", "0.0.64", "1.2", "1.2.3.4", "-1.0.0", "1.2.x", "", "٣.0.0"):
        with pytest.raises(InputError, match=r"^f:1: the TMD code .* is not D\.T\.M"):
            parse_code("f:1", wrong)
    assert is_complete((0, 0, 0))
    assert not is_complete((0, None, 0))
    assert not is_complete(None)


@pytest.mark.parametrize(
    ("code", "error"),
    [((16, 0, 0), None), ((0, -1, 0), None), ((None, None, None), None), ((1, 2, 3), "late")],
)
def test_tags_that_are_none(code: Any, error: str | None) -> None:
    with pytest.raises(ValueError, match=r"not from 0|is none|is None"):
        Tag(code, error)


# By vectors


class Definitions:
    """An encoder of definitions: each is a direction of its own."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, texts: Sequence[str]) -> Vectors:
        self.calls += 1
        assert texts == [entry.definition for kind in KINDS for entry in vocabulary()[kind]]
        return np.eye(len(texts), 768, dtype=np.float32)


def concept(**weights: dict[int, float]) -> Vectors:
    """`concept(domain={3: .9}, ...)`: a vector with these cosines to the definitions."""
    row = np.zeros(768, dtype=np.float32)
    for kind, start in zip(KINDS, (0, 16, 48), strict=True):
        for place, weight in weights.get(kind, {}).items():
            row[start + place] = weight
    row[767] = np.sqrt(1 - (row**2).sum())
    return row


def test_the_nearest_wins_if_it_is_nearer_by_the_margin() -> None:
    definitions = Definitions()
    tagger = EmbeddingTagger(definitions, margin=0.25)
    known = {"domain": {15: 0.5}, "task": {31: 0.5}, "modifier": {63: 0.5}}
    rows = np.stack(
        [
            concept(**known),
            concept(**{**known, "task": {1: 0.25, 2: 0.5}}),
            concept(**{**known, "task": {1: 0.3, 2: 0.5}}),
            concept(**{**known, "domain": {0: 0.5, 1: 0.5}}),
            concept(domain={5: 0.2}),
            concept(domain={0: -0.5, 4: 0.25}),
        ]
    )
    assert tagger.tag([""] * 6, rows) == [
        Tag((15, 31, 63)),
        Tag((15, 2, 63)),
        Tag((15, None, 63)),
        Tag((None, 31, 63)),
        UNSURE,
        Tag((4, None, None)),
    ]
    assert tagger.tag([], rows[:0]) == []
    assert definitions.calls == 1
    assert tagger.options == {"margin": 0.25, "vocabulary": 1}
    # However small the margin is, of two that are equally near none is the nearest.
    (tag,) = EmbeddingTagger(definitions, margin=0).tag([""], rows[3:4])
    assert tag.code == (None, 31, 63)


def test_what_the_embedding_tagger_cannot_work_with() -> None:
    for margin in (-0.1, 2.1, float("nan")):
        with pytest.raises(UsageError, match="--margin is a difference of cosines"):
            EmbeddingTagger(Definitions(), margin)
    with pytest.raises(CorpusError, match="these concepts have none: ingest them with an encoder"):
        EmbeddingTagger(Definitions()).tag(["a"], None)


# By a model's answer


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"domain": "History", "task": "Fact Retrieval", "modifier": "Temporal"}, (7, 0, 16)),
        ({"domain": "history ", "task": 31, "modifier": "63", "reason": "so"}, (7, 31, 63)),
        ({"domain": None, "task": None, "modifier": "analog sensitive"}, (None, None, 57)),
        ({"domain": None, "task": None, "modifier": None}, None),
    ],
)
def test_answers_that_are_codes(answer: dict[str, Any], code: Any) -> None:
    assert parsed(answer) == Tag(code)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"domain": "Sports"}, "names no domain: {'domain': 'Sports'"),
        ({"domain": ""}, "names no domain"),
        ({"task": 32}, "names no task"),
        ({"task": -1}, "names no task"),
        ({"task": True}, "names no task"),
        ({"task": 1.0}, "names no task"),
        ({"modifier": "64"}, "names no modifier"),
        ({"modifier": "9" * 5000}, "names no modifier"),
        ({"modifier": ["Temporal"]}, "names no modifier"),
        ({"modifier": ...}, "has no modifier"),
    ],
)
def test_answers_that_are_none(change: dict[str, Any], why: str) -> None:
    answer = {"domain": 1, "task": 2, "modifier": 3, **change}
    tag = parsed({name: value for name, value in answer.items() if value is not ...})
    assert tag.code is None
    assert tag.error is not None
    assert why in tag.error
    assert len(tag.error) < 250


def test_the_model_is_told_every_label() -> None:
    for kind in KINDS:
        for place, entry in enumerate(vocabulary()[kind]):
            assert f"{place} {entry.label}" in instructions()
