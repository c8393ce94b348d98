"""Means over an epoch: summed where the tensors are, and exact across interruptions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Totals:
    """Sums on the host, as JSON can hold them: Python writes and reads its floats exactly.

    Attributes:
        count: vectors that were predicted.
        sums: of each value over them.
    """

    count: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Each sum over the count."""
        return {name: total / self.count for name, total in self.sums.items()}


def added(parts: Iterable[Totals]) -> Totals:
    """The totals of several processes as one, in the order given; one comes back as it is."""
    count, sums = 0, dict[str, float]()
    for part in parts:
        count += part.count
        for name, total in part.sums.items():
            sums[name] = sums[name] + total if name in sums else total
    return Totals(count, sums)


class Averages:
    """Running sums of values that are means over a batch.

    In float64, but on Apple's GPUs, which have none.

    Args:
        begun: totals to go on from.
    """

    def __init__(self, begun: Totals | None = None) -> None:
        begun = begun or Totals()
        self._count = begun.count
        self._sums = {
            name: torch.tensor(total, dtype=torch.float64) for name, total in begun.sums.items()
        }

    def add(self, values: dict[str, torch.Tensor], count: int) -> None:
        """Values that are means over so many predicted vectors; over none they are not looked at.

        Args:
            values: scalars by name, all on one device.
            count: how many vectors each is the mean of.
        """
        if not count:
            return
        self._count += count
        for name, value in values.items():
            kind = torch.float32 if value.device.type == "mps" else torch.float64
            term = value.detach().to(kind) * count
            before = self._sums.get(name)
            self._sums[name] = term if before is None else before.to(term) + term

    def totals(self) -> Totals:
        """The sums so far, on the host."""
        return Totals(self._count, {name: float(total) for name, total in self._sums.items()})
