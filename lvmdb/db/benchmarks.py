"""Benchmark results as rows."""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert

from lvmdb.db.engine import Database
from lvmdb.db.schema.retrieval import benchmark


@dataclass(frozen=True)
class Measured:
    """One contender of a benchmark.

    Attributes:
        contender: its name.
        unit: of the values, e.g. `vectors/s`.
        samples: the repetitions, in order; contenders take turns.
    """

    contender: str
    unit: str
    samples: Sequence[float]

    @property
    def value(self) -> float:
        """The median, which a disturbed repetition does not move."""
        return statistics.median(self.samples)


def write(
    db: Database,
    name: str,
    subject: str,
    measured: Sequence[Measured],
    *,
    parameters: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> list[dict[str, object]]:
    """Store one call's contenders; returns rows for people, with each one's ratio to the first."""
    session = uuid.uuid4()
    with db.begin() as connection:
        connection.execute(
            insert(benchmark),
            [
                {
                    "session_id": session,
                    "name": name,
                    "subject": subject,
                    "contender": m.contender,
                    "value": m.value,
                    "unit": m.unit,
                    "samples": list(m.samples),
                    "parameters": dict(parameters),
                    "environment": dict(environment),
                }
                for m in measured
            ],
        )
    first = measured[0].value
    return [
        {
            "benchmark": name,
            "subject": subject,
            "contender": m.contender,
            "value": round(m.value, 1),
            "unit": m.unit,
            "ratio": round(m.value / first, 3),
            "lowest": round(min(m.samples), 1),
            "highest": round(max(m.samples), 1),
        }
        for m in measured
    ]
