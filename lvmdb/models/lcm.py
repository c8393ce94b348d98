"""The Large Concept Model, in three variants (LCM team 2024, arXiv 2412.08821).

base        a causal transformer that predicts the next concept itself, a regression (2.3.1)
one_tower   the same transformer, which denoises it behind its context (2.3.3)
two_tower   one tower reads the context, another denoises (2.3.4)

All are of the Llama recipe: pre-norm, RMSNorm, rotary positions, SwiGLU. The paper's PreNet and
PostNet, which bring concepts to unit order and to the model's width, and back, are the projections
at both ends with a factor of sqrt(output_dim): concepts are unit vectors already, and `centre`
moves them as the paper's PreNet does.

The presets are of `base`. The other variants of equal sizes have other options:

            d_model, layers, heads (contextualizer_layers)                 parameters
    toy     base 176, 2, 4    one_tower 152, 2, 4    two_tower 120, 2, 4 (1)     1.0 M
    small   base 256, 6, 4    one_tower 256, 5, 4    two_tower 240, 3, 4 (2)     5   M
    full    base 768, 16, 12  one_tower 768, 16, 12  two_tower 768, 10, 12 (2)   120 M
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor, nn

from lvmdb.models.backbone import Backbone
from lvmdb.models.base import LatentModel
from lvmdb.models.configs.lcm import LCMConfig
from lvmdb.models.lcm_towers import OneTower, TwoTower
from lvmdb.models.rotary import RotaryAttention, SwiGLU


class BaseLCM(Backbone):
    """Base-LCM, `(batch, time, 768) -> (batch, 768)`, or `(batch, time, 768)` by `every`."""

    def __init__(self, config: LCMConfig) -> None:
        def mixers() -> Iterator[nn.Module]:
            for _ in range(config.layers):
                yield RotaryAttention(config.d_model, config.heads)
                yield SwiGLU(config.d_model, config.inner)

        width, dropout = config.d_model, config.dropout
        super().__init__(config.input_dim, config.output_dim, width, mixers(), dropout)
        self.unit = math.sqrt(config.output_dim)
        # `LagResidual` expects an answer of unit order, and scales it itself.
        self._scale = 1.0 if config.residual else self.unit

    def embed(self, context: Tensor, padding: Tensor | None) -> Tensor:
        return super().embed(context * self.unit, padding)

    def predict(self, state: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        return super().predict(state, context, mask) / self._scale


def lcm(config: LCMConfig) -> LatentModel:
    """The variant that a configuration names."""
    if config.variant == "base":
        return BaseLCM(config)
    return OneTower(config) if config.variant == "one_tower" else TwoTower(config)
