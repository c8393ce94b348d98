"""What several models predict as one prediction.

mean        the mean of the members' predictions
weighted    their sum with weights that are never negative, those that fit the validation split best
            by least squares (Breiman 1996, "Stacked regressions"; negative weights would bet on the
            difference of members that are nearly alike, and do so on the noise of one split)
vote        each member votes for the concept that is nearest to what it predicts; the prediction is
            the vector of the concept with the most votes, of several that of the highest cosine to
            all members

Predictions are brought to unit length before they are added up: what a member trained on cosine
alone gives has a length that means nothing, and would outvote the others by it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lvmdb.errors import ModelError

METHODS = ("mean", "weighted", "vote")

SUMMARY = "several runs as one: the mean of what they predict, weighted, or their vote"

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def options_of_ensembles() -> list[dict[str, object]]:
    """What an ensemble is made from, a row an option, as architectures show theirs."""
    return [
        {"option": "members", "default": None, "of": "two runs or more of one sequence set"},
        {"option": "method", "default": METHODS[0], "of": " | ".join(METHODS)},
    ]


def units(predictions: Sequence[Tensor]) -> Tensor:
    """What the members predict, each at unit length; a zero vector stays one.

    Args:
        predictions: `(batch, dimensions)` of each member.

    Returns:
        `(members, batch, dimensions)`.

    Raises:
        ModelError: something of them is no number.
    """
    stacked = torch.stack(list(predictions))
    if not bool(torch.isfinite(stacked).all()):
        raise ModelError("a member of the ensemble predicts what is no number")
    return F.normalize(stacked, dim=-1)


def weighted_sum(predictions: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The members' unit predictions, weighted and added up, `(batch, dimensions)`."""
    by = torch.tensor(weights, dtype=torch.float32)
    return torch.einsum("m,mbd->bd", by, units(predictions))


class StackedRegression:
    """Weights by non-negative least squares, from one pass in memory that does not grow.

    min over w >= 0 of sum |sum_m w_m p_m - y|^2, over all windows, with p of unit length. Only the
    triangle R of a QR decomposition of what has come so far is kept: with the next rows below it,
    it has the R of all of them (Golub & Van Loan, 6.5). The squares are never formed, so that
    members which are nearly alike do no harm.

    Args:
        members: how many there are.
    """

    def __init__(self, members: int) -> None:
        self._members = members
        self._triangle: NDArray[np.float64] = np.zeros((0, members + 1))

    def add(self, predictions: Sequence[Tensor], target: Tensor) -> None:
        """Windows: `(batch, dimensions)` of each member, and the truths."""
        rows = torch.cat([units(predictions), target.unsqueeze(0)]).double()
        table = rows.flatten(1).T.numpy()  # (batch * dimensions, members + 1)
        below: NDArray[np.float64] = np.concatenate([self._triangle, table])
        self._triangle = np.linalg.qr(below).R

    def weights(self) -> list[float]:
        """The weights of the members; all are zero where none points the way of the truth."""
        # Every evaluation loads this module; to fit weights takes a module that is slow to load.
        from scipy.optimize import nnls

        found, _ = nnls(self._triangle[:, : self._members], self._triangle[:, self._members])
        return [float(weight) for weight in found]


def vote(
    predictions: Sequence[Tensor], pool: Floats, groups: Ints, excluded: Ints, block: int = 4096
) -> Tensor:
    """The vectors of the concepts that the members elect.

    A member whose prediction is the zero vector has no vote; where none has, zero is elected.

    Args:
        predictions: `(batch, dimensions)` of each member.
        pool: `(concepts, dimensions)` unit vectors.
        groups: `(concepts,)`, equal numbers for equal vectors: a vote for one is one for all.
        excluded: `(batch, k)` rows of the pool that nobody may vote for.
        block: concepts compared at a time.

    Returns:
        `(batch, dimensions)`.
    """
    asked: Floats = units(predictions).numpy()  # (members, batch, dimensions)
    able: NDArray[np.bool_] = np.any(asked != 0, axis=-1)  # (members, batch)
    chosen = np.stack([_nearest(each, pool, excluded, block) for each in asked])
    group = groups[chosen]  # (members, batch)
    votes = ((group[:, None] == group[None]) & able[None]).sum(axis=1)
    total = np.einsum("jbd,ibd->ib", asked, pool[chosen], dtype=np.float64)
    # The last of the order wins: by votes, then by cosine, then the first of the pool.
    winner = np.lexsort((-group, total, np.where(able, votes, -1)), axis=0)[-1]
    places = np.arange(len(winner))
    elected = pool[chosen[winner, places]] * able.max(axis=0)[:, None]
    return torch.from_numpy(elected.astype(np.float32))


def _nearest(queries: Floats, pool: Floats, excluded: Ints, block: int) -> Ints:
    """The row of the pool that is nearest to each query, `(batch,)`; of equals the first."""
    batch = np.arange(len(queries))
    best = np.full(len(queries), -np.inf, dtype=np.float32)
    where = np.zeros(len(queries), dtype=np.int64)
    for start in range(0, len(pool), block):
        scores = queries @ pool[start : start + block].T
        row, lag = np.nonzero((excluded >= start) & (excluded < start + scores.shape[1]))
        scores[row, excluded[row, lag] - start] = -np.inf
        found = scores.argmax(axis=1)
        better = scores[batch, found] > best
        best[better] = scores[batch, found][better]
        where[better] = found[better] + start
    return where
