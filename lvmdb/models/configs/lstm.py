"""Options of the LSTM."""

from __future__ import annotations

from dataclasses import dataclass

from lvmdb.models.configs.recurrent import RecurrentConfig


@dataclass(frozen=True, kw_only=True)
class LSTMConfig(RecurrentConfig):
    """A stacked LSTM; see `lstm`."""
