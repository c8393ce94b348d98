"""Contenders of a benchmark take turns, so that what else the machine does meets them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lvmdb.db.benchmarks import PEAK, Measured
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences.memory import Peak


@dataclass(frozen=True)
class Contender:
    """One way of doing the work.

    Attributes:
        name: unique within the benchmark.
        unit: of its speed, e.g. `vectors/s`.
        ready: prepares a pass; what it returns is timed, and says how much was done.
        peer: the contender that it is compared with.
        passes: how many are measured, at most; None for all. One with so few is not warmed up.
        parameters: of this contender alone.
    """

    name: str
    unit: str
    ready: Callable[[], Callable[[], int]]
    peer: str | None = None
    passes: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def take_turns(
    contenders: Sequence[Contender],
    repetitions: int,
    *,
    progress: Progress = SILENT,
    peaks: bool = False,
    title: str = "measuring",
) -> list[Measured]:
    """Measure each once a repetition, every other one in reverse order.

    A round before them warms caches and is not counted.

    Args:
        contenders: in the order in which they are told.
        repetitions: how many are counted.
        progress: told of every pass.
        peaks: measure the process's peak memory as well, where the system tells it.
        title: of the progress.

    Returns:
        For each contender its speeds, then, with `peaks`, its peaks in MB.
    """
    speeds: dict[str, list[float]] = {one.name: [] for one in contenders}
    most: dict[str, list[float]] = {one.name: [] for one in contenders}
    rounds = [
        [one for one in contenders if one.passes is None or 0 < repetition <= one.passes]
        for repetition in range(repetitions + 1)
    ]
    with progress.task(title, sum(map(len, rounds)), "passes") as advance:
        for repetition, taking_part in enumerate(rounds):
            for one in taking_part if repetition % 2 else reversed(taking_part):
                speed, peak = _measured(one, peaks)
                if repetition:
                    speeds[one.name].append(speed)
                    most[one.name] += [] if peak is None else [peak / 1e6]
                advance(1)
    found = []
    for one in contenders:
        parameters = dict(one.parameters)
        if one.passes is not None:
            parameters["warmed_up"] = False
        found.append(Measured(one.name, one.unit, speeds[one.name], one.peer, parameters))
        if most[one.name]:
            found.append(Measured(one.name, PEAK, most[one.name], None, parameters))
    return found


def _measured(one: Contender, peaks: bool) -> tuple[float, int | None]:
    """Speed and peak memory of one pass; what it held is gone on return."""
    peak = Peak() if peaks else None
    work = one.ready()
    began = time.perf_counter()
    done = work()
    seconds = time.perf_counter() - began
    return done / seconds, None if peak is None else peak.bytes()
