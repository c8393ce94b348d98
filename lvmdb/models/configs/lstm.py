"""Options of the LSTM."""

from __future__ import annotations

from dataclasses import dataclass

from lvmdb.models.config import TrainedConfig, at_least


@dataclass(frozen=True, kw_only=True)
class LSTMConfig(TrainedConfig):
    """A stacked LSTM; see `lstm`.

    Attributes:
        hidden: width of the state.
        layers: depth of the stack.
    """

    hidden: int = 512
    layers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("hidden", self.hidden, 1)
        at_least("layers", self.layers, 1)
