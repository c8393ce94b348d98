"""Contrastive accuracy: is the truth nearer than distractors that were drawn beforehand?

After the LCM paper (Barrault et al. 2024, 2412.08821, section 2.4.1), where the distractors are the
other concepts of a batch. Batches differ from run to run; here they are drawn once and stored, some
from the truth's own article and some from others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lvmdb.errors import CorpusError
from lvmdb.metrics.ranking import TOLERANCE
from lvmdb.metrics.vectors import Floats, PerQuery, normalise

Indices = npt.NDArray[np.int64]

STRATA = ("same_article", "other_article")


@dataclass(frozen=True)
class Distractors:
    """Distractors of n queries, one after the other.

    Attributes:
        query: `(m,)` which query each belongs to, ascending.
        concept: `(m,)` its index in the pool.
        same_article: `(m,)` bool, whether it is of the truth's article.
    """

    query: Indices
    concept: Indices
    same_article: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.query)


@dataclass(frozen=True)
class Contrast:
    """How many distractors are farther from the prediction than the truth, by query.

    Attributes:
        farther: `(n, 2)` float64 by stratum, ties counted as one half.
        distractors: `(n, 2)` int64 by stratum: of the same article, of others.
    """

    farther: npt.NDArray[np.float64]
    distractors: Indices

    def accuracy(self, *strata: int) -> tuple[PerQuery, PerQuery]:
        """`(n,)` the share of distractors that are farther, and 1 where there were any, else 0."""
        found = self.farther[:, strata].sum(axis=1)
        count = self.distractors[:, strata].sum(axis=1)
        share = np.divide(found, count, out=np.zeros(len(found)), where=count > 0)
        return share, (count > 0).astype(np.float64)


def contrast(
    predictions: Floats, pool: Floats, truth: Indices, distractors: Distractors
) -> Contrast:
    """Compare each prediction's distance to its truth with those to its distractors.

    The order by Euclidean distance from a prediction is the same as the order by cosine, since
    pool vectors are of unit length: |p - v|² = |p|² + 1 - 2 p·v.

    Args:
        predictions: `(n, d)`.
        pool: `(N, d)` unit vectors.
        truth: `(n,)` indices in the pool.
        distractors: of these queries.

    Raises:
        CorpusError: a distractor belongs to no query.
    """
    if len(distractors) and distractors.query.max() >= len(truth):
        raise CorpusError("the stored distractors are of other windows than were predicted")
    queries = normalise(predictions).astype(np.float32)
    own = np.einsum("nd,nd->n", queries, pool[truth])
    farther = np.zeros((len(truth), 2))
    count = np.zeros((len(truth), 2), dtype=np.int64)
    step = 16_384
    for start in range(0, len(distractors), step):
        rows = slice(start, start + step)
        query = distractors.query[rows]
        scores = np.einsum("nd,nd->n", queries[query], pool[distractors.concept[rows]])
        ahead = own[query] - scores
        won = np.where(np.abs(ahead) <= TOLERANCE, 0.5, ahead > 0)
        stratum = 1 - distractors.same_article[rows].astype(np.int64)
        np.add.at(farther, (query, stratum), won)
        np.add.at(count, (query, stratum), 1)
    return Contrast(farther, count)
