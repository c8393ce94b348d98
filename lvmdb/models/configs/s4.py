"""Options of S4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lvmdb.errors import ModelError
from lvmdb.models.config import TrainedConfig, at_least, one_of

VARIANTS = ("s4d", "dplr")
STARTS = ("legs", "lin", "inv")


@dataclass(frozen=True, kw_only=True)
class S4Config(TrainedConfig):
    """A stack of S4 layers; see `s4`.

    Attributes:
        d_model: width of the residual stream.
        layers: number of layers.
        d_state: numbers of state per channel, in conjugate pairs.
        variant: the state matrix: `s4d`, a diagonal; `dplr`, a diagonal less a matrix of rank one.
        start: what the state matrix starts at: `legs`, HiPPO-LegS; `lin` or `inv`, of `s4d` alone.
        dt_min: the shortest step size that a channel starts with.
        dt_max: the longest; a channel with a step size of dt remembers some 1 / dt concepts.
    """

    d_model: int = 256
    layers: int = 4
    d_state: int = 64
    variant: Literal["s4d", "dplr"] = "s4d"
    start: Literal["legs", "lin", "inv"] = "legs"
    dt_min: float = 0.001
    dt_max: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("d_model", "layers"):
            at_least(name, getattr(self, name), 1)
        at_least("d_state", self.d_state, 2)
        if self.d_state % 2:
            raise ModelError(f"d_state must be even (conjugate pairs), not {self.d_state}")
        one_of("variant", self.variant, VARIANTS)
        one_of("start", self.start, STARTS)
        if self.variant == "dplr" and self.start != "legs":
            raise ModelError(f"variant dplr has the start legs, not '{self.start}'")
        if not 0 < self.dt_min <= self.dt_max < float("inf"):
            raise ModelError(
                f"dt_min must be above 0 and at most dt_max ({self.dt_max}), not {self.dt_min}"
            )
