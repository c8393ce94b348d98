"""Benchmark results as rows."""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import insert

from lvmdb.db.engine import Database
from lvmdb.db.schema.retrieval import benchmark

PEAK = "peak MB"
"""Unit of a process's peak memory above what it held before, in 10^6 bytes."""

POSITIONS = "positions/s"
"""Unit of how many positions of sequences a part of a model is trained on. What is measured has the
parameters `shape`, as in `64x5`, and `positions`, how many that is."""

CONCEPTS = "concepts/s"
"""Unit of how many concepts are ingested, by all steps or by one."""

REQUESTS = "requests/s"
"""Unit of how many requests a service answers."""


@dataclass(frozen=True)
class Measured:
    """One contender of a benchmark.

    Attributes:
        contender: its name.
        unit: of the values, e.g. `vectors/s`.
        samples: the repetitions, in order; contenders take turns.
        peer: the contender that it is compared with; None for none.
        parameters: of this contender alone.
    """

    contender: str
    unit: str
    samples: Sequence[float]
    peer: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

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
    """Store one call's contenders, each with the call's parameters and its own.

    Returns:
        Rows for people, with the ratio of each value to its peer's; None where the peer was not
        measured.
    """
    session = uuid.uuid4()
    own = [{**parameters, **m.parameters} | ({"peer": m.peer} if m.peer else {}) for m in measured]
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
                    "parameters": given,
                    "environment": dict(environment),
                }
                for m, given in zip(measured, own, strict=True)
            ],
        )
    medians: dict[tuple[str | None, str], float] = {
        (m.contender, m.unit): m.value for m in measured
    }
    return [
        {
            "benchmark": name,
            "subject": subject,
            "contender": m.contender,
            "value": m.value,
            "unit": m.unit,
            "peer": m.peer,
            "ratio": m.value / medians[m.peer, m.unit] if (m.peer, m.unit) in medians else None,
            "lowest": min(m.samples),
            "highest": max(m.samples),
            "samples": list(m.samples),
            "parameters": given,
        }
        for m, given in zip(measured, own, strict=True)
    ]
