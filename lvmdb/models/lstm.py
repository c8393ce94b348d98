"""The LSTM.

    i, f, o = sigmoid(W_i x_t + U_i h_{t-1} + b_i), ...    g = tanh(W_g x_t + U_g h_{t-1} + b_g)
    c_t = f c_{t-1} + i g;    h_t = o tanh(c_t)

Hochreiter & Schmidhuber 1997; the forget gate is Gers, Schmidhuber & Cummins 2000. With 512 x 2 the
model has 4,990,208 parameters.
"""

from __future__ import annotations

from torch import nn

from lvmdb.models.configs.lstm import LSTMConfig
from lvmdb.models.recurrent import Recurrent


class LSTM(Recurrent):
    """Stacked LSTM between two projections; see `recurrent`."""

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config, nn.LSTM)
