"""Options of the GRU."""

from __future__ import annotations

from dataclasses import dataclass

from lvmdb.models.configs.recurrent import RecurrentConfig


@dataclass(frozen=True, kw_only=True)
class GRUConfig(RecurrentConfig):
    """A stacked GRU; see `gru`."""
