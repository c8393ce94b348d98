"""How training reads and how often it is saved: options of the command, not of the run."""

from __future__ import annotations

from dataclasses import dataclass

BYTES = {"TB": 10**12, "GB": 10**9, "MB": 10**6, "KB": 10**3}
"""Units of a size, the largest first."""


@dataclass(frozen=True)
class Reading:
    """What changes no number of a run.

    Attributes:
        checkpoint_every: seconds between two checkpoints within an epoch; 0: after every batch.
        readers: connections that read, in each process.
        cache_bytes: of memory that each process's training data may take and stay in; 0: none.
        saves_when_stopped: at SIGTERM a run that one process trains is saved after a batch, and
            stops then.
    """

    checkpoint_every: float = 300.0
    readers: int = 1
    cache_bytes: int = 0
    saves_when_stopped: bool = False

    @property
    def stamps(self) -> list[str]:
        """What anyone who reads the run's numbers must know of it."""
        return [f"cache={shown_bytes(self.cache_bytes)}"] if self.cache_bytes else []


DEFAULT = Reading()


def shown_bytes(size: int) -> str:
    """A size as short as it can be said exactly, e.g. `2GB`."""
    for unit, factor in BYTES.items():
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"
