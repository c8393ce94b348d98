"""A stream that is scaled by a code beside each concept.

    h_t = (1 + f(c_t)) * W_in x_t,    f(c) = W c + b, or a vector of its own where there is no code

The product is number by number, as the scales of FiLM (Perez et al. 2018, arXiv 1709.07871). `f`
starts at zero, so that training begins at the model without codes. "No code" is not a code: it has
a learnt vector, and no function of the zeros that stand for it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Conditioning(nn.Module):
    """`1 + f(code)`.

    Args:
        width: numbers of a code; all zero where there is none.
        d_model: width of the stream.
    """

    def __init__(self, width: int, d_model: int) -> None:
        super().__init__()
        self.width = width
        self.projection = nn.Linear(width, d_model)
        self.unknown = nn.Parameter(torch.zeros(d_model))
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, code: Tensor) -> Tensor:
        """`(..., width) -> (..., d_model)`, what the stream is multiplied by."""
        known = (code != 0).any(-1, keepdim=True)
        return 1 + torch.where(known, self.projection(code), self.unknown)
