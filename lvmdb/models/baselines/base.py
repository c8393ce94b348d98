"""The interface of a baseline: fitted in a few passes, then it predicts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from torch import Tensor

from lvmdb.errors import ModelError
from lvmdb.models.config import ModelConfig
from lvmdb.sequences.batch import SequenceBatch

Passes: TypeAlias = Callable[[], Iterable[SequenceBatch]]
"""Starts a pass over a split: each call gives the same batches in the same order."""


class Baseline(ABC):
    """A predictor that is fitted, not trained.

    Predictions are not normalised: each baseline says what its length means.

    Attributes:
        kernel: name of the implementation that runs.
        refit_on_load: True if the fit is the training set itself, so that a checkpoint holds
            nothing and whoever loads one fits again.
    """

    kernel = "torch"
    refit_on_load = False

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    @abstractmethod
    def fit(self, train: Passes, validation: Passes, seed: int) -> None:
        """Learn from the training windows.

        Args:
            train: starts a pass over the training windows.
            validation: starts a pass over the validation windows.
            seed: the run's seed.

        Raises:
            ModelError: a split that is needed has no windows, or they do not fit the configuration.
        """

    @abstractmethod
    def predict(self, batch: SequenceBatch) -> Tensor:
        """Predict the vectors that follow, `(batch, output_dim)` float32.

        Raises:
            ModelError: the baseline has not been fitted.
        """

    def state(self) -> dict[str, Tensor]:
        """What was learnt, as named tensors; empty if there is nothing to learn."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave.

        Raises:
            ModelError: the names or shapes are not this baseline's.
        """
        self._check(state, {})

    def context(self, batch: SequenceBatch) -> Tensor:
        """The batch's context `(batch, context_len, input_dim)` with zeros for padding."""
        expected = (self.config.context_len, self.config.input_dim)
        if tuple(batch.context.shape[1:]) != expected:
            raise ModelError(
                f"the baseline reads contexts of shape (batch, {expected[0]}, {expected[1]}), "
                f"not {tuple(batch.context.shape)}"
            )
        return batch.context.masked_fill(~batch.mask.unsqueeze(-1), 0.0)

    @staticmethod
    def _check(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
        found = {name: tuple(tensor.shape) for name, tensor in state.items()}
        if found != dict(shapes):
            raise ModelError(f"the stored baseline has {found}, this one expects {dict(shapes)}")


def fitted(value: Tensor | None) -> Tensor:
    """What was learnt, or a `ModelError` if nothing was yet."""
    if value is None:
        raise ModelError("the baseline has not been fitted: train the run first")
    return value


def no_windows(split: str) -> ModelError:
    """The error for a split that a fit needs and that is empty."""
    return ModelError(f"the {split} split has no windows: create a sequence set with more articles")
