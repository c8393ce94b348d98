"""The weighting of the context that residual models start from."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from lvmdb.errors import ModelError
from lvmdb.models.configs.lstm import LSTMConfig
from lvmdb.models.lag_residual import LagResidual, ramp
from lvmdb.models.lstm import LSTM


@pytest.fixture
def model() -> LagResidual:
    torch.manual_seed(0)
    return LagResidual(LSTM(LSTMConfig(input_dim=6, output_dim=4, hidden=3)), 5)


def test_the_ramp() -> None:
    torch.testing.assert_close(ramp(5), torch.tensor([0.1, 0.15, 0.2, 0.25, 0.3]))
    torch.testing.assert_close(ramp(1), torch.ones(1))
    torch.testing.assert_close(ramp(2), torch.tensor([0.25, 0.75]))
    for length in (3, 9, 64):
        torch.testing.assert_close(ramp(length).sum(), torch.tensor(1.0))


def test_training_starts_exactly_at_the_weights(model: LagResidual) -> None:
    context, mask = torch.randn(7, 5, 6), torch.ones(7, 5, dtype=torch.bool)
    predicted = model(context, mask)
    assert torch.equal(model.lag_weights, ramp(5))
    assert torch.equal(predicted, torch.matmul(model.lag_weights, context[..., :4]))
    by_hand = sum(w * context[:, i, :4] for i, w in enumerate((0.1, 0.15, 0.2, 0.25, 0.3)))
    torch.testing.assert_close(predicted, by_hand)


def test_weights_and_body_both_learn(model: LagResidual) -> None:
    model(torch.randn(7, 5, 6), torch.ones(7, 5, dtype=torch.bool)).square().sum().backward()
    gradient = model.body.output_projection.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
    assert model.lag_weights.grad is not None
    assert bool((model.lag_weights.grad != 0).all())


def test_what_is_missing_is_made_good(model: LagResidual) -> None:
    context = torch.randn(2, 5, 6)
    mask = torch.tensor([[False, False, False, True, True], [False] * 5])
    predicted = model(context, mask)
    by_hand = (0.25 * context[0, 3, :4] + 0.3 * context[0, 4, :4]) / 0.55
    torch.testing.assert_close(predicted[0], by_hand)
    assert torch.equal(predicted[1], torch.zeros(4))
    shorter = model(context[:1, 3:], mask[:1, 3:])
    torch.testing.assert_close(shorter[0], by_hand)


def test_learnt_weights_that_cancel_stay_finite(model: LagResidual) -> None:
    with torch.no_grad():
        model.lag_weights.copy_(torch.tensor([1.0, 1.0, 1.0, -0.5, 0.5]))
    mask = torch.tensor([[False, False, False, True, True]])
    context = torch.randn(1, 5, 6)
    predicted = model(context, mask)
    torch.testing.assert_close(predicted[0], 4 * 0.5 * (context[0, 4, :4] - context[0, 3, :4]))


def test_a_context_that_is_too_long_is_refused(model: LagResidual) -> None:
    with pytest.raises(ModelError, match="contexts of 5 concepts, not of 6"):
        model(torch.randn(1, 6, 6), torch.ones(1, 6, dtype=torch.bool))


# Zero, or not so small that a scale is made of rounding.
WEIGHTS = st.just(0.0) | st.floats(1e-3, 2) | st.floats(-2, -1e-3)


def test_every_position_starts_exactly_at_the_weights(model: LagResidual) -> None:
    """By hand: full in the middle, fewer at the start, and longer than there are weights."""
    context, mask = torch.randn(1, 8, 6), torch.ones(1, 8, dtype=torch.bool)
    concepts = context[0, :, :4]
    every = model.every(context, mask)[0]  # (8, 4)
    torch.testing.assert_close(every[0], concepts[0])
    torch.testing.assert_close(every[1], (0.25 * concepts[0] + 0.3 * concepts[1]) / 0.55)
    for last in range(4, 8):
        by_hand = sum(w * concepts[last - 4 + i] for i, w in enumerate((0.1, 0.15, 0.2, 0.25, 0.3)))
        torch.testing.assert_close(every[last], by_hand)


@given(
    lags=st.integers(1, 7),
    time=st.integers(1, 16),
    starts=st.lists(st.integers(0, 16), min_size=1, max_size=4),
    weights=st.lists(WEIGHTS, min_size=7, max_size=7),
    seed=st.integers(0, 999),
)
def test_every_position_is_weighed_like_a_context(
    lags: int, time: int, starts: list[int], weights: list[float], seed: int
) -> None:
    """Values and gradients, for weights of any sign (and some zero), with any padding."""
    assume(any(weights[:lags]))
    torch.manual_seed(seed)
    model = LagResidual(LSTM(LSTMConfig(input_dim=5, output_dim=3, hidden=2, layers=1)), lags)
    model = model.double()
    with torch.no_grad():
        model.lag_weights.copy_(torch.tensor(weights[:lags], dtype=torch.float64))
    mask = torch.arange(time) >= torch.tensor([[start] for start in starts])
    context = torch.randn(len(starts), time, 5, dtype=torch.float64)
    found = model.weighted_every(context, mask)
    expected = torch.stack(
        [
            model.weighted(context[:, first:end], mask[:, first:end])
            for end in range(1, time + 1)
            for first in [max(0, end - lags)]
        ],
        1,
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    towards = torch.randn_like(found)
    (got,) = torch.autograd.grad((found * towards).sum(), model.lag_weights)
    (wanted,) = torch.autograd.grad((expected * towards).sum(), model.lag_weights)
    torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-8)


def test_weights_that_are_all_zero_can_still_learn(model: LagResidual) -> None:
    with torch.no_grad():
        model.lag_weights.zero_()
    context, mask = torch.randn(2, 8, 6), torch.ones(2, 8, dtype=torch.bool)
    (gradient,) = torch.autograd.grad(model.every(context, mask).sum(), model.lag_weights)
    assert bool(gradient.isfinite().all())
    assert bool((gradient != 0).all())
