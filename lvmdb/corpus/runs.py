"""Neighbours into runs of bounded size, cut where they are least close.

What episodes (concepts into runs of paragraphs) and the semantic chunker (sentences into concepts)
have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


def runs(
    sizes: Sequence[int] | Integers,
    closeness: Floats,
    cuts: Booleans,
    *,
    low: int,
    high: int,
    preferred: Booleans | None = None,
) -> list[tuple[int, int]]:
    """Neighbouring units as runs `[start, stop)`, in order, without gaps.

    1. The units are cut where `cuts` says.
    2. A run larger than `high` is cut in two at its least close place that leaves at least `low` on
       both sides (of equals, the first), and so on. Only if no such place is `preferred`, others
       count; only if there is none at all, it is cut where the sides are most alike.
    3. A run smaller than `low` joins the neighbour that it is closer to (of equals, the one
       before), from the first run to the last, and again while it is too small. If both together
       are larger than `high` they are cut anew as in 2.; if that leaves a side smaller than `low`,
       the other neighbour is tried in the same way, and else the run stays as it is.

    With units of size 1 and `high >= 2 low - 1` every run has `low` to `high` units, unless there
    are fewer than `low` in all: a single run then. No run is larger than `high` but a single unit.

    Args:
        sizes: `(n,)`, at least 1 each.
        closeness: `(n - 1,)` of each unit and the next.
        cuts: `(n - 1,)` where a unit and the next are parted.
        low, high: limits of the sum of a run's sizes.
        preferred: `(n - 1,)` where cuts are better made; by default anywhere.
    """
    if not len(sizes):
        return []
    field = _Field(sizes, closeness, preferred, low, high)
    bounds = [0, *(int(i) + 1 for i in np.flatnonzero(cuts)), len(sizes)]
    starts: list[int] = []
    for start, stop in pairwise(bounds):
        starts += field.split(start, stop)
    starts.append(len(sizes))
    run = 0
    while run < len(starts) - 1:
        joined = None
        if field.size(starts[run], starts[run + 1]) < low:
            joined = field.join(starts, run)
        run = run + 1 if joined is None else joined
    return list(pairwise(starts))


class _Field:
    def __init__(
        self,
        sizes: Sequence[int] | Integers,
        closeness: Floats,
        preferred: Booleans | None,
        low: int,
        high: int,
    ) -> None:
        self._low, self._high = low, high
        self._before = np.concatenate([[0], np.cumsum(sizes)])  # (n + 1,) sizes in front of a unit
        # Index i is the place in front of unit i.
        self._closeness = np.concatenate([[np.inf], closeness])
        self._preferred = self._closeness
        if preferred is not None:
            self._preferred = np.concatenate([[np.inf], np.where(preferred, closeness, np.inf)])

    def size(self, start: int, stop: int) -> int:
        return int(self._before[stop] - self._before[start])

    def split(self, start: int, stop: int) -> list[int]:
        """Where the runs begin that `[start, stop)` is cut into, the first at `start`."""
        done: list[int] = []
        todo = [(start, stop)]
        while todo:
            start, stop = todo.pop()
            if stop - start == 1 or self.size(start, stop) <= self._high:
                done.append(start)
                continue
            place = self._weakest(start, stop) or self._middle(start, stop)
            todo += [(place, stop), (start, place)]
        return done

    def join(self, starts: list[int], run: int) -> int | None:
        """Joins a run that is too small to a neighbour, in place.

        Returns:
            The number of the first run that is changed; None if neither neighbour can have it.
        """
        neighbours = [n for n in (run - 1, run + 1) if 0 <= n < len(starts) - 1]
        neighbours.sort(key=lambda n: -self._closeness[starts[max(n, run)]])
        for neighbour in neighbours:
            first = min(run, neighbour)
            start, stop = starts[first], starts[first + 2]
            if self.size(start, stop) <= self._high:
                del starts[first + 1]
                return first
            if place := self._weakest(start, stop):
                starts[first + 1] = place
                return first
        return None

    def _weakest(self, start: int, stop: int) -> int:
        """The least close place with at least `low` on both sides; 0 if there is none."""
        first = int(np.searchsorted(self._before, self._before[start] + self._low))
        last = int(np.searchsorted(self._before, self._before[stop] - self._low, side="right"))
        first, last = max(first, start + 1), min(last, stop)
        if first >= last:
            return 0
        place = first + int(self._preferred[first:last].argmin())
        if np.isinf(self._preferred[place]):
            place = first + int(self._closeness[first:last].argmin())
        return place

    def _middle(self, start: int, stop: int) -> int:
        inside = self._before[start + 1 : stop]
        middle = (self._before[start] + self._before[stop]) / 2
        return start + 1 + int(np.abs(inside - middle).argmin())
