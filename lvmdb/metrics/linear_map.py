"""A linear map between vectors, fitted by ridge regression from moments alone.

Pairs are summed up as they stream by, so that memory does not grow with them, and the strength is
chosen on validation moments, so that no pair is read twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lvmdb.errors import ModelError

Matrix = npt.NDArray[np.float64]

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
"""Ridge strengths tried, in units of the mean eigenvalue of X'X; validation chooses."""


@dataclass
class Moments:
    """First and second moments of pairs `x -> y`, float64 sums.

    Attributes:
        pairs: their number.
        x, y: `(d,)`.
        xx, xy: `(d, d)`, X'X and X'Y.
    """

    pairs: int
    x: Matrix
    y: Matrix
    xx: Matrix
    xy: Matrix

    def __iadd__(self, other: Moments) -> Moments:
        self.pairs += other.pairs
        for name in ("x", "y", "xx", "xy"):
            np.add(getattr(self, name), getattr(other, name), out=getattr(self, name))
        return self

    def about(self, x: Matrix, y: Matrix) -> tuple[Matrix, Matrix]:
        """X'X and X'Y of `X - x` and `Y - y`."""
        xx = self.xx - np.outer(self.x, x) - np.outer(x, self.x) + self.pairs * np.outer(x, x)
        xy = self.xy - np.outer(self.x, y) - np.outer(x, self.y) + self.pairs * np.outer(x, y)
        return xx, xy


@dataclass(frozen=True)
class LinearMap:
    """`y = mean_y + (x - mean_x) weight`, and the strength of the ridge that was chosen."""

    mean_x: Matrix
    mean_y: Matrix
    weight: Matrix
    strength: float

    def __call__(self, vectors: npt.NDArray[np.floating[Any]]) -> Matrix:
        """Predictions `(n, d)`."""
        return (vectors - self.mean_x) @ self.weight + self.mean_y


def fit(train: Moments, validation: Moments) -> LinearMap:
    """The ridge estimate from `train` whose squared error is least on `validation`.

    W = (Xc'Xc + l I)^-1 Xc'Yc with centred X and Y (Hoerl & Kennard 1970). With X'X = E diag(e) E'
    every strength l is E diag(1/(e + l)) E'Xc'Yc, and its squared error on the validation pairs is
    a constant - 2 tr W'X'Y + tr W'X'X W of their moments: no second pass over vectors is needed.

    Raises:
        ModelError: either has no pairs.
    """
    if not train.pairs or not validation.pairs:
        raise ModelError("a linear map needs training and validation pairs, and there are none")
    mean_x, mean_y = train.x / train.pairs, train.y / train.pairs
    xx, xy = train.about(mean_x, mean_y)
    held_xx, held_xy = validation.about(mean_x, mean_y)
    values, basis = np.linalg.eigh(xx)
    values = np.maximum(values, 0.0)
    turned, held_turned = basis.T @ xy, basis.T @ held_xy
    held_square = basis.T @ held_xx @ basis
    unit = max(float(values.mean()), 1e-12)
    best: tuple[float, float, Matrix] | None = None
    for strength in STRENGTHS:
        weight = turned / (values + strength * unit)[:, None]
        error = float(np.sum(weight * (held_square @ weight - 2 * held_turned)))
        if best is None or error < best[0]:
            best = error, strength, weight
    assert best is not None, "there are strengths"
    return LinearMap(mean_x, mean_y, basis @ best[2], best[1])
