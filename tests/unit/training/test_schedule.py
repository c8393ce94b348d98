"""The learning rate, by hand."""

from __future__ import annotations

import math

import pytest

from lvmdb.training.schedule import learning_rate


def rates(
    steps: int, *, lr: float = 1.0, warmup: float = 0.0, final_lr: float = 0.0
) -> list[float]:
    return [
        learning_rate(step, steps, lr=lr, warmup=warmup, final_lr=final_lr) for step in range(steps)
    ]


def test_by_hand() -> None:
    # Four of ten steps rise to 8; the other six fall along half a cosine to a quarter of it.
    half_cosine = [0.5 * (1 + math.cos(math.pi * n / 5)) for n in range(6)]
    expected = [2.0, 4.0, 6.0, 8.0, *(2.0 + 6.0 * share for share in half_cosine)]
    assert rates(10, lr=8.0, warmup=0.4, final_lr=0.25) == pytest.approx(expected)


def test_without_warm_up_it_begins_at_the_highest_and_ends_at_the_lowest() -> None:
    assert rates(5, final_lr=0.5) == pytest.approx([1.0, 0.926777, 0.75, 0.573223, 0.5], abs=1e-6)
    assert rates(5, lr=0.3, final_lr=1.0) == pytest.approx([0.3] * 5)


def test_a_share_of_a_step_is_a_step() -> None:
    assert rates(3, warmup=0.01) == pytest.approx([1.0, 1.0, 0.0])
    assert rates(4, warmup=1.0) == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates(1) == [1.0]


def test_beyond_the_last_step_it_stays() -> None:
    assert learning_rate(99, 10, lr=1.0, warmup=0.0, final_lr=0.1) == pytest.approx(0.1)
