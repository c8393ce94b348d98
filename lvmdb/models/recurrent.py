"""What the LSTM and the GRU share: projection 768 -> hidden, stacked layers, projection back.

    h_0 = W_in x;    h_{l+1} = RNN_l(h_l)             or, with `stack_residual`,
                     h_{l+1} = h_l + RNN_l(h_l);      y = W_out h_N

The residual is that of Wu et al. 2016, arXiv 1609.08144, section 3.1 and eq. 6, there without a
norm, too: what a layer says is between -1 and 1, so that the sum grows by no more than one a layer.
(There it starts at the third layer; here each has it.) Dropout is between the layers and
behind the last: Zaremba, Sutskever & Vinyals 2014, arXiv 1409.2329.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lvmdb.models.base import LatentModel, read_context
from lvmdb.models.configs.recurrent import RecurrentConfig


class Recurrent(LatentModel):
    """A recurrent stack, `(batch, time, 768) -> (batch, 768)`, or `(batch, time, 768)` by `every`.

    Args:
        config: widths and depth.
        kind: torch's module; the stack is the child of its name in lower case (`lstm`, `gru`).
    """

    def __init__(self, config: RecurrentConfig, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__(config.input_dim)
        self.input_projection = nn.Linear(config.input_dim, config.hidden)
        self._stack = kind.__name__.lower()
        stack: nn.Module
        if config.stack_residual:
            stack = ResidualStack(config, kind)
        else:
            # torch drops between the layers, and warns where there is nothing in between.
            between = config.dropout if config.layers > 1 else 0.0
            stack = kind(
                config.hidden, config.hidden, config.layers, batch_first=True, dropout=between
            )
        self.add_module(self._stack, stack)
        self.dropout = nn.Dropout(config.dropout)
        self.output_projection = nn.Linear(config.hidden, config.output_dim)

    def last_state(self, context: Tensor, mask: Tensor) -> Tensor:
        dropped: Tensor = self.dropout(self._top(context, mask)[:, -1])
        return dropped

    def states(self, context: Tensor, mask: Tensor) -> Tensor:
        dropped: Tensor = self.dropout(self._top(context, mask))
        return dropped

    def _top(self, context: Tensor, mask: Tensor) -> Tensor:
        """What the top layer says after each position, `(batch, time, hidden)`; zero at padding."""
        context, padding = read_context(context, mask, self.input_dim)
        stack = self.get_submodule(self._stack)
        said: Tensor
        if padding is None:
            said, _ = stack(self.input_projection(context))
            return said
        # A zero input still moves the state, through the biases: the concepts go first, the padding
        # behind them, where it is too late.
        lengths = padding.sum(1)  # (batch,)
        said, _ = stack(self.input_projection(_rotated(context, -lengths)))
        return _rotated(said, lengths).masked_fill(~padding.unsqueeze(-1), 0.0)


class ResidualStack(nn.Module):
    """Recurrent layers, each added to its input; called and answering as torch's own stack.

    Args:
        config: widths and depth.
        kind: torch's module of one layer.
    """

    def __init__(self, config: RecurrentConfig, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            kind(config.hidden, config.hidden, batch_first=True) for _ in range(config.layers)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, stream: Tensor) -> tuple[Tensor, None]:
        """`(batch, time, hidden) -> (batch, time, hidden)`, and no last states."""
        for depth, layer in enumerate(self.layers):
            said, _ = layer(self.dropout(stream) if depth else stream)
            stream = stream + said
        return stream, None


def _rotated(x: Tensor, by: Tensor) -> Tensor:
    """Each row of `(batch, time, width)` moved along time, out at one end and in at the other.

    What stands at `t + by` comes to `t`: with padding on the left, `by = -length` moves it to the
    right, `by = length` back.
    """
    steps = torch.arange(x.shape[1], device=x.device)
    source = (steps + by.unsqueeze(1)) % x.shape[1]  # (batch, time)
    return x.gather(1, source.unsqueeze(-1).expand_as(x))
