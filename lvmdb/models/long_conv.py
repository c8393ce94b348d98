"""A causal depthwise convolution along time with a kernel as long as the sequence.

    y[t] = sum_{s <= t} k[t - s] x[s]

A short sequence is convolved as it is written here, a long one through the FFT, padded to twice its
length so that the end does not come round to the start. Through the FFT, what comes later touches
an earlier output by rounding alone (1e-7 of the largest number, in float32).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lvmdb.models.causal_conv import causal_conv
from lvmdb.models.power_series import fft_size

DIRECT = 12
"""Longest sequence that is convolved directly. Forward and gradient of 64 sequences of 512 channels
took 2.7 ms so and 5.3 ms by FFT at 5 positions, 10 and 16 ms at 12, 19 and 16 ms at 16 (two cores;
a matrix product with a Toeplitz matrix for each channel won nowhere)."""


def long_conv(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve every channel with its own kernel.

    Args:
        x: `(batch, time, channels)`.
        kernel: `(channels, time)`, the present first.

    Returns:
        `(batch, time, channels)`, in float32 or wider: an FFT in half precision is of no use.
    """
    wide = torch.promote_types(x.dtype, kernel.dtype)
    x, kernel = x.to(wide), kernel.to(wide)
    with torch.autocast(x.device.type, enabled=False):
        # (There is no FFT of nothing.)
        if x.shape[1] <= DIRECT or not len(x):
            return causal_conv(x, kernel.flip(-1).unsqueeze(1))
        convolved: Tensor = _ByFFT.apply(x, kernel)  # type: ignore[no-untyped-call]
        return convolved


class _ByFFT(torch.autograd.Function):
    """Forward and gradient through real FFTs.

    Autograd's own gradient of a real FFT is a complex one of the full length.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        time = x.shape[1]
        size = fft_size(2 * time)
        x_hat = torch.fft.rfft(x.transpose(1, 2), size)  # (batch, channels, size / 2 + 1)
        kernel_hat = torch.fft.rfft(kernel, size)  # (channels, size / 2 + 1)
        ctx.save_for_backward(x_hat, kernel_hat)
        ctx.time, ctx.size = time, size
        y: Tensor = torch.fft.irfft(x_hat * kernel_hat, size)[..., :time]
        return y.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grads  # (batch, time, channels)
        x_hat, kernel_hat = ctx.saved_tensors
        grad_hat = torch.fft.rfft(grad.transpose(1, 2), ctx.size)
        grad_x = torch.fft.irfft(grad_hat * kernel_hat.conj(), ctx.size)[..., : ctx.time]
        # Summed over the batch before it is transformed back.
        both = (grad_hat * x_hat.conj()).sum(0)
        grad_kernel = torch.fft.irfft(both, ctx.size)[..., : ctx.time]
        return grad_x.transpose(1, 2), grad_kernel
