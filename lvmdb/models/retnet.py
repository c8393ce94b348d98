"""RetNet: gated multi-scale retention and a feed-forward part.

Sun et al. 2023, "Retentive Network", arXiv 2307.08621, section 2; with x in the stream:

    head_h = retention(x W_Q, x W_K, x W_V; gamma_h)
    MSR(x) = (swish(x W_G) * GroupNorm(head_1, ..., head_H)) W_O,    FFN(x) = gelu(x W_1) W_2

Values and gate are twice as wide as the stream, the feed-forward part as well (section 3.1). The
group norm makes any factor of a head's output at one position vanish, but for its epsilon. So the
paper divides by what keeps numbers small, and all three forms divide by the same here: by
sqrt(key_dim); by the root of the sum of decays; and by the sum of scores where it exceeds one.

Where torchscale differs from the paper's text: its norm is an RMSNorm without weights; it takes no
gradient through the sum of scores; its recurrent form leaves that sum out, and its chunkwise form
takes sums of absolute values, so that its forms agree but for epsilon.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmdb.models.attention import merge_heads, split_heads
from lvmdb.models.backbone import Backbone
from lvmdb.models.configs.retnet import RetNetConfig
from lvmdb.models.retention import chunkwise, log_decays, parallel, rotate

WIDEN = 2
"""Width of values, of the gate and inside of the feed-forward part, as a multiple of d_model."""

GROUP_NORM_EPS = 1e-6
"""As torchscale has it. Outputs of heads start small: their variance is about 3e-5."""

GAIN = 2**-2.5
"""Of the initial projections into the heads, as torchscale has it."""


class MultiScaleRetention(nn.Module):
    """The part that mixes along time, `(batch, time, d_model)` to the same.

    Args:
        d_model: width of the residual stream.
        heads: number of heads; `d_model / heads` is even.
        chunk_size: longer sequences are cut into chunks of so many positions.
    """

    def __init__(self, d_model: int, heads: int, chunk_size: int = 64) -> None:
        super().__init__()
        self.heads = heads
        self.chunk_size = chunk_size
        self.scale = (d_model // heads) ** -0.5
        values = WIDEN * d_model
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, values, bias=False)
        self.g_proj = nn.Linear(d_model, values, bias=False)
        self.out_proj = nn.Linear(values, d_model, bias=False)
        self.group_norm = nn.GroupNorm(heads, values, eps=GROUP_NORM_EPS)
        for linear in (self.q_proj, self.k_proj, self.v_proj, self.g_proj):
            nn.init.xavier_uniform_(linear.weight, gain=GAIN)
        nn.init.xavier_uniform_(self.out_proj.weight)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix along time.

        Args:
            x: `(batch, time, d_model)`.
            mask: `(batch, time)` bool, False at padding on the left; None if there is none.

        Returns:
            `(batch, time, d_model)`.
        """
        if mask is not None:
            x = x * mask.unsqueeze(-1)  # a key of zero leaves nothing behind
        query = rotate(split_heads(self.q_proj(x), self.heads))
        key = rotate(split_heads(self.k_proj(x), self.heads)) * self.scale
        value = split_heads(self.v_proj(x), self.heads)  # (batch, heads, time, value_dim)
        retained = merge_heads(self.retain(query, key, value, mask))
        normed = self.group_norm(retained.flatten(0, 1)).view_as(retained)
        mixed: Tensor = self.out_proj(F.silu(self.g_proj(x)) * normed)
        return mixed

    def retain(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """What each head retains, divided as the paper divides.

        Args:
            query, key: `(batch, heads, time, key_dim)`.
            value: `(batch, heads, time, value_dim)`.
            mask: `(batch, time)` or None; where it is False, keys are zero.

        Returns:
            `(batch, heads, time, value_dim)`.
        """
        log_decay = log_decays(self.heads, query)
        # The sum of scores is what a value of one would be retained to.
        value = torch.cat([value, torch.ones_like(value[..., :1])], -1)
        if value.shape[2] <= self.chunk_size:
            retained = parallel(query, key, value, log_decay)
        else:
            retained = chunkwise(query, key, value, log_decay, self.chunk_size)
        retained = retained / _decay_sums(log_decay, retained, mask).sqrt()
        return retained[..., :-1] / retained[..., -1:].abs().clamp(min=1)


class FFN(nn.Module):
    """The part that mixes along channels, `(batch, time, d_model)` to the same.

    Args:
        d_model: width of the residual stream.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(d_model, WIDEN * d_model, bias=False)
        self.fc2 = nn.Linear(WIDEN * d_model, d_model, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`(batch, time, d_model) -> (batch, time, d_model)`; no position sees another."""
        mixed: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return mixed


class RetNet(Backbone):
    """The residual backbone with retention and feed-forward parts.

    `(batch, time, 768) -> (batch, 768)`, or `(batch, time, 768)` by `every`.
    """

    def __init__(self, config: RetNetConfig) -> None:
        mixers: list[nn.Module] = []
        for _ in range(config.layers):
            mixers.append(MultiScaleRetention(config.d_model, config.heads, config.chunk_size))
            mixers.append(FFN(config.d_model))
        super().__init__(
            config.input_dim, config.output_dim, config.d_model, mixers, config.dropout
        )


def _decay_sums(log_decay: Tensor, retained: Tensor, mask: Tensor | None) -> Tensor:
    """The sum of decays up to each position, `(batch or 1, heads, time, 1)`.

    Of a geometric series, whose length is counted from the first concept.
    """
    if mask is None:
        count = torch.arange(1, retained.shape[2] + 1, device=retained.device).view(1, 1, -1, 1)
    else:
        count = mask.cumsum(1).clamp(min=1).view(len(mask), 1, -1, 1)
    log_decay = log_decay.view(-1, 1, 1)
    return torch.expm1(count * log_decay) / torch.expm1(log_decay)
