"""The chunked state space against the recurrence that defines it, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lvmdb.models.ssd import ssd


def recurrence(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """S_t = exp(dt_t A) S_{t-1} + dt_t x_t B_t^T;  y_t = S_t C_t + D x_t."""
    batch, time, heads, width = x.shape
    state = x.new_zeros(batch, heads, width, b.shape[-1])
    outputs = []
    for t in range(time):
        decay = torch.exp(dt[:, t] * a)  # (batch, heads)
        added = torch.einsum("bh,bhp,bn->bhpn", dt[:, t], x[:, t], b[:, t])
        state = decay[..., None, None] * state + added
        outputs.append(torch.einsum("bhpn,bn->bhp", state, c[:, t]) + d[:, None] * x[:, t])
    return torch.stack(outputs, 1)


def inputs(time: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(time)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    heads, width, state = 3, 4, 5
    return [
        normal(2, time, heads, width),
        normal(2, time, heads).exp(),
        -normal(heads).exp(),
        normal(2, time, state),
        normal(2, time, state),
        normal(heads),
    ]


@pytest.mark.parametrize("time", [1, 2, 5, 8, 9, 16, 19, 40])
def test_output_and_gradients(time: int) -> None:
    given = [tensor.requires_grad_() for tensor in inputs(time)]
    x, dt, a, b, c, d = given
    expected, found = recurrence(*given), ssd(x, dt, a, b, c, d, 8)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    upstream = torch.randn(expected.shape, dtype=torch.float64)
    wanted = torch.autograd.grad(expected, given, upstream)
    got = torch.autograd.grad(found, given, upstream)
    for name, left, right in zip(("x", "dt", "a", "b", "c", "d"), got, wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9, msg=f"{name}: {{}}".format)


def test_long_steps_neither_overflow_nor_poison_gradients() -> None:
    x, dt, a, b, c, d = (tensor.float() for tensor in inputs(20))
    dt = (dt * 1000).requires_grad_()
    y = ssd(x, dt, a, b, c, d, chunk_size=8)
    torch.autograd.backward(y.sum())
    assert torch.isfinite(y).all()
    assert dt.grad is not None
    assert torch.isfinite(dt.grad).all()
