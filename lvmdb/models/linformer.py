"""The Linformer: attention over a fixed number of learnt mixtures of the context.

    y = softmax(q (E k)^T / sqrt(head_dim)) (F v)        E, F: (rank, context_len)

Wang et al. 2020, arXiv 2006.04768, eq. 7, with an E and an F for each layer that its heads share
(section 4, "headwise sharing"). It costs time x rank, not time x time. A mixture may hold any
concept of the context, so every position knows those that follow it: the model predicts only after
the whole context, and has no objective `every`.

The last column of E and F belongs to the last concept. So a context that is padded on the left is
the same as a shorter one, which uses the last columns alone.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmdb.errors import ModelError
from lvmdb.models.attention import SelfAttention
from lvmdb.models.base import LatentModel
from lvmdb.models.configs.linformer import LinformerConfig
from lvmdb.models.transformer import Transformer


class LinformerAttention(SelfAttention):
    """Attention of every position to `rank` mixtures of all positions.

    Args:
        d_model: width of the residual stream.
        heads: number of heads; divides `d_model`.
        rank: number of mixtures.
        context_len: positions of the longest context.
    """

    def __init__(self, d_model: int, heads: int, rank: int, context_len: int) -> None:
        super().__init__(d_model, heads)
        self.key_projection = nn.Parameter(torch.empty(rank, context_len))  # E
        self.value_projection = nn.Parameter(torch.empty(rank, context_len))  # F
        for projection in (self.key_projection, self.value_projection):
            nn.init.xavier_uniform_(projection, gain=1 / math.sqrt(2))  # as the authors start them

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            present = mask[:, None, :, None]  # (batch, 1, time, 1)
            key, value = key * present, value * present
        time, head_dim = key.shape[2:]
        of_keys = self.key_projection[:, -time:]  # (rank, time)
        of_values = self.value_projection[:, -time:]
        rank = of_keys.shape[0]
        if time * (head_dim + rank) >= 2 * rank * head_dim:
            mixed_keys = torch.matmul(of_keys, key)  # (batch, heads, rank, head_dim)
            return F.scaled_dot_product_attention(query, mixed_keys, torch.matmul(of_values, value))
        # In a short context the same products cost less the other way round: q (E k)^T is
        # (q k^T) E^T, and w (F v) is (w F) v.
        scores = torch.matmul(torch.matmul(query, key.transpose(-1, -2)), of_keys.t())
        weights = (scores / math.sqrt(head_dim)).softmax(-1)  # (batch, heads, time, rank)
        return torch.matmul(torch.matmul(weights, of_values), value)


class Linformer(Transformer):
    """GPT-2's frame with low-rank attention, `(batch, time, 768) -> (batch, 768)`."""

    def __init__(self, config: LinformerConfig) -> None:
        super().__init__(
            config,
            lambda: LinformerAttention(
                config.d_model, config.heads, config.rank, config.context_len
            ),
            config.context_len,
        )

    def embed(self, context: Tensor, padding: Tensor | None) -> Tensor:
        """The projected context plus the positions, `(batch, time, d_model)`.

        Raises:
            ModelError: the context is longer than the model's.
        """
        known, time = self.positions.num_embeddings, context.shape[1]
        if time > known:
            raise ModelError(
                f"the model was made for contexts of {known} concepts, not of {time}: "
                "give the last ones only"
            )
        return super().embed(context, padding)

    def states(self, context: Tensor, mask: Tensor) -> Tensor:
        """Refused: what stands at a position knows what follows it."""
        return LatentModel.states(self, context, mask)
