"""BLEU and ROUGE-L against what their papers say, written out; the text measures by hand."""

from __future__ import annotations

import math
import random
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

from lvmdb.errors import MissingDependencyError, ModelError
from lvmdb.evaluation.text_scores import text_scores
from lvmdb.metrics.text_definitions import TEXT_METRICS
from lvmdb.metrics.text_queries import NONE, Smoothing, TextQueries
from lvmdb.metrics.texts import bleu, corpus_bleu, corpus_bleu_interval, require_packages, rouge_l


def drawn(count: int, most: int = 12) -> list[str]:
    generator = random.Random(3)
    return [
        " ".join(generator.choices(["a", "b", "c", "d", "e", "f"], k=generator.randint(1, most)))
        for _ in range(count)
    ]


def longest_common(left: list[str], right: list[str]) -> int:
    table = np.zeros((len(left) + 1, len(right) + 1), dtype=int)
    for i, one in enumerate(left):
        for j, other in enumerate(right):
            grown = table[i, j] + 1
            table[i + 1, j + 1] = grown if one == other else max(table[i, j + 1], table[i + 1, j])
    return int(table[-1, -1])


def test_rouge_l_is_that_of_the_longest_common_subsequence() -> None:
    texts, references = drawn(60), drawn(120)[60:]
    found = rouge_l(texts, references)
    for value, text, reference in zip(found, texts, references, strict=True):
        said, wanted = text.split(), reference.split()
        length = longest_common(said, wanted)
        precision, recall = length / len(said), length / len(wanted)
        expected = 2 * precision * recall / (precision + recall) if length else 0.0
        assert value == pytest.approx(expected)


# Values that rouge-score 0.1.2 gives.
@pytest.mark.parametrize(
    ("text", "reference", "value"),
    [
        ("the cat sat on the mat", "the cat was on the mat", 0.8333333333333334),
        ("Police killed the gunman.", "the gunman killed police!", 0.5),
        ("A4 paper is 21.0 cm wide", "A4 paper is 21 cm wide, 29.7 cm tall", 0.7058823529411764),
        ("nothing alike", "here we are", 0.0),
        ("Not_one word", "not one word", 1.0),
        ("", "a", 0.0),
    ],
)
def test_rouge_l_as_others_compute_it(text: str, reference: str, value: float) -> None:
    assert rouge_l([text], [reference])[0] == pytest.approx(value)


def transcribed_bleu(texts: list[str], references: list[str]) -> float:
    """BLEU of a corpus as Papineni et al. write it, with orders without a match smoothed as
    NIST's mteval does: 1 / 2^k of the count, k counting such orders."""
    said = [text.split() for text in texts]
    wanted = [text.split() for text in references]
    logarithms, smooth = [], 1.0
    for n in range(1, 5):
        matches = total = 0
        for one, other in zip(said, wanted, strict=True):
            grams, there = (
                Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
                for words in (one, other)
            )
            matches += sum((grams & there).values())
            total += sum(grams.values())
        if not matches:
            smooth *= 2
            logarithms.append(math.log(1 / (smooth * total)))
        else:
            logarithms.append(math.log(matches / total))
    length, reference = sum(map(len, said)), sum(map(len, wanted))
    brevity = min(1.0, math.exp(1 - reference / length))
    return brevity * math.exp(sum(logarithms) / 4)


def test_bleu_is_that_of_the_paper() -> None:
    texts, references = drawn(40), drawn(80)[40:]
    values, counts = bleu(texts, references)
    assert corpus_bleu(counts) == pytest.approx(transcribed_bleu(texts, references))
    assert corpus_bleu(counts.sum(axis=0, keepdims=True)) == corpus_bleu(counts)
    for row, (text, reference) in enumerate(zip(texts, references, strict=True)):
        # With fewer words than orders only as many orders count.
        if len(text.split()) >= 4 and set(text.split()) & set(reference.split()):
            assert values[row] == pytest.approx(transcribed_bleu([text], [reference]))
    assert bleu(["a b c d"], ["a b c d"])[0][0] == pytest.approx(1.0)
    assert bleu(["", "x"], ["a b", ""])[0].tolist() == [0.0, 0.0]


def test_the_interval_of_corpus_bleu_holds_its_value() -> None:
    counts = bleu(drawn(60), drawn(120)[60:])[1]
    low, high = corpus_bleu_interval(counts.reshape(12, 5, -1).sum(axis=1)) or (1, 0)
    assert low < corpus_bleu(counts) < high
    assert corpus_bleu_interval(counts[:7]) is None


def queries(**more: Any) -> TextQueries:
    """Three texts: the truth's, one of its article, one that was written."""
    unit = np.eye(4, dtype=np.float32)
    given: dict[str, Any] = {
        "texts": ["a b c d", "a b x y", "written"],
        "truths": ["a b c d", "a b c d", "a b c d"],
        "vectors": unit[[0, 1, 2]],
        "target": unit[[0, 0, 0]],
        "found": np.array([0, 1, NONE]),
        "known": np.array([1.0, 1.0, 0.0]),
        "truth": np.array([0, 0, 0]),
        "article": np.array([0, 0, 1, 1]),
        "candidates": np.array([2, 2, 4]),
        "article_candidates": np.array([1, 1, 2]),
        "guess_texts": ["a b c d", "no", "no"],
        "guesses": unit,
        "pool_mean": unit.mean(axis=0, dtype=np.float64),
    }
    return TextQueries(**{**given, **more})


def test_measures_by_hand() -> None:
    articles = np.array([5, 5, 6])
    times = {"decoded": {"search": np.array([0.001, 0.002, 0.003])}}
    found = text_scores({"decoded": queries()}, {"decoded": articles}, times)
    value = {key.removeprefix("decoded/"): score.value for key, score in found.items()}
    chance = {key.removeprefix("decoded/"): score.chance for key, score in found.items()}
    # What was written is no concept: the two others are asked.
    assert (value["accuracy"], chance["accuracy"]) == (0.5, 0.5)
    assert (value["same_article"], chance["same_article"]) == (1.0, 0.5)
    assert value["exact_text"] == pytest.approx(1 / 3)
    assert chance["exact_text"] == pytest.approx(1.25 / 3)
    assert value["rouge_l"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert chance["rouge_l"] == pytest.approx(1 / 3)
    assert value["cosine"] == pytest.approx(1 / 3)
    assert chance["cosine"] == pytest.approx(0.25)
    assert value["l2_r"] == pytest.approx(2 * math.sqrt(2) / 3)
    assert chance["l2_r"] == pytest.approx(0.75 * math.sqrt(2))
    assert value["ms_search_p50"] == pytest.approx(2.0)
    assert found["decoded/ms_search_p95"].value == pytest.approx(2.9)
    assert found["decoded/accuracy"].queries == 2
    assert found["decoded/accuracy"].totals.tolist() == [1.0, 0.0]
    assert list(found) == [key for key in TEXT_METRICS if key in found]


def test_of_rewritten_texts_those_count_that_were_rewritten() -> None:
    unit = np.eye(4, dtype=np.float32)
    smoothing = Smoothing(
        sources=["in 1871", "kept", "a place"],
        contexts=[["Oslo"], [], []],
        vectors=unit[[0, 1, 1]],
        rewritten=np.array([True, False, True]),
    )
    asked = queries(
        texts=["so in Oslo in 1871", "kept", "a place in Rome"],
        known=np.zeros(3),
        found=np.full(3, NONE),
        smoothing=smoothing,
        guess_texts=["see Paris and Oslo", "see Rome", "nothing"],
    )
    found = text_scores({"smoothed": asked}, {"smoothed": np.array([5, 5, 6])}, {})
    value = {key.removeprefix("smoothed/"): score.value for key, score in found.items()}
    assert value["rewritten"] == pytest.approx(2 / 3)
    assert value["cosine_unsmoothed"] == pytest.approx(1 / 2)
    assert value["cosine"] == pytest.approx(1 / 2)
    # Oslo is of the context; Rome is new.
    assert value["added_facts"] == pytest.approx(1 / 3)
    assert found["smoothed/added_facts"].chance == pytest.approx(1 / 2)
    assert "accuracy" not in value
    assert found["smoothed/bleu_corpus"].queries == 2


def test_texts_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ModelError, match="do not belong together"):
        queries(truths=["a"])
    with pytest.raises(ModelError, match="nothing was rewritten"):
        _ = queries().source_vectors


def test_what_measures_texts_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidfuzz.distance", None)
    with pytest.raises(MissingDependencyError, match=r"lvmdb\[text\]"):
        require_packages()
