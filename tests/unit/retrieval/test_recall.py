"""Recall against exact search, by hand; and the order in which queries are asked."""

from __future__ import annotations

import numpy as np
import pytest

from lvmdb.retrieval.engine import ID, Ids, Vectors
from lvmdb.retrieval.order import alike_first
from lvmdb.retrieval.recall import Spread, Truth, agreeing


def named(*names: str) -> Ids:
    return np.array([name.ljust(16).encode() for name in names]).view(ID)


def plane(*angles: float) -> Vectors:
    return np.array([[np.cos(a), np.sin(a)] for a in angles], dtype=np.float32)


IDS = named("a", "b", "b again", "c", "d")
CORPUS = plane(0.0, 0.1, 0.1, 0.5, 2.0)
NOTHING = np.zeros(1, dtype=ID)


def found(*names: str) -> Ids:
    return np.concatenate([named(name) if name else NOTHING for name in names])[None]


def recall(k: int, *names: str) -> float:
    truth = Truth(CORPUS, IDS, plane(0.0))
    return float(truth.recall(truth.scores(found(*names)), k)[0])


def test_recall_is_the_share_of_the_k_best_that_was_found() -> None:
    assert recall(1, "a", "b", "c") == 1
    assert recall(1, "b", "a", "c") == 0
    assert recall(2, "b", "a", "c") == 1
    assert recall(3, "a", "c", "d") == pytest.approx(1 / 3)
    # Of two with one vector, any will do; one alone twice will not.
    assert recall(2, "a", "b again") == recall(2, "a", "b") == 1
    assert recall(3, "a", "b", "b") == pytest.approx(2 / 3)
    # Nothing is nothing, wherever it stands.
    assert recall(2, "a", "") == recall(2, "", "a") == 0.5
    # More than there are cannot be missed.
    assert recall(50, "a", "b", "b again", "c", "d") == 1


def test_an_id_of_another_corpus_is_an_error() -> None:
    truth = Truth(CORPUS, IDS, plane(0.0))
    with pytest.raises(KeyError):
        truth.scores(found("x"))


def test_cosine_and_inner_product_have_truths_of_their_own() -> None:
    corpus = CORPUS * np.array([1, 3, 1, 1, 1], dtype=np.float32)[:, None]
    best = found("b")
    for measure, expected in (("ip", 1.0), ("cosine", 0.0)):
        truth = Truth(corpus, IDS, plane(0.0), measure)
        assert truth.recall(truth.scores(best), 1)[0] == expected


def test_the_best_scores_are_those_of_all_blocks() -> None:
    generator = np.random.default_rng(0)
    corpus = generator.standard_normal((20_000, 4)).astype(np.float32)
    queries = generator.standard_normal((3, 4)).astype(np.float32)
    truth = Truth(corpus, np.arange(40_000).view(ID), queries)
    expected = -np.sort(-(queries @ corpus.T), axis=1)[:, :50]
    np.testing.assert_allclose(truth.best, expected, rtol=1e-6)


def test_spread_is_mean_fifth_percentile_and_minimum() -> None:
    assert Spread.of(np.array([0.0, *[1.0] * 39])) == Spread(39 / 40, 1.0, 0.0)


def test_searches_agree_where_what_they_found_is_as_good() -> None:
    truth = Truth(CORPUS, IDS, np.repeat(plane(0.0), 2, axis=0))
    one = truth.scores(np.concatenate([found("a", "b"), found("a", "c")]))
    other = truth.scores(np.concatenate([found("b again", "a"), found("a", "b")]))
    assert agreeing(one, other) == 0.5
    assert agreeing(one, one) == 1
    nothing = truth.scores(np.concatenate([found("a", ""), found("a", "c")]))
    assert agreeing(nothing, nothing) == 1
    assert agreeing(nothing, one) == 0.5


def test_like_queries_follow_each_other() -> None:
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((4, 768)).astype(np.float32)
    cluster = generator.permutation(np.repeat(np.arange(4), 300))
    queries = centres[cluster] + 0.1 * generator.standard_normal((1200, 768)).astype(np.float32)
    order = alike_first(queries)
    assert sorted(order) == list(range(1200))
    changes = np.count_nonzero(np.diff(cluster[order]))
    assert changes <= 7  # three in each of the two blocks, and one between them
    assert len(alike_first(queries[:0])) == 0
