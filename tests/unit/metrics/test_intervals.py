"""Intervals over articles: they hold what they promise, and say when they cannot."""

from __future__ import annotations

import numpy as np
import pytest

from lvmdb.errors import ModelError
from lvmdb.metrics.intervals import (
    MIN_ARTICLES,
    difference_interval,
    difference_intervals,
    interval,
    intervals,
    tail,
    verdict,
)


def sums(
    random: np.random.Generator, articles: int, spread: float = 1.0
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], ...]:
    """Totals and sizes of articles of 3 to 60 windows; each article has an effect of its own."""
    sizes = random.integers(3, 60, articles)
    effects = random.normal(0, spread, articles)
    totals = [
        random.normal(effect, 1, size).sum() for effect, size in zip(effects, sizes, strict=True)
    ]
    return np.array(totals), sizes.astype(np.float64)


@pytest.mark.parametrize("articles", [8, 40])
def test_ninety_five_of_a_hundred_intervals_hold_the_truth(articles: int) -> None:
    random = np.random.default_rng(3)
    held = 0
    for _ in range(150):
        low, high = interval(*sums(random, articles)) or (np.nan, np.nan)
        held += low <= 0 <= high
    assert 0.90 <= held / 150 <= 0.985


def test_windows_are_not_taken_for_independent() -> None:
    """Where articles differ, an interval over windows would be several times too narrow."""
    totals, sizes = sums(np.random.default_rng(0), 30)
    low, high = interval(totals, sizes) or (np.nan, np.nan)
    as_if_independent = 2 * 1.96 * np.sqrt(2 / sizes.sum())
    assert high - low > 2.5 * as_if_independent


def test_few_articles_have_no_interval() -> None:
    few = MIN_ARTICLES - 1
    assert interval(np.ones(few), np.ones(few)) is None
    assert difference_interval(*[np.ones(few)] * 4) is None
    assert intervals(np.ones((few, 3)), np.ones((few, 3))) == [None] * 3
    assert interval(np.ones(MIN_ARTICLES), np.ones(MIN_ARTICLES)) == (1.0, 1.0)


def test_the_same_number_has_the_same_interval() -> None:
    totals, sizes = sums(np.random.default_rng(1), 12)
    assert interval(totals, sizes) == interval(totals, sizes)
    both = intervals(np.stack([totals, 2 * totals], axis=1), np.stack([sizes, sizes], axis=1))
    assert both[0] == pytest.approx(interval(totals, sizes))
    assert both[1] == pytest.approx([2 * end for end in both[0] or ()])


def test_a_difference_is_paired() -> None:
    """A constant lead is found however much the articles differ: both sides draw the same ones."""
    totals, sizes = sums(np.random.default_rng(2), 12, spread=10.0)
    ends = difference_interval(totals + 0.01 * sizes, sizes, totals, sizes)
    assert ends == pytest.approx((0.01, 0.01))
    assert difference_interval(totals, sizes, totals, sizes) == (0.0, 0.0)
    columns = [each[:, None] for each in (totals, sizes, totals - sizes, sizes)]
    assert difference_intervals(*columns)[0] == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize(
    ("ends", "direction", "said"),
    [
        ((0.1, 0.2), 1, "better"),
        ((-0.2, -0.1), 1, "worse"),
        ((-0.1, 0.2), 1, "not distinguishable"),
        ((0.0, 0.0), 1, "not distinguishable"),
        ((0.1, 0.2), -1, "worse"),
        ((-0.2, -0.1), -1, "better"),
        ((-0.1, 0.2), -1, "not distinguishable"),
        (None, 1, "too few articles"),
    ],
)
def test_verdicts(ends: tuple[float, float] | None, direction: int, said: str) -> None:
    assert verdict(ends, direction) == said


def test_the_tail_is_widened_for_few_articles() -> None:
    """Hesterberg 2015: n = 10 takes Phi(-sqrt(10/9) 2.262) = 0.0086 in place of 0.025."""
    assert tail(10) == pytest.approx(0.0086, abs=5e-5)
    assert tail(100_000) == pytest.approx(0.025, abs=1e-4)


def test_articles_without_a_weight_do_not_count() -> None:
    """Thirty articles of which seven say anything are seven."""
    totals, sizes = sums(np.random.default_rng(4), 30)
    for contributing in (MIN_ARTICLES - 1, MIN_ARTICLES, 12):
        silent = np.arange(30) >= contributing
        ends = interval(np.where(silent, 0, totals), np.where(silent, 0, sizes))
        alone = interval(totals[:contributing], sizes[:contributing])
        assert ends == (None if alone is None else pytest.approx(alone))
    assert interval(np.zeros(30), np.zeros(30)) is None
    columns = np.stack([totals, np.where(np.arange(30) >= 3, 0, totals)], axis=1)
    weights = np.stack([sizes, np.where(np.arange(30) >= 3, 0, sizes)], axis=1)
    first, second = difference_intervals(columns, weights, columns, weights)
    assert (first, second) == ((0.0, 0.0), None)


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ModelError, match="belong together"):
        interval(np.ones(6), np.ones(7))
    with pytest.raises(ModelError, match="NaN"):
        interval(np.array([1, 2, 3, 4, 5, 6, 7, np.nan]), np.ones(8))
