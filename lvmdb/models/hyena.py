"""Hyena: long convolutions and gates in turn, where a transformer has attention.

    x^1, ..., x^N, v = short convolutions of linear projections of u
    z^1 = v;    z^(n+1)_t = x^n_t (h^n * z^n)_t;    y = W z^(N+1)

Poli et al. 2023, "Hyena Hierarchy", arXiv 2302.10866, definition 3.1 and algorithms 1 to 3. The
filters h are in `hyena_filter`. A feed-forward part follows each operator.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lvmdb.models.backbone import Backbone
from lvmdb.models.causal_conv import causal_conv
from lvmdb.models.configs.hyena import HyenaConfig
from lvmdb.models.feed_forward import FeedForward
from lvmdb.models.hyena_filter import HyenaFilter
from lvmdb.models.long_conv import long_conv


class HyenaMixer(nn.Module):
    """One Hyena operator, `(batch, time, d_model) -> (batch, time, d_model)`.

    Args:
        d_model: width of the residual stream.
        order: long convolutions, each followed by a gate.
        d_conv: width of the short convolution of each projection.
        filter_len, filter_width, filter_bands: see `HyenaFilter`.
    """

    def __init__(
        self,
        d_model: int,
        order: int = 2,
        d_conv: int = 3,
        filter_len: int = 1024,
        filter_width: int = 64,
        filter_bands: int = 16,
    ) -> None:
        super().__init__()
        channels = (order + 1) * d_model
        self.d_model = d_model
        self.in_proj = nn.Linear(d_model, channels)
        # Holds the convolution's parameters; it is computed elsewhere.
        self.short_conv = nn.Conv1d(channels, channels, d_conv, groups=channels)
        self.filter = HyenaFilter(d_model, order, filter_len, filter_width, filter_bands)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(self, u: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix along time.

        Args:
            u: `(batch, time, d_model)`.
            mask: `(batch, time)` bool, False at padding on the left; None if there is none.

        Returns:
            `(batch, time, d_model)`.

        Raises:
            ModelError: the sequence is longer than `filter_len`.
        """
        with torch.autocast(u.device.type, enabled=False):
            filters: Tensor = self.filter(u.shape[1])  # (order, d_model, time)
        projected = self.in_proj(u)  # (batch, time, channels)
        if mask is not None:
            projected = projected * mask.unsqueeze(-1)
        projected = causal_conv(projected, self.short_conv.weight, self.short_conv.bias)
        *gates, z = torch.split(projected, self.d_model, -1)
        if mask is not None:
            # Both biases make padding look like an input; where z is blank, it stays so.
            z = z * mask.unsqueeze(-1)
        for gate, kernel in zip(gates, filters, strict=True):
            z = gate * long_conv(z, kernel)
        mixed: Tensor = self.out_proj(z)
        return mixed


class Hyena(Backbone):
    """The residual backbone with Hyena operators and feed-forward parts in turn.

    `(batch, time, 768) -> (batch, 768)`, or `(batch, time, 768)` by `every`.
    """

    def __init__(self, config: HyenaConfig) -> None:
        mixers: list[nn.Module] = []
        for _ in range(config.layers):
            operator = HyenaMixer(
                config.d_model,
                config.order,
                config.d_conv,
                config.filter_len,
                config.filter_width,
                config.filter_bands,
            )
            feed_forward = FeedForward(config.d_model)
            # As in GPT-2: the residual stream's variance does not grow with depth.
            with torch.no_grad():
                for last in (operator.out_proj, feed_forward.c_proj):
                    last.weight /= math.sqrt(2 * config.layers)
            mixers += [operator, feed_forward]
        super().__init__(
            config.input_dim, config.output_dim, config.d_model, mixers, config.dropout
        )
