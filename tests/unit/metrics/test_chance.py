"""The level of chance: by hand, and against what random answers really reach."""

from __future__ import annotations

import numpy as np
import pytest

from lvmdb.errors import ModelError
from lvmdb.metrics import chance, vectors
from lvmdb.metrics.vectors import normalise


def test_recall_and_reciprocal_rank_by_hand() -> None:
    candidates = np.array([6, 100, 3], dtype=np.int64)
    # "Recall@5 of 77 %" among six candidates stands beside a chance of 5/6.
    assert chance.recall_chance(candidates, 5) == pytest.approx([5 / 6, 0.05, 1.0])
    # Cut at 2: H_2 = 3/2. Cut at 10 among three: H_3 = 11/6.
    assert chance.reciprocal_rank_chance(candidates, 2) == pytest.approx([1 / 4, 3 / 200, 1 / 2])
    assert chance.reciprocal_rank_chance(candidates, 10)[2] == pytest.approx(11 / 18)


def test_distances_by_hand() -> None:
    pool = np.array([[1, 0], [0, 1]], dtype=np.float32)
    mean = chance.pool_mean(pool)
    assert mean.tolist() == [0.5, 0.5]
    target, last = np.array([[1.0, 0.0]]), np.array([[0.6, 0.8]])
    # cos is 1 or 0; against c it is 0.6 or 0.8; |v - t|² is 0 or 2.
    assert chance.cosine_chance(mean, target) == pytest.approx([0.5])
    assert chance.margin_chance(mean, target, last) == pytest.approx([0.5 - 0.7])
    assert chance.squared_error_chance(mean, target) == pytest.approx([1.0])
    assert chance.mse_chance(mean, target) == pytest.approx([0.5])


def test_closed_forms_equal_the_mean_over_the_pool() -> None:
    rng = np.random.default_rng(0)
    pool = normalise(rng.standard_normal((50, 8)) + 0.5)
    mean = chance.pool_mean(pool)
    target, last = (np.tile(rng.standard_normal((1, 8)), (50, 1)) for _ in range(2))
    one, other = target[:1], last[:1]
    assert chance.cosine_chance(mean, one)[0] == pytest.approx(vectors.cosine(pool, target).mean())
    expected = vectors.margin(pool, target, last).mean()
    assert chance.margin_chance(mean, one, other)[0] == pytest.approx(expected)
    expected = vectors.squared_error(pool, target).mean()
    assert chance.squared_error_chance(mean, one)[0] == pytest.approx(expected)
    assert chance.mse_chance(mean, one)[0] == pytest.approx(vectors.mse(pool, target).mean())


def test_a_pool_must_hold_finite_vectors() -> None:
    with pytest.raises(ModelError, match="pool must be"):
        chance.pool_mean(np.empty((0, 768)))
    with pytest.raises(ModelError, match="NaN"):
        chance.pool_mean(np.array([[np.nan, 1.0]]))
