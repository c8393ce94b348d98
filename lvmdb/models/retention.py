"""Retention: a linear recurrence over time in three forms that give the same.

For each head, with a decay gamma of its own (Sun et al. 2023, arXiv 2307.08621, eq. 6, 7 and 5):

    recurrent:  S_n = gamma S_{n-1} + k_n^T v_n;    o_n = q_n S_n
    parallel:   O = (Q K^T * D) V,    D_nm = gamma^(n-m) where n >= m, else 0
    chunkwise:  parallel within a chunk, S handed on between chunks

Queries and keys come rotated by their positions, so that their product knows only how far apart
they are (the paper's xPos: Sun et al. 2022, arXiv 2212.10554). Decays are given as their logarithm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LONGEST = 10_000.0
"""A rotation takes from 2 pi to 2 pi times so many positions, from the first pair to the last."""


def log_decays(heads: int, like: Tensor) -> Tensor:
    """The logarithm of `gamma_h = 1 - 2^(-5-h)` (eq. 8), `(heads,)`; type and device of `like`."""
    head = torch.arange(heads, dtype=torch.float64, device=like.device)
    return torch.log1p(-torch.exp2(-5 - head)).to(like.dtype)


def rotate(x: Tensor) -> Tensor:
    """Turn each pair of neighbouring numbers by an angle that grows with the position.

    Args:
        x: `(batch, heads, time, width)`, the width even.

    Returns:
        The same shape, in float32 or wider.
    """
    time, width = x.shape[-2:]
    wide = torch.promote_types(x.dtype, torch.float32)
    place = torch.linspace(0, 1, width // 2, dtype=wide, device=x.device)
    position = torch.arange(time, dtype=wide, device=x.device)
    angle = position.unsqueeze(-1) * LONGEST**-place  # (time, width / 2)
    sine, cosine = angle.sin(), angle.cos()
    even, odd = x.reshape(*x.shape[:-1], width // 2, 2).unbind(-1)
    turned = torch.stack((even * cosine - odd * sine, odd * cosine + even * sine), -1)
    return turned.flatten(-2)


def recurrent(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> Tensor:
    """Position by position.

    Args:
        q, k: `(batch, heads, time, key_dim)`.
        v: `(batch, heads, time, value_dim)`.
        log_decay: `(heads,)`.

    Returns:
        `(batch, heads, time, value_dim)`.
    """
    decay = log_decay.exp().view(-1, 1, 1)
    state = k.new_zeros(*k.shape[:2], k.shape[-1], v.shape[-1])
    outputs = []
    for t in range(k.shape[2]):
        state = decay * state + k[:, :, t].unsqueeze(-1) * v[:, :, t].unsqueeze(-2)
        outputs.append(torch.matmul(q[:, :, t].unsqueeze(-2), state))
    return torch.cat(outputs, 2)


def parallel(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> Tensor:
    """All positions at once; arguments and result as of `recurrent`."""
    position = torch.arange(q.shape[2], dtype=log_decay.dtype, device=q.device)
    gap = position.unsqueeze(-1) - position  # (time, time)
    decay = torch.exp(gap.clamp(min=0) * log_decay.view(-1, 1, 1)).tril()  # (heads, time, time)
    scores = torch.matmul(q, k.transpose(-1, -2)) * decay
    return torch.matmul(scores, v)


def chunkwise(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, chunk_size: int) -> Tensor:
    """Chunks of `chunk_size` positions, the last maybe shorter; otherwise as `recurrent`."""
    batch, heads, time, key_dim = q.shape
    chunks = -(-time // chunk_size)
    extra = chunks * chunk_size - time  # padded on the right, where nothing is read any more

    def cut(x: Tensor) -> Tensor:
        """`(batch * chunks, heads, chunk_size, width)`."""
        x = F.pad(x, (0, 0, 0, extra)).reshape(batch, heads, chunks, chunk_size, x.shape[-1])
        return x.transpose(1, 2).flatten(0, 1)

    q, k, v = cut(q), cut(k), cut(v)
    inside = parallel(q, k, v, log_decay)

    log_decay = log_decay.view(-1, 1, 1)
    position = torch.arange(chunk_size, dtype=log_decay.dtype, device=q.device).unsqueeze(-1)
    to_end = torch.exp((chunk_size - 1 - position) * log_decay)  # (heads, chunk_size, 1)
    added = torch.matmul((k * to_end).transpose(-1, -2), v)
    added = added.view(batch, chunks, heads, key_dim, v.shape[-1])
    whole = torch.exp(chunk_size * log_decay)
    carried = [torch.zeros_like(added[:, 0])]
    for chunk in range(chunks - 1):
        carried.append(carried[-1] * whole + added[:, chunk])
    before = torch.stack(carried, 1).flatten(0, 1)  # (batch * chunks, heads, key_dim, value_dim)

    from_start = torch.exp((position + 1) * log_decay)
    y = inside + torch.matmul(q * from_start, before)
    y = y.view(batch, chunks, heads, chunk_size, v.shape[-1])
    return y.transpose(1, 2).flatten(2, 3)[:, :, :time]
