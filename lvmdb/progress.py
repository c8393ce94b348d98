"""Progress of long work: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

Advance = Callable[[int], None]

LINE_EVERY = 10.0
"""Seconds between two plain lines about the same work."""


class Progress:
    """Where long work reports to.

        with progress.task("encoding", total=1200, unit="concepts") as advance:
            advance(32)

    Args:
        enabled: False reports nothing.
        stream: where to write; standard error by default, so that output can be piped.
    """

    def __init__(self, *, enabled: bool = True, stream: TextIO | None = None) -> None:
        self._enabled = enabled
        self._stream = stream or sys.stderr
        self._console = Console(file=self._stream, highlight=False)

    @contextmanager
    def task(self, name: str, total: int, unit: str = "") -> Iterator[Advance]:
        """Work of `total` steps; yields what to call with the number of steps just done."""
        if not self._enabled:
            yield lambda _: None
        elif self._console.is_terminal:
            with Bars(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(unit),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            ) as bars:
                task = bars.add_task(name, total=total)
                yield lambda steps: bars.advance(task, steps)
        else:
            lines = _Lines(name, total, unit, self.say)
            yield lines.advance
            lines.finish()

    def say(self, line: str) -> None:
        """One line for people."""
        if self._enabled:
            self._console.print(line, markup=False, soft_wrap=True)


SILENT = Progress(enabled=False)


class _Lines:
    def __init__(self, name: str, total: int, unit: str, say: Callable[[str], None]) -> None:
        self._name, self._total, self._unit, self._say = name, total, unit, say
        self._done = 0
        self._began = self._said = time.monotonic()

    def advance(self, steps: int) -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._said >= LINE_EVERY:
            self._said = now
            share = f" ({100 * self._done // self._total} %)" if self._total else ""
            self._say(f"{self._name}: {self._done}/{self._total} {self._unit}{share}")

    def finish(self) -> None:
        seconds = time.monotonic() - self._began
        self._say(f"{self._name}: {self._done} {self._unit} in {seconds:.1f} s")
