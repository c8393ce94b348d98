"""Options of RWKV."""

from __future__ import annotations

from dataclasses import dataclass

from lvmdb.models.config import TrainedConfig, at_least


@dataclass(frozen=True, kw_only=True)
class RWKVConfig(TrainedConfig):
    """A stack of RWKV-4 blocks; see `rwkv`.

    Attributes:
        d_model: width of the residual stream.
        layers: number of blocks, each of a time-mixing and a channel-mixing part.
        expand: inner width of channel-mixing as a multiple of `d_model`.
    """

    d_model: int = 256
    layers: int = 4
    expand: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("d_model", "layers", "expand"):
            at_least(name, getattr(self, name), 1)
