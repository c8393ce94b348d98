"""What a run was made from and with, as flat names and values that two runs can be compared by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from lvmdb.db.queries import query
from lvmdb.errors import UnknownNameError


@dataclass(frozen=True)
class Provenance:
    """Where a run's numbers come from.

    Attributes:
        run_id: of the run.
        configuration: architecture, loss, seed and every option.
        data: sequence set, dataset, fingerprint.
        code: version, and whether it had changes that are in no commit.
        machine: device, kernel, and the environment, e.g. `packages.torch`.
        fingerprint: of the data, as hexadecimal.
        loss: what was trained for; None for a baseline.
        best_val_loss, best_epoch: None where there was no validation loss.
    """

    run_id: int
    configuration: Mapping[str, object]
    data: Mapping[str, object]
    code: Mapping[str, object]
    machine: Mapping[str, object]
    fingerprint: str
    loss: str | None
    best_val_loss: float | None
    best_epoch: int | None

    @property
    def conditions(self) -> dict[str, object]:
        """Code and machine: what may give other numbers for the same configuration and data."""
        return {**self.code, **self.machine}


def provenance(connection: Connection, run_id: int) -> Provenance:
    """The provenance of a run.

    Raises:
        UnknownNameError: there is no such run.
    """
    found = connection.execute(query("comparison", "run_facts"), {"run_id": run_id})
    row = found.mappings().one_or_none()
    if row is None:
        raise UnknownNameError("run", run_id, hint="'lvmdb runs list' shows those that exist")
    return Provenance(
        run_id=row["run_id"],
        configuration={
            **{name: row[name] for name in ("kind", "architecture", "loss", "seed")},
            "parent": row["parent_run_id"],
            "members": row["members"],
            "parameters": row["parameter_count"],
            "stamps": " ".join(row["stamps"]),
            **row["hyperparameters"],
        },
        data={name: row[name] for name in ("sequence_set", "dataset", "fingerprint")},
        code={"code_version": row["code_version"], "uncommitted_changes": row["code_dirty"]},
        machine={
            "device": row["device"],
            "kernel": row["kernel"],
            **_flat(row["environment"] or {}),
        },
        fingerprint=row["fingerprint"],
        loss=row["loss"],
        best_val_loss=row["best_val_loss"],
        best_epoch=row["best_epoch"],
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
