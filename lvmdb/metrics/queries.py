"""What metrics look at: predictions, truths and contexts of one run, and where the truths stand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lvmdb.errors import ModelError
from lvmdb.metrics import chance
from lvmdb.metrics.contrast import Contrast
from lvmdb.metrics.ranking import Ranks
from lvmdb.metrics.vectors import Floats, PerQuery


@dataclass(frozen=True)
class Queries:
    """All that a metric may look at, for n queries of one run.

    Attributes:
        prediction: `(n, d)` what the model answered, not normalised.
        pool: `(N, d)` all concepts of the dataset, of unit length.
        truth: `(n,)` the true concepts, as indices in the pool.
        context: `(n, k)` the concepts that were read, as indices in the pool, the last one last.
        ranks: the truths' places among the pool.
        article_ranks: the truths' places among the concepts of their articles.
        contrast: how the predictions stand to stored distractors; None where none could be drawn.
        truth_nearest: `(n,)` cosine of each truth to the nearest other concept.
    """

    prediction: Floats
    pool: Floats
    truth: npt.NDArray[np.int64]
    context: npt.NDArray[np.int64]
    ranks: Ranks
    article_ranks: Ranks
    contrast: Contrast | None
    truth_nearest: PerQuery

    def __post_init__(self) -> None:
        count = len(self.truth)
        lengths = {
            *(len(self.prediction), len(self.context), len(self.ranks), len(self.article_ranks)),
            len(self.truth_nearest),
            *(() if self.contrast is None else (len(self.contrast.farther),)),
        }
        if lengths != {count} or self.prediction.shape != (count, self.pool.shape[1]):
            raise ModelError(
                f"queries that do not belong together: {count} truths, "
                f"predictions {self.prediction.shape}, lengths {sorted(lengths)}"
            )

    def __len__(self) -> int:
        return len(self.truth)

    @cached_property
    def target(self) -> Floats:
        """`(n, d)` the true vectors."""
        return self.pool[self.truth]

    @cached_property
    def last_context(self) -> Floats:
        """`(n, d)` the last vector of each context."""
        return self.pool[self.context[:, -1]]

    @cached_property
    def pool_mean(self) -> PerQuery:
        """`(d,)` the mean of the pool."""
        return chance.pool_mean(self.pool)

    @cached_property
    def guesses(self) -> Floats:
        """`(m, d)` concepts of the pool, drawn once, for levels of chance without closed form."""
        return chance.sample(self.pool)
