"""FAVOR+: causal softmax attention estimated by positive orthogonal random features.

    y_t = sum_{s <= t} (phi(q_t) . phi(k_s)) v_s / sum_{s <= t} phi(q_t) . phi(k_s)
    phi_i(x) = exp(w_i . x' - |x'|^2 / 2),    x' = x / head_dim^(1/4)

Choromanski et al. 2021, arXiv 2009.14794: over Gaussian w_i, `phi_i(q) phi_i(k)` has the mean
`exp(q . k / sqrt(head_dim))` (Lemma 1); orthogonal w_i have a smaller variance (Theorem 2). What is
the same for all s, such as the query's square, cancels and is left out.

The exponentials need a common scale, which cancels too. The authors' is the largest exponent of all
keys of a sequence: it cancels on paper, but a large key makes all earlier sums underflow before it
is there. Here each key has the scale m_s of its own largest feature, and a sum up to t that of the
largest key so far, M_t = max_{s <= t} m_s:

    y_t ~ sum_{s <= t} (psi(q_t) . psi(k_s)) exp(m_s - M_t) v_s,    0 < psi <= 1

No exponent is positive, nothing at t depends on what follows, and the sums are those of a state
space with the decay exp(M_{t-1} - M_t): within a chunk a masked matrix, between chunks a state.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NOTHING = -1e30
"""The scale of a key that is not there; finite, so that the difference of two is zero."""

EMPTY = 1e-30
"""A denominator below it counts as none: its inverse leaves room for gradients in float32.

Between a query and a key it takes lengths |x'| above ten, in opposite directions.
"""


def orthogonal_features(count: int, head_dim: int) -> Tensor:
    """Draw w, `(count, head_dim)`, from torch's generator.

    Each is a Gaussian vector by itself; `head_dim` at a time are orthogonal to each other.
    """
    blocks = [
        nn.init.orthogonal_(torch.empty(head_dim, head_dim)) for _ in range(-(-count // head_dim))
    ]
    lengths = torch.randn(count, head_dim).norm(dim=-1, keepdim=True)
    w: Tensor = torch.cat(blocks)[:count] * lengths
    return w


def favor(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    features: Tensor,
    mask: Tensor | None,
    chunk_size: int,
) -> Tensor:
    """Estimate causal attention over a whole sequence.

    Args:
        query, key, value: `(batch, heads, time, head_dim)`, float32 or wider.
        features: w, `(features, head_dim)`.
        mask: `(batch, time)` bool, False at padding; None if there is none.
        chunk_size: positions per chunk; a shorter sequence is one chunk of its own length.

    Returns:
        `(batch, heads, time, head_dim)`; about zero where nothing has been seen (`EMPTY`).
    """
    narrow = query.shape[-1] ** -0.25
    query, key = query * narrow, key * narrow
    rows = features.to(query.dtype).t()
    of_query = torch.matmul(query, rows)  # (batch, heads, time, features), exponents
    of_key = torch.matmul(key, rows) - key.square().sum(-1, keepdim=True) / 2
    # The result does not depend on the scales, so no gradient passes through them.
    scale = of_key.detach().amax(-1)  # m, (batch, heads, time)
    query = (of_query - of_query.detach().amax(-1, keepdim=True)).exp()
    key = (of_key - scale.unsqueeze(-1)).exp()
    if mask is not None:
        key = key * mask[:, None, :, None]
        scale = scale.masked_fill(~mask.unsqueeze(1), NOTHING)
    counted = F.pad(value, (0, 1), value=1.0)  # numerator and denominator in one product

    time = query.shape[2]
    if time <= chunk_size:
        sums = _within(query, key, counted, scale, scale.cummax(-1).values)
    else:
        sums = _chunked(query, key, counted, scale, chunk_size)
    numerator, denominator = sums[..., :-1], sums[..., -1:]
    return numerator / denominator.masked_fill(denominator < EMPTY, 1.0)


def _within(query: Tensor, key: Tensor, value: Tensor, scale: Tensor, largest: Tensor) -> Tensor:
    """One chunk, `(..., time, width)`, from `(..., time, features)`, `(..., time, width)`."""
    time = query.shape[-2]
    gaps = scale.unsqueeze(-2) - largest.unsqueeze(-1)  # (..., time, time), m_s - M_t
    position = torch.arange(time, device=query.device)
    future = position > position.unsqueeze(1)
    weight = gaps.masked_fill(future, float("-inf")).exp()
    return torch.matmul(torch.matmul(query, key.transpose(-1, -2)) * weight, value)


def _chunked(query: Tensor, key: Tensor, value: Tensor, scale: Tensor, chunk_size: int) -> Tensor:
    """Several chunks: each on its own, plus what the state hands on from those before."""
    time = query.shape[2]
    chunks = -(-time // chunk_size)
    extra = chunks * chunk_size - time
    # Padding on the right, where nothing sees it.
    query, key, value = (F.pad(x, (0, 0, 0, extra)) for x in (query, key, value))
    scale = F.pad(scale, (0, extra), value=NOTHING)
    largest = scale.cummax(-1).values
    query, key, value, scale, largest = (  # each with (chunks, chunk) in place of time
        x.reshape(*x.shape[:2], chunks, chunk_size, *x.shape[3:])
        for x in (query, key, value, scale, largest)
    )
    inside = _within(query, key, value, scale, largest)

    # What each chunk adds to the state by its own end: (batch, heads, chunks, features, width).
    end = largest[..., -1]  # (batch, heads, chunks)
    weight = (scale - end.unsqueeze(-1)).exp().unsqueeze(-1)
    added = torch.matmul((key * weight).transpose(-1, -2), value)
    # The state before a chunk, at the scale before it: one product over the chunks.
    start = F.pad(end[..., :-1], (1, 0), value=NOTHING)
    earlier = torch.arange(chunks, device=query.device)
    gaps = end.unsqueeze(-2) - start.unsqueeze(-1)  # (batch, heads, chunks, chunks)
    gaps = gaps.masked_fill(earlier >= earlier.unsqueeze(1), float("-inf"))
    before = torch.matmul(gaps.exp(), added.flatten(3)).view_as(added)

    handed_on = torch.matmul(query, before)
    seen = (start.unsqueeze(-1) - largest).exp().unsqueeze(-1)
    return (inside + handed_on * seen).flatten(2, 3)[:, :, :time]
