"""Power series in w, truncated: what the kernels of state spaces are made of.

A diagonal state space answers an impulse with sums of powers, `c_l = 2 Re sum_n v_n a_n^l`, which
are the coefficients of `sum_n v_n / (1 - a_n w)` and its conjugate. Sums, products and quotients of
such functions have coefficients that, up to any l, depend on those up to l alone: arithmetic with
the first L of them is exact for any L.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def fft_size(at_least: int) -> int:
    """The next power of two, for which an FFT is fast."""
    return 1 << (at_least - 1).bit_length()


def powers(base: Tensor, count: int) -> Tensor:
    """`base^0` to `base^(count - 1)`, `(...) -> (..., count)`, by doubling."""
    found = torch.ones_like(base).unsqueeze(-1)
    while found.shape[-1] < count:
        found = torch.cat([found, found * base.unsqueeze(-1)], -1)
        base = base * base
    return found[..., :count]


def impulse_response(weight: Tensor, base: Tensor, time: int) -> Tensor:
    """`c_l = 2 Re sum_n v_n a_n^l` for l below `time`.

    With l = row * width + column, a power is a product of two, and the sum over n a product of two
    small matrices: some 2 sqrt(time) powers of each number instead of `time`.

    Args:
        weight: v, complex, `(channels, series, state)`.
        base: a, complex, `(channels, state)`.
        time: number of coefficients, at least 1.

    Returns:
        Real, `(channels, series, time)`.
    """
    width = min(time, math.isqrt(weight.shape[1] * time - 1) + 1)  # as many as rows of all series
    rows = -(-time // width)
    across = powers(base, width)  # (channels, state, width)
    starts = powers(across[..., -1] * base, rows).transpose(1, 2)  # (channels, rows, state)
    down = weight.unsqueeze(2) * starts.unsqueeze(1)  # (channels, series, rows, state)
    left = torch.cat([down.real, -down.imag], -1).flatten(1, 2)
    right = torch.cat([across.real, across.imag], 1)
    found = torch.bmm(2 * left, right)  # (channels, series * rows, width)
    response: Tensor = found.reshape(*weight.shape[:2], rows * width)[..., :time]
    return response


def multiply(left: Tensor, right: Tensor) -> Tensor:
    """The first coefficients of a product, as many as both factors have, `(..., time)` each."""
    product: Tensor = _Product.apply(left, right)  # type: ignore[no-untyped-call]
    return product


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The first coefficients of a quotient, as many as both have, `(..., time)` each.

    Rounding stays small where the denominator stays away from zero in the unit disc.

    Args:
        numerator: real coefficients.
        denominator: real coefficients, of which the first is not zero.
    """
    quotient: Tensor = _Quotient.apply(numerator, denominator)  # type: ignore[no-untyped-call]
    return quotient


class _Product(torch.autograd.Function):
    """Autograd's own gradient of a real FFT is a complex one of the full length."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return _product(left, right)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        left, right = ctx.saved_tensors
        return _transposed(right, grads[0]), _transposed(left, grads[0])


class _Quotient(torch.autograd.Function):
    """`q = n / d` has the gradient of `(dn - q dd) / d`."""

    @staticmethod
    def forward(ctx: Any, numerator: Tensor, denominator: Tensor) -> Tensor:
        inverse = _reciprocal(denominator)
        quotient = _product(numerator, inverse)
        ctx.save_for_backward(quotient, inverse)
        return quotient

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        quotient, inverse = ctx.saved_tensors
        grad = _transposed(inverse, grads[0])
        return grad, -_transposed(quotient, grad)


def _product(left: Tensor, right: Tensor) -> Tensor:
    time = left.shape[-1]
    size = fft_size(2 * time)
    both = torch.fft.rfft(left, size) * torch.fft.rfft(right, size)
    product: Tensor = torch.fft.irfft(both, size)[..., :time]
    return product


def _transposed(factor: Tensor, grad: Tensor) -> Tensor:
    """The gradient of the other factor of a product: `sum_l grad_l factor_(l - j)`."""
    return _product(factor, grad.flip(-1)).flip(-1)


def _reciprocal(series: Tensor) -> Tensor:
    """`1 / series`, by Newton's iteration (Brent & Kung 1978).

    `y <- y (2 - series y)` doubles the number of coefficients that are right.
    """
    time = series.shape[-1]
    found = series[..., :1].reciprocal()
    while found.shape[-1] < time:
        known = 2 * found.shape[-1]
        size = 2 * known  # the product of three has no more coefficients: nothing comes round
        y = torch.fft.rfft(found, size)
        product = torch.fft.irfft(torch.fft.rfft(series[..., :known], size) * y * y, size)
        found = F.pad(2 * found, (0, found.shape[-1])) - product[..., :known]
    return found[..., :time]
