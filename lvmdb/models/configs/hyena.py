"""Options of Hyena."""

from __future__ import annotations

from dataclasses import dataclass

from lvmdb.models.config import TrainedConfig, at_least


@dataclass(frozen=True, kw_only=True)
class HyenaConfig(TrainedConfig):
    """A stack of Hyena operators, each followed by a feed-forward part; see `hyena`.

    Attributes:
        d_model: width of the residual stream.
        layers: number of pairs of an operator and a feed-forward part.
        order: long convolutions, each followed by a gate, in an operator.
        d_conv: width of the short convolution of each projection.
        filter_len: the longest sequence that can be read; long filters are functions of a position
            as a share of it.
        filter_width: width of the network that is a layer's long filters.
        filter_bands: frequencies in which that network sees a position.
    """

    d_model: int = 256
    layers: int = 4
    order: int = 2
    d_conv: int = 3
    filter_len: int = 1024
    filter_width: int = 64
    filter_bands: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("d_model", "layers", "order", "d_conv", "filter_width", "filter_bands"):
            at_least(name, getattr(self, name), 1)
        at_least("filter_len", self.filter_len, self.context_len)
