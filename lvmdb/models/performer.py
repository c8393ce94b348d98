"""The Performer: causal attention whose softmax is estimated by random features.

Choromanski et al. 2021, "Rethinking Attention with Performers", arXiv 2009.14794: FAVOR+, which
costs time, not time x time; see `favor`. The features are drawn when the model is built, for each
layer its own, which the layer's heads share, and stay as they are: the state dict holds them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lvmdb.models.attention import SelfAttention
from lvmdb.models.configs.performer import PerformerConfig
from lvmdb.models.favor import favor, orthogonal_features
from lvmdb.models.transformer import Transformer


class PerformerAttention(SelfAttention):
    """Causal FAVOR+ attention.

    Args:
        d_model: width of the residual stream.
        heads: number of heads; divides `d_model`.
        features: number of random features.
        chunk_size: positions handled by one matrix product.
    """

    features: Tensor

    def __init__(self, d_model: int, heads: int, features: int, chunk_size: int) -> None:
        super().__init__(d_model, heads)
        self.chunk_size = chunk_size
        self.register_buffer("features", orthogonal_features(features, d_model // heads))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        # Exponentials and their sums need float32 even where the rest runs in half precision.
        wide = torch.promote_types(query.dtype, torch.float32)
        with torch.autocast(query.device.type, enabled=False):
            mixed = favor(
                query.to(wide), key.to(wide), value.to(wide), self.features, mask, self.chunk_size
            )
        return mixed.to(query.dtype)


class Performer(Transformer):
    """GPT-2's frame with FAVOR+ attention.

    `(batch, time, 768) -> (batch, 768)`, or `(batch, time, 768)` by `every`.
    """

    def __init__(self, config: PerformerConfig) -> None:
        super().__init__(
            config,
            lambda: PerformerAttention(
                config.d_model, config.heads, config.features, config.chunk_size
            ),
            config.max_positions,
        )
