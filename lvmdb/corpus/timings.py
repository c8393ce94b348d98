"""How long each step of an ingest took, added up by all of its threads until it is written."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from lvmdb.db.queries import query


class Timings:
    """Seconds and items by step."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: dict[str, tuple[int, float]] = {}

    @contextmanager
    def timed(self, step: str, items: int = 0) -> Iterator[None]:
        """Add the time of the block to a step, unless it fails."""
        began = time.perf_counter()
        yield
        self.spent(step, items, time.perf_counter() - began)

    def spent(self, step: str, items: int, seconds: float) -> None:
        """Add time that was measured elsewhere."""
        with self._lock:
            done, before = self._steps.get(step, (0, 0.0))
            self._steps[step] = (done + items, before + seconds)

    def write(self, connection: Connection, job_id: int) -> None:
        """Add to the job's rows what came in since the last call."""
        with self._lock:
            steps, self._steps = self._steps, {}
        if not steps:
            return
        connection.execute(
            query("ingest", "add_timings"),
            {
                "job_id": job_id,
                "steps": list(steps),
                "items": [items for items, _ in steps.values()],
                "seconds": [seconds for _, seconds in steps.values()],
            },
        )
