"""The learning rate as a function of the step: warm-up, then a cosine."""

from __future__ import annotations

import math


def learning_rate(step: int, steps: int, *, lr: float, warmup: float, final_lr: float) -> float:
    """The rate of one step (Loshchilov & Hutter 2017, eq. 5, after a linear warm-up).

    Args:
        step: from 0.
        steps: of the whole run.
        lr: the highest rate.
        warmup: share of the steps in which it rises from near 0.
        final_lr: the last rate as a share of `lr`.
    """
    rising = math.ceil(steps * warmup)
    if step < rising:
        return lr * (step + 1) / rising
    progress = min(1.0, (step - rising) / max(1, steps - rising - 1))
    return lr * (final_lr + (1 - final_lr) * 0.5 * (1 + math.cos(math.pi * progress)))
