"""The feed-forward part of a transformer's block: each position by itself.

    y = W_2 gelu(W_1 x + b_1) + b_2

Vaswani et al. 2017, arXiv 1706.03762, section 3.3, four times as wide inside; with the tanh form of
GELU (Hendrycks & Gimpel 2016, arXiv 1606.08415) and the parameters' names as GPT-2 has them.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

EXPAND = 4
"""Inner width as a multiple of the stream's."""


class FeedForward(nn.Module):
    """A mixer of channels, `(batch, time, d_model) -> (batch, time, d_model)`.

    Args:
        d_model: width of the residual stream.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(d_model, EXPAND * d_model)
        self.c_proj = nn.Linear(EXPAND * d_model, d_model)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`(batch, time, d_model) -> (batch, time, d_model)`; no position sees another."""
        mixed: Tensor = self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))
        return mixed
