"""A linear map between vectors, fitted by ridge regression from moments alone.

Pairs are summed up as they stream by, so that memory does not grow with them, and the strength is
chosen on validation moments, so that no pair is read twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lvmdb.errors import ModelError

Matrix = npt.NDArray[np.float64]

STRENGTHS = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
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


def fit(pairs: Sequence[tuple[Moments, Moments]]) -> list[LinearMap]:
    """Ridge estimates from train moments, all of one strength.

    W = (Xc'Xc + l I)^-1 Xc'Yc, X and Y centred (Hoerl & Kennard 1970). With Xc'Xc = E diag(e) E'
    every strength l is E diag(1/(e + l)) E'Xc'Yc, and its squared error on validation pairs is a
    constant - 2 tr W'X'Y + tr W'X'X W of their moments: no second pass over vectors is needed. The
    strength is the one whose squared error, summed over all maps, is least: maps that are compared
    must not differ for their strengths, which a few validation articles would choose apart.

    Args:
        pairs: train and validation moments of each map.

    Raises:
        ModelError: some have no pairs.
    """
    if not all(train.pairs and held.pairs for train, held in pairs):
        raise ModelError("a linear map needs training and validation pairs, and there are none")
    paths = [_Path(train, held) for train, held in pairs]
    errors = np.sum([path.errors for path in paths], axis=0)
    best = int(np.argmin(errors))
    return [path.at(STRENGTHS[best]) for path in paths]


class _Path:
    """The ridge estimates of one map by strength."""

    def __init__(self, train: Moments, held: Moments) -> None:
        self._mean_x, self._mean_y = train.x / train.pairs, train.y / train.pairs
        xx, xy = train.about(self._mean_x, self._mean_y)
        values, self._basis = np.linalg.eigh(xx)
        self._values = np.maximum(values, 0.0)
        self._unit = max(float(self._values.mean()), 1e-12)
        self._turned = self._basis.T @ xy
        held_xx, held_xy = held.about(self._mean_x, self._mean_y)
        held_xy = self._basis.T @ held_xy
        held_xx = self._basis.T @ held_xx @ self._basis
        self.errors = [
            float(np.sum(w * (held_xx @ w - 2 * held_xy)))
            for w in (self._weight(strength) for strength in STRENGTHS)
        ]

    def at(self, strength: float) -> LinearMap:
        weight = self._basis @ self._weight(strength)
        return LinearMap(self._mean_x, self._mean_y, weight, strength)

    def _weight(self, strength: float) -> Matrix:
        """In the basis of eigenvectors."""
        weight: Matrix = self._turned / (self._values + strength * self._unit)[:, None]
        return weight
