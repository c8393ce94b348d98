"""How far a number can be trusted: bootstrap intervals over articles.

Windows of one article share concepts and a subject, so they are not independent draws; articles
are. An interval therefore comes from drawing whole articles with replacement (the cluster
bootstrap: Davison & Hinkley 1997, Bootstrap methods and their application, 3.8). A statistic is a
ratio of sums over articles, sum(total) / sum(weight), and all differences are paired: both sides
see the same draws.

Percentile intervals of few articles are too narrow. They are widened as Hesterberg does (2015,
"What teachers should know about the bootstrap", The American Statistician 69(4), expanded
percentile interval): instead of alpha/2 the quantile Phi(-sqrt(n / (n - 1)) t) is taken, t that of
Student's distribution with n - 1 degrees of freedom at alpha/2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from lvmdb.errors import ModelError

Totals = npt.NDArray[np.float64]
Interval = tuple[float, float]
_Rows = npt.NDArray[np.intp]
Verdict = Literal["better", "not distinguishable", "worse", "too few articles"]

LEVEL = 0.95
"""The intervals' coverage."""

RESAMPLES = 2_000

MIN_ARTICLES = 8
"""With fewer no interval is given: of 95 % intervals over five articles one in eleven misses."""

_SEED = 20_150_401
"""The draws are the same for every run, so that two reports of one number agree."""

_BLOCK = 4_000_000
"""Counts held at a time, 8 bytes each."""


def interval(totals: Totals, weights: Totals) -> Interval | None:
    """The 95 % interval of sum(totals) / sum(weights), both `(articles,)`.

    Returns:
        The ends, or None with fewer than `MIN_ARTICLES` articles.

    Raises:
        ModelError: the arrays do not belong together, or hold NaN or infinity.
    """
    return intervals(totals[:, None], weights[:, None])[0]


def intervals(totals: Totals, weights: Totals) -> list[Interval | None]:
    """As `interval`, for each column of `(articles, statistics)`."""
    _check(totals, weights)
    return _by_contribution(
        weights > 0, lambda rows, columns: _resampled(totals[rows, columns], weights[rows, columns])
    )


def interval_of(sums: Totals, statistic: Callable[[Totals], Totals]) -> Interval | None:
    """The 95 % interval of a statistic that is no ratio of two sums.

    Args:
        sums: `(articles, parts)` what it is computed from, by article.
        statistic: from drawn sums `(draws, parts)` to values `(draws,)`.
    """
    _check(sums)
    articles = len(sums)
    if articles < MIN_ARTICLES:
        return None
    random = np.random.default_rng(_SEED)
    drawn = random.multinomial(articles, np.full(articles, 1 / articles), size=RESAMPLES) @ sums
    return _ends(statistic(drawn)[:, None], articles)[0]


def difference_interval(
    totals: Totals, weights: Totals, other_totals: Totals, other_weights: Totals
) -> Interval | None:
    """The 95 % interval of the first statistic less the second; all `(articles,)`, paired.

    Raises:
        ModelError: the arrays do not belong together, or hold NaN or infinity.
    """
    return difference_intervals(
        totals[:, None], weights[:, None], other_totals[:, None], other_weights[:, None]
    )[0]


def difference_intervals(
    totals: Totals, weights: Totals, other_totals: Totals, other_weights: Totals
) -> list[Interval | None]:
    """As `difference_interval`, for each column of `(articles, statistics)`."""
    _check(totals, weights, other_totals, other_weights)

    def resampled(rows: _Rows, columns: _Rows) -> Totals:
        both = _resampled(
            np.hstack([totals[rows, columns], other_totals[rows, columns]]),
            np.hstack([weights[rows, columns], other_weights[rows, columns]]),
        )
        count = both.shape[1] // 2
        difference: Totals = both[:, :count] - both[:, count:]
        return difference

    return _by_contribution((weights > 0) & (other_weights > 0), resampled)


def verdict(ends: Interval | None, direction: int) -> Verdict:
    """What the interval of a difference says.

    Args:
        ends: of the difference to a reference, None if there were too few articles.
        direction: 1 where higher is better, -1 where lower is.
    """
    if ends is None:
        return "too few articles"
    low, high = ends if direction > 0 else (-ends[1], -ends[0])
    if low > 0:
        return "better"
    return "worse" if high < 0 else "not distinguishable"


def tail(articles: int) -> float:
    """The quantile at which the expanded percentile interval ends, below (1 - LEVEL) / 2."""
    # As slow to load as it is quick: training imports this module and has no use for it.
    from scipy.special import stdtrit

    t = -float(stdtrit(articles - 1, (1 - LEVEL) / 2))
    return NormalDist().cdf(-math.sqrt(articles / (articles - 1)) * t)


def _by_contribution(
    contributes: npt.NDArray[np.bool_], resampled: Callable[[_Rows, _Rows], Totals]
) -> list[Interval | None]:
    """The intervals of all columns of `(articles, statistics)`, drawn from the articles that have
    a weight in each: others would make few articles look like many."""
    ends: list[Interval | None] = [None] * contributes.shape[1]
    patterns, of = np.unique(contributes, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        rows, columns = np.flatnonzero(pattern), np.flatnonzero(of == number)
        if len(rows) >= MIN_ARTICLES:
            found = _ends(resampled(*np.ix_(rows, columns)), len(rows))
            for column, each in zip(columns, found, strict=True):
                ends[column] = each
    return ends


def _resampled(totals: Totals, weights: Totals) -> Totals:
    """The statistics `(RESAMPLES, statistics)`, each of articles drawn with replacement."""
    articles = len(totals)
    random = np.random.default_rng(_SEED)
    share = np.full(articles, 1 / articles)
    drawn = np.empty((RESAMPLES, totals.shape[1]))
    step = max(1, _BLOCK // articles)
    for start in range(0, RESAMPLES, step):
        rows = slice(start, min(start + step, RESAMPLES))
        counts = random.multinomial(articles, share, size=rows.stop - rows.start).astype(float)
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn[rows] = (counts @ totals) / (counts @ weights)
    return drawn


def _ends(drawn: Totals, articles: int) -> list[Interval | None]:
    low = tail(articles)
    ends = np.nanquantile(drawn, [low, 1 - low], axis=0)
    return [(float(below), float(above)) for below, above in ends.T]


def _check(totals: Totals, *others: Totals) -> None:
    for array in (totals, *others):
        if array.ndim != 2 or array.shape != totals.shape or not len(array):
            raise ModelError(
                f"statistics by article do not belong together: {totals.shape} and {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ModelError("a metric's sums by article hold NaN or infinity")
