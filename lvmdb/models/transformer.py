"""The frame that transformers share: GPT-2's, around any kind of attention.

    h_0 = W_in x + p;    h' = h + attention(LN(h));    h'' = h' + feed_forward(LN(h'))

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners": norms before the parts
and one behind the last, learnt positions p. GPT-2 drops numbers of the embedding and of the
attention's weights too; here only what the parts add to the stream is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from lvmdb.errors import ModelError
from lvmdb.models.attention import SelfAttention
from lvmdb.models.backbone import NORM_EPS, Backbone
from lvmdb.models.configs.transformer import TransformerConfig
from lvmdb.models.feed_forward import FeedForward

# Deviation of a fresh weight; those that write to the stream have it over sqrt(2 * layers).
WEIGHT_STD = 0.02


def layer_norm(width: int) -> nn.Module:
    """LayerNorm with a bias, as GPT-2 has it."""
    return nn.LayerNorm(width, eps=NORM_EPS)


class Transformer(Backbone):
    """The residual backbone with attention and feed-forward parts by turns.

    Args:
        config: widths and depth.
        attention: makes the attention of one block.
        positions: number of learnt positions; they are counted from the first concept.
    """

    def __init__(
        self, config: TransformerConfig, attention: Callable[[], SelfAttention], positions: int
    ) -> None:
        mixers: list[nn.Module] = []
        for _ in range(config.layers):
            mixers += [attention(), FeedForward(config.d_model)]
        super().__init__(
            config.input_dim, config.output_dim, config.d_model, mixers, config.dropout, layer_norm
        )
        self.positions = nn.Embedding(positions, config.d_model)
        nn.init.normal_(self.positions.weight, std=WEIGHT_STD)
        for mixer in mixers:
            for name, part in mixer.named_children():
                if isinstance(part, nn.Linear):
                    shrunk = math.sqrt(len(mixers)) if name == "c_proj" else 1.0
                    nn.init.normal_(part.weight, std=WEIGHT_STD / shrunk)
                    nn.init.zeros_(part.bias)

    def embed(self, context: Tensor, padding: Tensor | None) -> Tensor:
        """The projected context plus the positions, `(batch, time, d_model)`.

        Raises:
            ModelError: there are more concepts than positions.
        """
        projected = super().embed(context, padding)
        known, time = self.positions.num_embeddings, context.shape[1]
        if padding is None:
            if time > known:
                raise _too_long(known, time)
            return projected + self.positions.weight[:time]
        position = (padding.cumsum(1) - 1).clamp(min=0)  # (batch, time)
        if time > known and (longest := int(position.max()) + 1) > known:
            raise _too_long(known, longest)
        located: Tensor = projected + self.positions(position)
        return located


def _too_long(known: int, time: int) -> ModelError:
    return ModelError(
        f"the model has positions for {known} concepts, not for {time}: give it shorter "
        f"sequences (sequence_len), or train one with max_positions={time}"
    )
