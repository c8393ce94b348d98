"""Generation with a model and a decoder of the test's own: what is read, and why it ends."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from lvmdb.corpus.articles import Vectors
from lvmdb.decoding.decoded import Decoded, band
from lvmdb.decoding.generation import (
    GeneratedStep,
    GenerationOptions,
    generate,
    percentiles,
    written,
)
from lvmdb.errors import UsageError
from lvmdb.retrieval.found import Hit


def at(*places: int, length: float = 1.0) -> Vectors:
    """The unit vectors along these axes, `(n, 768)`, times a length."""
    return np.eye(768, dtype=np.float32)[list(places)] * np.float32(length)


class Model:
    """Predicts the given vectors in turn, and keeps what it was asked."""

    def __init__(self, *says: Vectors) -> None:
        self.says, self.asked = list(says), list[Vectors]()

    def __call__(self, contexts: Sequence[Vectors]) -> Vectors:
        assert len(contexts) == 1
        self.asked.append(contexts[0].copy())
        return self.says[len(self.asked) - 1][None]


class Finder:
    """Finds, for a vector along an axis, the concept of that number; at a cosine of .8."""

    def __init__(self, texts: Callable[[int], str] = "text {}".format) -> None:
        self.texts, self.without = texts, list[list[uuid.UUID]]()

    def decode(self, vectors: Vectors, *, without: Any = None) -> list[Decoded]:
        ((vector,), (left_out,)) = vectors, without
        self.without.append(list(left_out))
        number = int(vector.argmax())
        if uuid.UUID(int=number) in left_out:
            return [Decoded("", "nearest", float("nan"), "unsure", (), {"search": 1.0})]
        hit = Hit(uuid.UUID(int=number), "T", 1, number, self.texts(number), 0.8)
        seconds = {"search": float(number), "decode": 0.5}
        return [Decoded(hit.concept_text, "nearest", 0.8, band(0.8), (hit,), seconds)]


def rolled(model: Model, finder: Finder, **given: Any) -> tuple[list[GeneratedStep], str]:
    options = {
        name: given.pop(name)
        for name in ("steps", "loop", "novel", "end_cosine", "repeated", "least_cosine")
        if name in given
    }
    options.setdefault("loop", "none")
    generation = generate(model, finder, at(700, 701), GenerationOptions(**options), **given)
    steps = list(generation)
    assert generation.stopped is not None
    return steps, generation.stopped.reason


def test_it_goes_on_from_what_it_said() -> None:
    model, finder = Model(*at(1, 2, 3, length=2.0)), Finder()
    steps, reason = rolled(model, finder, steps=3, without=[uuid.UUID(int=9)])
    assert reason == "length"
    assert [step.decoded.text for step in steps] == ["text 1", "text 2", "text 3"]
    assert [step.number for step in steps] == [1, 2, 3]
    # Read is the prediction, at unit length; found is none of those before.
    assert np.array_equal(model.asked[2], at(700, 701, 1, 2))
    assert [[each.int for each in found] for found in finder.without] == [[9], [9, 1], [9, 1, 2]]
    assert np.array_equal(steps[0].vector, at(1)[0])
    assert steps[0].end_cosine is None
    assert set(steps[0].seconds) == {"vectors", "search", "decode", "feed"}
    assert percentiles(steps)["search"] == {"p50": 2.0, "p95": pytest.approx(2.9)}


def test_what_is_read_is_chosen() -> None:
    model = Model(*at(1, 2))
    rolled(model, Finder(), steps=2, loop="index", feed=lambda found: at(found.hits[0].seq + 10)[0])
    assert np.array_equal(model.asked[1], at(700, 701, 11))
    with pytest.raises(UsageError, match="loop 'index' needs what gives the vectors"):
        rolled(model, Finder(), loop="index")
    text = Decoded("said", "vec2text", 0.9, "likely", (), {}, vector=at(5)[0])
    assert np.array_equal(written(text), at(5)[0])
    with pytest.raises(UsageError, match="texts that vec2text has written"):
        written(Decoded("found", "nearest", 0.9, "likely", (), {}))


def test_codes_stand_behind_what_is_read() -> None:
    model = Model(*at(1, 2, 3))
    context = np.ones((1, 784), dtype=np.float32)
    coded = np.full(784, 0.5, dtype=np.float32)
    options = GenerationOptions(steps=3, loop="index")
    list(generate(model, Finder(), context, options, feed=lambda _: coded))
    assert np.array_equal(model.asked[2], np.stack([context[0], coded, coded]))
    # What has no code of its own has none.
    model = Model(*at(1, 2))
    list(generate(model, Finder(), context, GenerationOptions(steps=2, loop="none")))
    assert np.array_equal(model.asked[1][1], np.r_[at(1)[0], np.zeros(16)])


NEAR = (at(1)[0] * np.float32(0.99) + at(2)[0] * np.float32(0.14)).astype(np.float32)


@pytest.mark.parametrize(
    ("says", "given", "generated", "reason"),
    [
        ([*at(1, 2)], {"end": at(2)[0] * 3}, 1, "end"),
        ([*at(1, 2)], {"end": at(2)[0], "end_cosine": None, "steps": 2}, 2, "length"),
        ([at(1)[0], NEAR], {}, 1, "repetition"),
        ([at(1)[0], NEAR], {"repeated": None, "novel": False, "steps": 2}, 2, "length"),
        ([*at(1, 2)], {"texts": lambda _: "Same  words"}, 1, "repetition"),
        ([*at(1)], {"least_cosine": 0.81}, 0, "confidence"),
        ([*at(1)], {"least_cosine": 0.79, "steps": 1}, 1, "length"),
        ([*at(1, length=0.0)], {}, 0, "nothing"),
        ([np.full(768, np.nan, np.float32)], {}, 0, "nothing"),
        ([*at(1)], {"without": [uuid.UUID(int=1)]}, 0, "nothing"),
        ([at(1)[0], NEAR], {"repeated": None}, 1, "nothing"),
    ],
)
def test_it_ends_for_a_reason(
    says: list[Vectors], given: dict[str, Any], generated: int, reason: str
) -> None:
    texts = given.get("texts", "text {}".format)
    rest = {name: value for name, value in given.items() if name != "texts"}
    steps, why = rolled(Model(*says), Finder(texts), **rest)
    assert (len(steps), why) == (generated, reason)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"steps": 0}, "--steps is from 1 to 1000, not 0"),
        ({"loop": "text"}, "--loop is one of none, index, vec2text, not 'text'"),
        ({"end_cosine": 1.5}, "--end-cosine is a cosine, from -1 to 1, not 1.5"),
        ({"repeated": -2.0}, "--repeated is a cosine"),
        ({"least_cosine": 2.0}, "--least-cosine is a cosine"),
    ],
)
def test_options_are_checked(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        GenerationOptions(**given)
