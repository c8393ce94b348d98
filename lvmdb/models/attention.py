"""Multi-head self-attention: the projections that every kind of it has, and exact attention.

    q, k, v = W x + b;    y = W_o [attend(q_1, k_1, v_1), ..., attend(q_H, k_H, v_H)] + b_o

Vaswani et al. 2017, arXiv 1706.03762. The parameters have GPT-2's names (`c_attn` makes queries,
keys and values at once, `c_proj` brings the heads together), so that published blocks fit.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """A mixer, `(batch, time, d_model) -> (batch, time, d_model)`; kinds of it define `attend`.

    Args:
        d_model: width of the residual stream.
        heads: number of heads; divides `d_model`.
    """

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(d_model, 3 * d_model)
        self.c_proj = nn.Linear(d_model, d_model)

    @abstractmethod
    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Mix the values along time, in each head by itself.

        Args:
            query, key, value: `(batch, heads, time, head_dim)`.
            mask: `(batch, time)` bool, False at padding on the left, which must have no influence
                (the projections' biases make it look like an input); None if there is none.

        Returns:
            `(batch, heads, time, head_dim)`, finite at padding as well.
        """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix along time.

        Args:
            x: `(batch, time, d_model)`.
            mask: `(batch, time)` bool, False at padding on the left; None if there is none.

        Returns:
            `(batch, time, d_model)`.
        """
        query, key, value = (split_heads(part, self.heads) for part in self.c_attn(x).chunk(3, -1))
        mixed: Tensor = self.c_proj(merge_heads(self.attend(query, key, value, mask)))
        return mixed


class CausalAttention(SelfAttention):
    """Exact: `softmax(q k^T / sqrt(head_dim)) v` over the positions up to and including each."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            return F.scaled_dot_product_attention(query, key, value, is_causal=True)
        seen = causal(mask).unsqueeze(1)  # (batch, 1, time, time)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=seen)


def causal(mask: Tensor) -> Tensor:
    """What each position of `(batch, time)` sees, `(batch, time, time)` bool.

    Concepts up to and including itself. Padding sees itself alone: a softmax over nothing is no
    number.
    """
    time = mask.shape[1]
    itself = torch.eye(time, dtype=torch.bool, device=mask.device)
    past = torch.ones_like(itself).tril()  # (time, time)
    return (past & mask.unsqueeze(1)) | itself


def split_heads(x: Tensor, heads: int) -> Tensor:
    """`(batch, time, heads * head_dim) -> (batch, heads, time, head_dim)`."""
    return x.view(*x.shape[:2], heads, x.shape[-1] // heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """`(batch, heads, time, head_dim) -> (batch, time, heads * head_dim)`."""
    return x.transpose(1, 2).flatten(2)
