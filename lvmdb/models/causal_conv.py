"""A short causal depthwise convolution along time, as a few shifted multiply-adds.

    y[t] = bias + sum_k weight[k] x[t - width + 1 + k],    x = 0 before the start

`nn.Conv1d` wants channels before time, and its depthwise path on a CPU costs several times as much;
left to autograd, the shifts cost a padded copy of the whole input each, twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve every channel with its own taps.

    Args:
        x: `(batch, time, channels)`.
        weight: `(channels, 1, width)`, as `nn.Conv1d` keeps it; the last tap is the present.
        bias: `(channels,)`, or None for none.

    Returns:
        `(batch, time, channels)`.
    """
    if bias is None:
        bias = weight.new_zeros(weight.shape[0])
    taps = weight.squeeze(1).t()  # (width, channels)
    if torch.is_autocast_enabled(x.device.type):
        taps, bias = taps.to(x.dtype), bias.to(x.dtype)
    convolved: Tensor = _ShiftedMultiplyAdds.apply(x, taps, bias)  # type: ignore[no-untyped-call]
    return convolved


class _ShiftedMultiplyAdds(torch.autograd.Function):
    """Forward and gradient of the sum above; `taps` is `(width, channels)`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, taps)
        time = x.shape[1]
        y = torch.addcmul(bias, x, taps[-1])  # (batch, time, channels)
        for back in range(1, min(taps.shape[0], time)):
            y[:, back:].addcmul_(x[:, : time - back], taps[-1 - back])
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (grad,) = grads  # (batch, time, channels)
        x, taps = ctx.saved_tensors
        time = x.shape[1]
        grad_x = grad * taps[-1]
        grad_taps = torch.zeros_like(taps)
        grad_taps[-1] = (grad * x).sum((0, 1))
        for back in range(1, min(taps.shape[0], time)):
            later, earlier = grad[:, back:], x[:, : time - back]
            grad_x[:, : time - back].addcmul_(later, taps[-1 - back])
            grad_taps[-1 - back] = (later * earlier).sum((0, 1))
        return grad_x, grad_taps, grad.sum((0, 1))
