"""How close a predicted vector is to the true one: one number per query.

All functions take float arrays `(n, d)`, one query per row (d is 768 in the database), compute in
float64 and return `(n,)` float64. None of them normalises its input unless its formula says so.

A zero vector has no direction: its cosine with every vector, itself included, is 0.

A vector that holds NaN or infinity is refused with `ModelError`: every comparison with NaN is
false, so a diverged model could otherwise pass for a good one. Shapes that differ are refused too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lvmdb.errors import ModelError

Floats = npt.NDArray[np.floating[Any]]
PerQuery = npt.NDArray[np.float64]


def cosine(prediction: Floats, target: Floats) -> PerQuery:
    """cos(p, t) = p·t / (|p| |t|), in [-1, 1]; 0 where p or t is the zero vector."""
    _check(prediction, target)
    return np.clip(row_products(normalise(prediction), normalise(target)), -1.0, 1.0)


def squared_error(prediction: Floats, target: Floats) -> PerQuery:
    """|p - t|² = Σ_d (p_d - t_d)², *summed* over dimensions.

    On unit vectors this is 2 - 2 cos(p, t), so it lies in [0, 4]. Not to be confused with `mse`,
    which is this divided by d.
    """
    _check(prediction, target)
    difference = prediction.astype(np.float64) - target
    return row_products(difference, difference)


def mse(prediction: Floats, target: Floats) -> PerQuery:
    """(1/d) Σ_d (p_d - t_d)², the *mean* over dimensions.

    Two unrelated unit vectors of 768 dimensions are only 2/768 = 0.0026 apart by this measure.
    """
    mean: PerQuery = squared_error(prediction, target) / prediction.shape[1]
    return mean


def l2(prediction: Floats, target: Floats) -> PerQuery:
    """|p - t|, the Euclidean distance: the square root of `squared_error`."""
    distance: PerQuery = np.sqrt(squared_error(prediction, target))
    return distance


def margin(prediction: Floats, target: Floats, last_context: Floats) -> PerQuery:
    """cos(p, t) - cos(p, c), where c is the last vector of the context; in [-2, 2].

    Positive where the prediction is nearer to what follows than to what was just read. Copying the
    last vector gives cos(c, t) - 1, never above 0; a random vector gives about 0.
    """
    return cosine(prediction, target) - cosine(prediction, last_context)


def normalise(vectors: Floats) -> PerQuery:
    """Each row divided by its Euclidean length, `(n, d)` float64; zero rows stay zero.

    Rows are first scaled by their largest magnitude, so that neither very long nor very short
    vectors overflow or vanish when squared.

    Raises:
        ModelError: not two-dimensional, or a row holds NaN or infinity.
    """
    _check(vectors)
    rows = vectors.astype(np.float64)
    largest = np.abs(rows).max(axis=1, initial=0.0, keepdims=True)
    np.divide(rows, largest, out=rows, where=largest > 0)
    lengths = np.sqrt(row_products(rows, rows))[:, None]
    np.divide(rows, lengths, out=rows, where=lengths > 0)
    return rows


def row_products(left: Floats, right: Floats) -> PerQuery:
    """`(n,)` float64, the inner product of each pair of rows."""
    products: PerQuery = np.einsum("nd,nd->n", left, right, dtype=np.float64)
    return products


def _check(*arrays: Floats) -> None:
    """Refuse what is not `(n, d)`, what differs in shape, and what is not finite."""
    shape = arrays[0].shape
    for array in arrays:
        if array.ndim != 2 or array.shape[1] == 0:
            raise ModelError(f"vectors must come as (queries, dimensions), not {array.shape}")
        if array.shape != shape:
            raise ModelError(f"vectors of shapes {shape} and {array.shape} cannot be compared")
        finite = np.isfinite(array).all(axis=1)
        if not finite.all():
            row = int(np.argmin(finite))
            raise ModelError(
                f"vector {row} of {len(array)} holds NaN or infinity: no metric can be computed; "
                "if a model made it, its training diverged: lower the learning rate"
            )
