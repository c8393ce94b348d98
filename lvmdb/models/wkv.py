"""RWKV's weighted mean over the past, without an overflow and in a few long steps.

For each channel by itself (Peng et al. 2023, arXiv 2305.13048, eq. 16), with the decay w > 0:

    y_t = (sum_{i<t} e^{k_i - (t-1-i) w} v_i + e^{u + k_t} v_t)
          / (sum_{i<t} e^{k_i - (t-1-i) w} + e^{u + k_t})

Sums of exponentials overflow, so what is kept of the past is its weighted mean m and the logarithm
l of its weight; all that is ever exponentiated is a difference of two logarithms, in a sigmoid:

    y_t     = m_t + sigmoid(u + k_t - l_t) (v_t - m_t)
    m_{t+1} = m_t + sigmoid(k_t + w - l_t) (v_t - m_t)
    l_{t+1} = log(e^{l_t - w} + e^{k_t})

Two pasts merge by the same rule. A long sequence is cut into about sqrt(T) chunks of about sqrt(T)
positions: all chunks run at once, then what each hands on, so 1024 positions take two loops of 32.
(A matrix product within a chunk would need one matrix for each channel, because each has a decay of
its own, and one common maximum for all keys of a chunk: where keys differ by more than 87, float32
holds none of the small ones. Measured, it was also four times slower.)
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NOTHING = -1e30
"""Logarithm of no weight. Not an infinity: the difference of two of them must be a number."""

LOOP = 16
"""Sequences up to this length are one chunk."""


def wkv(decay: Tensor, first: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The weighted means after each position.

    Args:
        decay: w, positive, `(channels,)`.
        first: u, `(channels,)`.
        key: `(batch, time, channels)`, float32 or wider; `NOTHING` where nothing is there.
        value: `(batch, time, channels)`, zero where nothing is there.

    Returns:
        `(batch, time, channels)`.
    """
    batch, time, channels = key.shape
    length = time if time <= LOOP else math.ceil(math.sqrt(time))
    chunks = -(-time // length)
    extra = chunks * length - time
    if extra:  # on the right, where it is in nobody's past
        key, value = F.pad(key, (0, 0, 0, extra)), F.pad(value, (0, 0, 0, extra))
    shape = (batch, chunks, length, channels)
    y: Tensor = _WKV.apply(decay, first, key.view(shape), value.view(shape))  # type: ignore[no-untyped-call]
    return y.flatten(1, 2)[:, :time]


class _WKV(torch.autograd.Function):
    """Forward and gradient of the formulas above, on `(batch, chunks, length, channels)`.

    The gradients of m and l obey recurrences of m's own kind, from the end to the start.
    """

    @staticmethod
    def forward(ctx: Any, decay: Tensor, first: Tensor, key: Tensor, value: Tensor) -> Tensor:
        above = key - _log_weights(decay, key)  # k - l
        share = torch.sigmoid(above + decay)
        mean = _Recurrence(1 - share, backwards=False)(share * value)
        ctx.save_for_backward(decay, first, above, mean, value)
        return torch.lerp(mean, value, torch.sigmoid(above + first))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        (grad,) = grads
        decay, first, above, mean, value = ctx.saved_tensors
        share_now, share = torch.sigmoid(above + first), torch.sigmoid(above + decay)
        kept = 1 - share
        step = value - mean
        recurrence = _Recurrence(kept, backwards=True)

        grad_value = grad * share_now
        grad_mean = recurrence(grad - grad_value)  # of m_{t+1}
        by_output = grad_value * step * (1 - share_now)  # through the argument of the first sigmoid
        by_mean = grad_mean * step * share * kept  # and of the second
        grad_key = by_output + by_mean
        grad_weight = recurrence(-grad_key)  # of l_{t+1}
        grad_key = grad_key.addcmul_(grad_weight, share)
        grad_value = grad_value.addcmul_(grad_mean, share)
        grad_decay = by_mean - grad_weight * kept
        return grad_decay.sum((0, 1, 2)), by_output.sum((0, 1, 2)), grad_key, grad_value


def _log_weights(decay: Tensor, key: Tensor) -> Tensor:
    """The logarithm l of the weight of what came before each position, in the shape of `key`."""
    _, chunks, length, _ = key.shape
    weight = torch.empty_like(key)
    weight[:, :, 0] = NOTHING
    for t in range(length - 1):
        torch.logaddexp(weight[:, :, t] - decay, key[:, :, t], out=weight[:, :, t + 1])
    if chunks == 1:
        return weight
    own = torch.logaddexp(weight[:, :, -1] - decay, key[:, :, -1])  # of a whole chunk
    carried = torch.empty_like(own)  # of all chunks before
    carried[:, 0] = NOTHING
    for chunk in range(chunks - 1):
        earlier = carried[:, chunk] - length * decay
        torch.logaddexp(earlier, own[:, chunk], out=carried[:, chunk + 1])
    ages = torch.arange(length, dtype=key.dtype, device=key.device).unsqueeze(-1)
    return torch.logaddexp(weight, carried.unsqueeze(2) - ages * decay)


class _Recurrence:
    """`x_{t+1} = kept_t x_t + added_t` from zero; or from the end, `x_t = kept_t x_{t+1} + ...`.

    Args:
        kept: `(batch, chunks, length, channels)`, from 0 to 1.
        backwards: from the end to the start.
    """

    def __init__(self, kept: Tensor, *, backwards: bool) -> None:
        self._kept = kept
        self._backwards = backwards
        if kept.shape[1] > 1:
            self._product = self._within(torch.zeros_like(kept), 1.0)

    def __call__(self, added: Tensor) -> Tensor:
        """What is there before each position (after it, if backwards), in the shape of `added`."""
        x = self._within(added, 0.0)
        if added.shape[1] == 1:
            return x
        last = 0 if self._backwards else -1
        kept = self._kept[:, :, last]
        end = torch.addcmul(added[:, :, last], kept, x[:, :, last])  # (batch, chunks, channels)
        whole = self._product[:, :, last] * kept
        carried = torch.empty_like(end)
        order = self._order(end.shape[1])
        carried[:, order[0]] = 0
        for here, then in pairwise(order):
            torch.addcmul(end[:, here], whole[:, here], carried[:, here], out=carried[:, then])
        return x.addcmul_(self._product, carried.unsqueeze(2))

    def _within(self, added: Tensor, start: float) -> Tensor:
        """Each chunk by itself, all at once."""
        x = torch.empty_like(added)
        order = self._order(added.shape[2])
        x[:, :, order[0]] = start
        for here, then in pairwise(order):
            now = added[:, :, here], self._kept[:, :, here], x[:, :, here]
            torch.addcmul(*now, out=x[:, :, then])
        return x

    def _order(self, steps: int) -> range:
        return range(steps - 1, -1, -1) if self._backwards else range(steps)
