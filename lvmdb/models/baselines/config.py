"""Configurations of the baselines, torch-free as those of the architectures."""

from __future__ import annotations

from dataclasses import dataclass

from lvmdb.errors import ModelError
from lvmdb.models.config import ModelConfig, at_least


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(ModelConfig):
    """A baseline without options of its own."""


@dataclass(frozen=True, kw_only=True)
class LagWeightsConfig(BaselineConfig):
    """The lag weights fitted for cosine; see `baselines.lag_weights`.

    Attributes:
        max_iterations: Newton steps at most; each is one pass over the training windows.
        tolerance: stop when a step wins less mean cosine than this.
    """

    max_iterations: int = 12
    tolerance: float = 1e-7

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("max_iterations", self.max_iterations, 1)
        if not self.tolerance > 0:
            raise ModelError(f"tolerance must be above 0, not {self.tolerance}")


@dataclass(frozen=True, kw_only=True)
class RidgeConfig(BaselineConfig):
    """The linear map; see `baselines.ridge`.

    Attributes:
        strengths: the grid, in units of the mean variance of an input times the number of windows.
    """

    strengths: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.strengths or any(not 0 < s < float("inf") for s in self.strengths):
            raise ModelError(
                f"strengths must be one or more numbers above 0, not {list(self.strengths)}"
            )


@dataclass(frozen=True, kw_only=True)
class NearestNeighbourConfig(BaselineConfig):
    """The nearest training context; see `baselines.neighbour`.

    Attributes:
        block: training contexts compared by one matrix product.
    """

    block: int = 8192

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("block", self.block, 1)
