"""The transformer layers of the Llama recipe: attention with rotary positions, and SwiGLU.

    RoPE    a pair (u, v) of a query's or a key's numbers, turned by its position p:
            (u cos pw - v sin pw,  v cos pw + u sin pw),   w = 10000^(-2i / width) for pair i
    SwiGLU  W_down (silu(W_gate x) * W_up x)

Su et al. 2021, arXiv 2104.09864; Shazeer 2020, arXiv 2002.05202. Both are mixers of `backbone`. A
query and a key meet by the difference of their positions only, so a context that is padded on the
left is the same as a shorter one. No layer has a bias.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmdb.models.attention import causal, merge_heads, split_heads

THETA = 10_000.0

Memory: TypeAlias = tuple[Tensor, Tensor]
"""Keys and values, each `(batch, heads, keys, width of a head)`; keys are turned already."""


def turned(x: Tensor, positions: Tensor) -> Tensor:
    """Each pair of numbers turned by its position; pair i is number i of both halves.

    Args:
        x: `(batch, heads, time, width)`, of an even width.
        positions: `(time,)`.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    half = x.shape[-1] // 2
    pair = torch.arange(half, device=x.device, dtype=wide)
    angle = torch.outer(positions.to(wide), THETA ** (-pair / half))  # (time, half)
    cos, sin = angle.cos(), angle.sin()
    u, v = x[..., :half], x[..., half:]
    return torch.cat([u * cos - v * sin, v * cos + u * sin], -1).to(x.dtype)


class RotaryAttention(nn.Module):
    """Multi-head attention, `(batch, time, d_model) -> (batch, time, d_model)`.

    As a mixer it is causal self-attention. Its halves serve models that read what they encoded
    before: `memory` makes keys and values, `read` asks them.

    Args:
        d_model: width of the residual stream.
        heads: must divide `d_model` into heads of an even width.
    """

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.output = nn.Linear(d_model, d_model, bias=False)

    def memory(self, source: Tensor, positions: Tensor) -> Memory:
        """Keys and values of `(batch, keys, d_model)` at positions `(keys,)`."""
        keys = split_heads(self.key(source), self.heads)
        return turned(keys, positions), split_heads(self.value(source), self.heads)

    def read(
        self, hidden: Tensor, positions: Tensor, memory: Memory, seen: Tensor | None
    ) -> Tensor:
        """What each query finds in a memory, `(batch, queries, d_model)`.

        Args:
            hidden: `(batch, queries, d_model)`.
            positions: `(queries,)`.
            memory: what is read.
            seen: `(batch, queries, keys)` bool, which keys each query reads, one at least; None:
                each query the keys up to its own, of as many.
        """
        query = turned(split_heads(self.query(hidden), self.heads), positions)
        mask = None if seen is None else seen.unsqueeze(1)
        mixed = F.scaled_dot_product_attention(
            query, *memory, attn_mask=mask, is_causal=mask is None
        )
        read: Tensor = self.output(merge_heads(mixed))
        return read

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Causal self-attention; `mask` is `(batch, time)`, or None if nothing is padded."""
        positions = torch.arange(hidden.shape[1], device=hidden.device)
        seen = None if mask is None else causal(mask)
        return self.read(hidden, positions, self.memory(hidden, positions), seen)


class SwiGLU(nn.Module):
    """The gated feed-forward layer, `(..., d_model) -> (..., d_model)`.

    Args:
        d_model: width of the residual stream.
        inner: width in between.
    """

    def __init__(self, d_model: int, inner: int) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, inner, bias=False)
        self.up = nn.Linear(d_model, inner, bias=False)
        self.down = nn.Linear(inner, d_model, bias=False)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Each position by itself: the mask does not matter."""
        out: Tensor = self.down(F.silu(self.gate(hidden)) * self.up(hidden))
        return out
