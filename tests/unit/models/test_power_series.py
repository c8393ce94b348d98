"""Truncated power series against sums that are written out."""

from __future__ import annotations

import pytest
import torch

from lvmdb.models.power_series import divide, impulse_response, multiply, powers

TIMES = (1, 2, 3, 8, 13)


def series(time: int) -> torch.Tensor:
    return torch.randn(2, time, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("time", TIMES)
def test_a_product_and_its_gradient(time: int) -> None:
    torch.manual_seed(time)
    left, right = series(time), series(time)
    found = multiply(left, right)
    for t in range(time):
        expected = sum(left[:, s] * right[:, t - s] for s in range(t + 1))
        torch.testing.assert_close(found[:, t], expected)
    assert torch.autograd.gradcheck(multiply, (left, right))


@pytest.mark.parametrize("time", TIMES)
def test_a_quotient_times_its_denominator_is_the_numerator(time: int) -> None:
    torch.manual_seed(time)
    numerator, denominator = series(time), series(time)
    with torch.no_grad():
        denominator /= 4
        denominator[:, 0] = 1.5
    torch.testing.assert_close(multiply(divide(numerator, denominator), denominator), numerator)
    assert torch.autograd.gradcheck(divide, (numerator, denominator))


def test_powers() -> None:
    base = torch.tensor([0.9 + 0.3j, 0.0, -1.1j], dtype=torch.complex128)
    for count in (1, 2, 5, 8):
        expected = torch.stack([base**k for k in range(count)], -1)
        torch.testing.assert_close(powers(base, count), expected)


@pytest.mark.parametrize("time", [*TIMES, 50])
@pytest.mark.parametrize("number", [1, 4])
def test_an_impulse_response(number: int, time: int) -> None:
    torch.manual_seed(time)
    weight = torch.randn(2, number, 3, dtype=torch.complex128)
    base = torch.polar(torch.rand(2, 3).double(), 6 * torch.rand(2, 3).double())
    found = impulse_response(weight, base, time)
    assert found.shape == (2, number, time)
    for t in range(time):
        expected = 2 * (weight * (base**t).unsqueeze(1)).sum(-1).real
        torch.testing.assert_close(found[..., t], expected)
