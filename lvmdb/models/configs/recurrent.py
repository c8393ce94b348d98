"""Options that the LSTM and the GRU share."""

from __future__ import annotations

from dataclasses import dataclass

from lvmdb.models.config import TrainedConfig, at_least


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig(TrainedConfig):
    """A stack of recurrent layers; see `recurrent`.

    Attributes:
        hidden: width of the state.
        layers: depth of the stack.
        stack_residual: add each layer's input to what it says, for stacks of four and more.
    """

    hidden: int = 512
    layers: int = 2
    stack_residual: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("hidden", self.hidden, 1)
        at_least("layers", self.layers, 1)
