"""The LSTM: projection 768 -> hidden, stacked cells, projection back.

    i, f, o = sigmoid(W_i x_t + U_i h_{t-1} + b_i), ...    g = tanh(W_g x_t + U_g h_{t-1} + b_g)
    c_t = f c_{t-1} + i g;    h_t = o tanh(c_t)

Hochreiter & Schmidhuber 1997; the forget gate is Gers, Schmidhuber & Cummins 2000. With 512 x 2 the
model has 4,990,208 parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from lvmdb.models.base import LatentModel, read_context
from lvmdb.models.configs.lstm import LSTMConfig


class LSTM(LatentModel):
    """Stacked LSTM, `(batch, time, 768) -> (batch, 768)`, or `(batch, time, 768)` by `every`."""

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config.input_dim)
        self.input_projection = nn.Linear(config.input_dim, config.hidden)
        # torch drops between the layers, and warns where there is nothing in between.
        between = config.dropout if config.layers > 1 else 0.0
        self.lstm = nn.LSTM(
            config.hidden, config.hidden, config.layers, batch_first=True, dropout=between
        )
        self.dropout = nn.Dropout(config.dropout)
        self.output_projection = nn.Linear(config.hidden, config.output_dim)

    def last_state(self, context: Tensor, mask: Tensor) -> Tensor:
        context, padding = read_context(context, mask, self.input_dim)
        projected = self.input_projection(context)  # (batch, time, hidden)
        if padding is None:
            _, (states, _) = self.lstm(projected)
        else:
            _, (states, _) = self.lstm(_packed(projected, padding))
        last = states[-1]  # (batch, hidden), the top layer's state after the last concept
        dropped: Tensor = self.dropout(last)
        return dropped

    def states(self, context: Tensor, mask: Tensor) -> Tensor:
        context, padding = read_context(context, mask, self.input_dim)
        projected = self.input_projection(context)  # (batch, time, hidden)
        if padding is None:
            states, _ = self.lstm(projected)
        else:
            packed, _ = self.lstm(_packed(projected, padding))
            states = _unpacked(packed, padding)
        dropped: Tensor = self.dropout(states)
        return dropped


def _packed(projected: Tensor, mask: Tensor) -> PackedSequence:
    """The concepts of `(batch, time, hidden)` alone.

    A zero input still moves the state, through the biases. Packed, each sequence starts where its
    concepts start.
    """
    lengths = _lengths(mask)
    left = _rotated(projected, -lengths)
    return pack_padded_sequence(left, lengths.cpu(), batch_first=True, enforce_sorted=False)


def _unpacked(states: PackedSequence, mask: Tensor) -> Tensor:
    """Back to `(batch, time, hidden)`, each state where its concept stood; zeros at padding."""
    left, _ = pad_packed_sequence(states, batch_first=True, total_length=mask.shape[1])
    return _rotated(left, _lengths(mask))


def _lengths(mask: Tensor) -> Tensor:
    """Steps of each sequence, `(batch,)`.

    A row without any concept keeps a blank one, because an empty sequence cannot be packed.
    """
    return mask.sum(1).clamp(min=1)


def _rotated(x: Tensor, by: Tensor) -> Tensor:
    """Each row of `(batch, time, width)` moved along time, out at one end and in at the other.

    What stands at `t + by` comes to `t`. Packing wants the padding, which is on the left, on the
    right: `by = -length` moves it there, `by = length` back.
    """
    steps = torch.arange(x.shape[1], device=x.device)
    source = (steps + by.unsqueeze(1)) % x.shape[1]  # (batch, time)
    return x.gather(1, source.unsqueeze(-1).expand_as(x))
