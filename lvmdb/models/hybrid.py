"""Mamba-2 blocks with an attention block in every few.

Lieber et al. 2024, "Jamba", arXiv 2403.19887: attention looks up exactly what a state of fixed size
has let go, and a few such blocks are enough. As there, the one of every n blocks is the middle one,
and attention is given no positions: the Mamba blocks before it have put the order into the stream
(section 6.5: a rotary embedding gains nothing), and padding on the left has nothing to shift.

The blocks are those of `mamba2`, and of `attention` with `feed_forward` behind it. Jamba has a
feed-forward part behind its Mamba blocks too, some with experts, and the first Mamba; a Mamba-2
block has a gate and widens by itself.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from lvmdb.models.attention import CausalAttention
from lvmdb.models.backbone import Backbone
from lvmdb.models.configs.hybrid import HybridConfig
from lvmdb.models.feed_forward import FeedForward
from lvmdb.models.mamba2 import mamba2_mixer
from lvmdb.models.mamba2_kernels import resolve_kernel

WRITERS = ("out_proj", "c_proj")
"""The last layer of each mixer, which writes to the stream."""


class Hybrid(Backbone):
    """The residual backbone with Mamba-2 mixers and a few of attention.

    `(batch, time, 768) -> (batch, 768)`, or `(batch, time, 768)` by `every`.
    """

    def __init__(self, config: HybridConfig) -> None:
        mixers: list[nn.Module] = []
        for layer in range(config.layers):
            if config.is_attention(layer):
                mixers.append(CausalAttention(config.d_model, config.heads))
                mixers.append(FeedForward(config.d_model))
            else:
                mixers.append(mamba2_mixer(config))
        super().__init__(
            config.input_dim, config.output_dim, config.d_model, mixers, config.dropout
        )
        self.requested = config.kernel
        # As in Mamba-2: the residual stream's variance does not grow with depth.
        with torch.no_grad():
            for mixer in mixers:
                for name, part in mixer.named_children():
                    if name in WRITERS and isinstance(part, nn.Linear):
                        part.weight /= math.sqrt(len(mixers))

    @property
    def kernel(self) -> str:
        """Of its Mamba-2 blocks: what runs on the device where the parameters are now."""
        return resolve_kernel(self.requested, self.output_projection.weight.device)
