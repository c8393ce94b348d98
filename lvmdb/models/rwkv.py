"""RWKV-4: a recurrent network whose training runs over all positions at once.

Peng et al. 2023, "RWKV: Reinventing RNNs for the Transformer Era", arXiv 2305.13048, section 3.
A block mixes along time, then along channels; each reads a position beside the one before it
(token shift, x' = mu x_t + (1 - mu) x_{t-1} with a mu for each use):

    time:     r, k, v = W_r x', W_k x', W_v x';    o = W_o (sigmoid(r) wkv(k, v))
    channels: r, k = W_r x', W_k x';               o = sigmoid(r) (W_v max(k, 0)^2)

Parameters have the names, shapes and initial values of upstream's release (`time_mix_key` and so on
as in transformers' port), and the backbone has upstream's LayerNorms, the one behind the embedding
included. So published blocks load under these names:

    blocks.0.pre_ln -> pre_ln                 ln_out -> norm
    blocks.I.ln1 -> blocks.2I.norm            blocks.I.attention -> blocks.2I.mixer
    blocks.I.ln2 -> blocks.2I+1.norm          blocks.I.feed_forward -> blocks.2I+1.mixer
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmdb.models.backbone import NORM_EPS, Backbone
from lvmdb.models.configs.rwkv import RWKVConfig
from lvmdb.models.wkv import NOTHING, wkv


class TimeMixing(nn.Module):
    """The part of a block that mixes along time, `(batch, time, d_model)` to the same.

    Args:
        d_model: width of the residual stream.
        layer: which block, from 0; deeper ones start with slower decays and look back less.
        layers: of how many.
    """

    def __init__(self, d_model: int, layer: int = 0, layers: int = 1) -> None:
        super().__init__()
        depth, rest = _depth(layer, layers)
        channel = torch.arange(d_model)
        speed = (channel / max(1, d_model - 1)) ** (0.7 + 1.3 * depth)
        self.time_decay = nn.Parameter(8 * speed - 5)  # the logarithm of w
        zigzag = 0.5 * ((channel + 1) % 3 - 1)
        self.time_first = nn.Parameter(math.log(0.3) + zigzag)
        place = (channel / d_model).view(1, 1, d_model)
        self.time_mix_key = nn.Parameter(place**rest)
        self.time_mix_value = nn.Parameter(place**rest + 0.3 * depth)
        self.time_mix_receptance = nn.Parameter(place ** (0.5 * rest))
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.receptance = nn.Linear(d_model, d_model, bias=False)
        self.output = nn.Linear(d_model, d_model, bias=False)
        _start([self.value], zero=[self.key, self.receptance, self.output])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix along time.

        Args:
            x: `(batch, time, d_model)`.
            mask: `(batch, time)` bool, False at padding on the left; None if there is none.

        Returns:
            `(batch, time, d_model)`.
        """
        x, before = _shifted(x, mask)
        key: Tensor = self.key(torch.lerp(before, x, self.time_mix_key))
        value: Tensor = self.value(torch.lerp(before, x, self.time_mix_value))
        receptance: Tensor = self.receptance(torch.lerp(before, x, self.time_mix_receptance))
        # Sums over many positions need float32 even where the rest runs in half precision.
        wide = torch.promote_types(key.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            key, value = key.to(wide), value.to(wide)
            if mask is not None:
                key = key.masked_fill(~mask.unsqueeze(-1), NOTHING)
            mixed = wkv(self.time_decay.to(wide).exp(), self.time_first.to(wide), key, value)
        out: Tensor = self.output(torch.sigmoid(receptance) * mixed)
        return out


class ChannelMixing(nn.Module):
    """The part of a block that mixes along channels, `(batch, time, d_model)` to the same.

    Args:
        d_model: width of the residual stream.
        inner: width in between.
        layer, layers: as for `TimeMixing`.
    """

    def __init__(self, d_model: int, inner: int, layer: int = 0, layers: int = 1) -> None:
        super().__init__()
        _, rest = _depth(layer, layers)
        place = (torch.arange(d_model) / d_model).view(1, 1, d_model)
        self.time_mix_key = nn.Parameter(place**rest)
        self.time_mix_receptance = nn.Parameter(place**rest)
        self.key = nn.Linear(d_model, inner, bias=False)
        self.receptance = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(inner, d_model, bias=False)
        _start([self.key], zero=[self.receptance, self.value])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix along channels; arguments and result as of `TimeMixing`."""
        x, before = _shifted(x, mask)
        key = F.relu(self.key(torch.lerp(before, x, self.time_mix_key))).square()
        receptance: Tensor = self.receptance(torch.lerp(before, x, self.time_mix_receptance))
        out: Tensor = torch.sigmoid(receptance) * self.value(key)
        return out


class RWKV(Backbone):
    """The residual backbone with RWKV-4's mixers and LayerNorms.

    `(batch, time, 768) -> (batch, 768)`, or `(batch, time, 768)` by `every`.
    """

    def __init__(self, config: RWKVConfig) -> None:
        inner = config.expand * config.d_model
        mixers: list[nn.Module] = []
        for layer in range(config.layers):
            mixers.append(TimeMixing(config.d_model, layer, config.layers))
            mixers.append(ChannelMixing(config.d_model, inner, layer, config.layers))
        super().__init__(
            config.input_dim, config.output_dim, config.d_model, mixers, config.dropout, _layer_norm
        )
        self.pre_ln = _layer_norm(config.d_model)

    def embed(self, context: Tensor, padding: Tensor | None) -> Tensor:
        normed: Tensor = self.pre_ln(super().embed(context, padding))
        return normed


def _layer_norm(width: int) -> nn.Module:
    return nn.LayerNorm(width, eps=NORM_EPS)


def _depth(layer: int, layers: int) -> tuple[float, float]:
    """How deep a block is, from 0 to 1, and what is above it, from 1 to almost 0."""
    return layer / max(1, layers - 1), 1 - layer / layers


def _start(orthogonal: list[nn.Linear], zero: list[nn.Linear]) -> None:
    """Upstream's initial weights: what a block adds to the stream starts at zero."""
    for linear in orthogonal:
        rows, columns = linear.weight.shape
        nn.init.orthogonal_(linear.weight, gain=math.sqrt(max(1.0, rows / columns)))
    for linear in zero:
        nn.init.zeros_(linear.weight)


def _shifted(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """`x` blank at padding (norms' biases fill it), and the same a position later.

    Before the first concept, as before the start of a sequence, there are zeros.
    """
    if mask is not None:
        x = x * mask.unsqueeze(-1)
    return x, F.pad(x, (0, 0, 1, -1))
