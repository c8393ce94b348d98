"""The members of ensembles, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, update

from lvmdb.db.queries import query
from lvmdb.db.schema.runs import ensemble_member


@dataclass(frozen=True)
class Member:
    """A run that an ensemble is made of.

    Attributes:
        run_id: of the member.
        weight: of what it predicts.
        status: of its run.
        parameter_count: of its model; None if it has not begun.
    """

    run_id: int
    weight: float
    status: str
    parameter_count: int | None


def members(connection: Connection, ensemble_run_id: int) -> list[Member]:
    """The members of an ensemble, by run."""
    rows = connection.execute(query("runs", "members"), {"ensemble_run_id": ensemble_run_id})
    return [Member(**row) for row in rows.mappings()]


def add_members(connection: Connection, ensemble_run_id: int, run_ids: Sequence[int]) -> None:
    """Give an ensemble its members, of equal weight."""
    rows = [
        {"ensemble_run_id": ensemble_run_id, "member_run_id": run_id, "weight": 1 / len(run_ids)}
        for run_id in run_ids
    ]
    connection.execute(insert(ensemble_member), rows)


def write_weights(
    connection: Connection, ensemble_run_id: int, weights: Sequence[tuple[int, float]]
) -> None:
    """Give members of an ensemble other weights: run and weight of each."""
    for run_id, weight in weights:
        connection.execute(
            update(ensemble_member)
            .where(
                ensemble_member.c.ensemble_run_id == ensemble_run_id,
                ensemble_member.c.member_run_id == run_id,
            )
            .values(weight=weight)
        )
