"""The long convolution, by both of its ways, against its definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lvmdb.models.long_conv import DIRECT, long_conv

TIMES = (1, 5, DIRECT, DIRECT + 1, 31)


def written_out(x: Tensor, kernel: Tensor) -> Tensor:
    rows = []
    for t in range(x.shape[1]):
        rows.append(sum((kernel[:, t - s] * x[:, s] for s in range(t)), kernel[:, 0] * x[:, t]))
    return torch.stack(rows, 1)


@pytest.mark.parametrize("time", TIMES)
def test_values_and_gradients(time: int) -> None:
    torch.manual_seed(time)
    x = torch.randn(2, time, 3, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(3, time, dtype=torch.float64, requires_grad=True)
    expected, found = written_out(x, kernel), long_conv(x, kernel)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    upstream = torch.randn_like(x)
    wanted, got = (torch.autograd.grad(of, (x, kernel), upstream) for of in (expected, found))
    for gradient, right in zip(got, wanted, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-11, atol=1e-12)


def test_by_fft_the_future_is_rounding() -> None:
    x, kernel = torch.randn(1, 40, 2), torch.randn(2, 40)
    other = x.clone()
    other[:, 20:] = torch.randn(1, 20, 2)
    before, after = long_conv(x, kernel), long_conv(other, kernel)
    torch.testing.assert_close(after[:, :20], before[:, :20], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(after[:, 20:], before[:, 20:], atol=0.1)


@pytest.mark.parametrize("time", [5, 31])
def test_half_precision_is_widened(time: int) -> None:
    x, kernel = torch.randn(2, time, 3, dtype=torch.bfloat16), torch.randn(3, time)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = long_conv(x, kernel)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, written_out(x.float(), kernel), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("time", [5, 31])
def test_an_empty_batch(time: int) -> None:
    x = torch.randn(0, time, 3, requires_grad=True)
    kernel = torch.randn(3, time, requires_grad=True)
    found = long_conv(x, kernel)
    assert found.shape == (0, time, 3)
    torch.autograd.backward(found.sum())
    assert kernel.grad is not None
    assert bool((kernel.grad == 0).all())
