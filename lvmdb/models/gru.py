"""The GRU.

    r, z = sigmoid(W_r x_t + U_r h_{t-1} + b_r), ...
    n = tanh(W_n x_t + b_n + r (U_n h_{t-1} + c_n));    h_t = (1 - z) n + z h_{t-1}

Cho et al. 2014, arXiv 1406.1078, in torch's form, which is that of the paper's first version: the
reset gate is behind U_n, not before it.
"""

from __future__ import annotations

from torch import nn

from lvmdb.models.configs.gru import GRUConfig
from lvmdb.models.recurrent import Recurrent


class GRU(Recurrent):
    """Stacked GRU between two projections; see `recurrent`."""

    def __init__(self, config: GRUConfig) -> None:
        super().__init__(config, nn.GRU)
