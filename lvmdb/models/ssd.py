"""Mamba-2's sequence transformation (state space duality), as matrix products in plain torch.

The recurrence, for each head h with a scalar decay (Dao & Gu 2024, arXiv 2405.21060, eq. 2 and
section 6, Listing 1; one group: B and C are shared by all heads):

    S_t = exp(dt_t A) S_{t-1} + dt_t x_t B_t^T        S: (head_dim, state)
    y_t = S_t C_t + D x_t

Within a chunk it is `y = M x` with the lower triangular matrix
`M_ij = (C_i . B_j) exp(A (dt_{j+1} + ... + dt_i)) dt_j`; between chunks
only the state is handed on.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def ssd(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, chunk_size: int
) -> Tensor:
    """Run the recurrence over a whole sequence, starting from a zero state.

    Args:
        x: inputs `(batch, time, heads, head_dim)`.
        dt: step sizes, positive, `(batch, time, heads)`.
        a: decay rates, negative, `(heads,)`.
        b: input projections `(batch, time, state)`.
        c: output projections `(batch, time, state)`.
        d: skip weights `(heads,)`.
        chunk_size: positions per chunk; a shorter sequence is one chunk of its own length.

    Returns:
        `(batch, time, heads, head_dim)`, in the type of `x`.
    """
    time = x.shape[1]
    if time <= chunk_size:
        return _within(x, dt, (dt * a).cumsum(1), b, c, d)
    return _chunked(x, dt, a, b, c, d, chunk_size)


def _within(x: Tensor, dt: Tensor, decay: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """One chunk, `y = M x`; `decay` is the running sum of `dt * a`, `(batch, time, heads)`."""
    time = x.shape[1]
    log_decay = decay.transpose(1, 2)  # (batch, heads, time)
    gaps = log_decay.unsqueeze(-1) - log_decay.unsqueeze(-2)  # (batch, heads, time, time)
    position = torch.arange(time, device=x.device)
    future = position > position.unsqueeze(1)  # (time, time)
    # The future is masked before the exponential: after it, an overflow there would turn the
    # gradient of the past into NaN.
    kernel = gaps.masked_fill(future, float("-inf")).exp()
    scores = torch.matmul(c, b.transpose(1, 2)).unsqueeze(1)  # (batch, 1, time, time)
    mixing = kernel * scores * dt.transpose(1, 2).unsqueeze(-2)
    # D is a diagonal of M: adding it here touches time x time numbers, not time x head_dim.
    mixing = mixing + torch.diag_embed(d.unsqueeze(-1).expand(-1, time))
    y = torch.matmul(mixing.to(x.dtype), x.transpose(1, 2))  # (batch, heads, time, head_dim)
    return y.transpose(1, 2)


def _chunked(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, chunk_size: int
) -> Tensor:
    """Several chunks: each on its own, plus what the state hands on from those before."""
    batch, time, heads, head_dim = x.shape
    state = b.shape[-1]
    chunks = -(-time // chunk_size)
    extra = chunks * chunk_size - time
    # Padding on the right with dt = 0 neither decays a state nor adds to one.
    x, dt = F.pad(x, (0, 0, 0, 0, 0, extra)), F.pad(dt, (0, 0, 0, extra))
    b, c = F.pad(b, (0, 0, 0, extra)), F.pad(c, (0, 0, 0, extra))

    x = x.reshape(batch * chunks, chunk_size, heads, head_dim)
    dt = dt.reshape(batch * chunks, chunk_size, heads)
    b = b.reshape(batch * chunks, chunk_size, state)
    c = c.reshape(batch * chunks, chunk_size, state)
    decay = (dt * a).cumsum(1)  # (batch * chunks, chunk, heads)
    inside = _within(x, dt, decay, b, c, d)

    # What each chunk adds to the state by its own end: (batch * chunks, state, heads * head_dim).
    weight = ((decay[:, -1:] - decay).exp() * dt).unsqueeze(-1)
    added = torch.matmul(b.transpose(1, 2), (x * weight).flatten(2))
    added = added.view(batch, chunks, state, heads, head_dim)
    whole = decay[:, -1].exp().view(batch, chunks, 1, heads, 1)

    carried = [torch.zeros_like(added[:, 0])]
    for chunk in range(chunks - 1):
        carried.append(carried[-1] * whole[:, chunk] + added[:, chunk])
    before = torch.stack(carried, 1).view(batch * chunks, state, heads * head_dim)

    handed_on = torch.matmul(c, before).view(batch * chunks, chunk_size, heads, head_dim)
    y = inside + handed_on * decay.exp().unsqueeze(-1)
    return y.reshape(batch, chunks * chunk_size, heads, head_dim)[:, :time]
