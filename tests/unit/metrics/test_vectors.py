"""Per-query distances, on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lvmdb.errors import ModelError
from lvmdb.metrics import vectors
from lvmdb.metrics.vectors import Floats


def rows(*values: tuple[float, ...]) -> Floats:
    return np.array(values, dtype=np.float32)


def test_cosine_by_hand() -> None:
    prediction = rows((3, 4), (1, 0), (0, 2), (-1, -1))
    target = rows((4, 3), (0, 1), (0, 5), (1, 1))
    # (12 + 12) / (5 * 5) = 24/25; orthogonal; same direction; opposite direction.
    assert vectors.cosine(prediction, target) == pytest.approx([0.96, 0.0, 1.0, -1.0])


def test_cosine_of_a_zero_vector_is_zero_even_with_itself() -> None:
    zero = rows((0, 0), (0, 0))
    assert vectors.cosine(zero, rows((1, 0), (0, 0))).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_cosine_does_not_depend_on_length(scale: float) -> None:
    prediction = np.array([[3.0, 4.0]]) * scale
    assert vectors.cosine(prediction, np.array([[4.0, 3.0]])) == pytest.approx([0.96])


def test_squared_error_is_the_sum_and_mse_the_mean() -> None:
    prediction = rows((1, 2, 3, 4), (1, 0, 0, 0))
    target = rows((1, 0, 0, 0), (0, 1, 0, 0))
    # 0 + 4 + 9 + 16 = 29, over 4 dimensions 7.25; 1 + 1 = 2, over 4 dimensions 0.5.
    assert vectors.squared_error(prediction, target).tolist() == [29.0, 2.0]
    assert vectors.mse(prediction, target).tolist() == [7.25, 0.5]
    assert vectors.l2(prediction, target) == pytest.approx([29**0.5, 2**0.5])


def test_squared_error_of_unit_vectors_is_two_minus_two_cosines() -> None:
    rng = np.random.default_rng(0)
    left, right = (vectors.normalise(rng.standard_normal((20, 768))) for _ in range(2))
    expected = 2 - 2 * vectors.cosine(left, right)
    assert vectors.squared_error(left, right) == pytest.approx(expected)
    # Unrelated directions: 2 in sum, and only 2/768 = 0.0026 in the mean.
    assert vectors.mse(left, right).mean() == pytest.approx(2 / 768, rel=0.05)


def test_squared_error_uses_the_vector_as_it_is() -> None:
    assert vectors.squared_error(rows((2, 0)), rows((1, 0))).tolist() == [1.0]
    assert vectors.squared_error(rows((0, 0)), rows((1, 0))).tolist() == [1.0]


def test_margin_by_hand() -> None:
    target, last = rows((0, 1)), rows((0.6, 0.8))
    # The right answer: 1 - 0.8. Copying the last vector: 0.8 - 1. Zero: 0 - 0.
    assert vectors.margin(target, target, last) == pytest.approx([0.2])
    assert vectors.margin(last, target, last) == pytest.approx([-0.2])
    assert vectors.margin(rows((0, 0)), target, last).tolist() == [0.0]


def test_normalise_keeps_zero_rows() -> None:
    assert vectors.normalise(rows((0, 0), (0, -3))).tolist() == [[0, 0], [0, -1]]


def test_no_queries_give_no_values() -> None:
    empty = np.empty((0, 768), dtype=np.float32)
    assert vectors.cosine(empty, empty).shape == (0,)
    assert vectors.mse(empty, empty).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("function", [vectors.cosine, vectors.squared_error, vectors.mse])
def test_what_is_not_finite_is_refused(bad: float, function: object) -> None:
    assert callable(function)
    with pytest.raises(ModelError, match=r"vector 1 of 2 holds NaN or infinity"):
        function(rows((1, 0), (bad, 0)), rows((1, 0), (1, 0)))
    with pytest.raises(ModelError, match="NaN or infinity"):
        function(rows((1, 0)), rows((bad, 0)))


def test_shapes_must_agree() -> None:
    with pytest.raises(ModelError, match=r"\(1, 2\) and \(1, 3\)"):
        vectors.mse(rows((1, 0)), rows((1, 0, 0)))
    with pytest.raises(ModelError, match=r"\(queries, dimensions\)"):
        vectors.cosine(rows((1, 0))[0], rows((1, 0))[0])
