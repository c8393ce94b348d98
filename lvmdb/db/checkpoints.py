"""Checkpoints as rows: bytes in chunks, so that any machine with the DSN can go on or serve."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from lvmdb.db import bulk
from lvmdb.db.queries import query
from lvmdb.db.schema.runs import checkpoint
from lvmdb.errors import ModelError

CHUNK = 8 << 20
"""Bytes of a chunk."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint.

    Attributes:
        kind: `best` on validation, or `last`: where to go on.
        epoch: number of epochs done.
        step: number of global batches done in all.
        architecture, config: what to build before the weights are loaded.
        progress: the training loop's own state.
        data: safetensors bytes.
        batch: number of global batches done of the epoch after those that were done.
    """

    kind: str
    epoch: int
    step: int
    architecture: str
    config: Mapping[str, Any]
    progress: Mapping[str, Any]
    data: bytes
    batch: int = 0

    @property
    def sha256(self) -> bytes:
        """Of the bytes."""
        return hashlib.sha256(self.data).digest()


def save(connection: Connection, run_id: int, saved: Checkpoint) -> None:
    """Write a checkpoint in the connection's transaction, in place of the run's one of its kind."""
    connection.execute(
        delete(checkpoint).where(checkpoint.c.run_id == run_id, checkpoint.c.kind == saved.kind)
    )
    checkpoint_id = connection.execute(
        insert(checkpoint)
        .values(
            run_id=run_id,
            kind=saved.kind,
            epoch=saved.epoch,
            batch=saved.batch,
            step=saved.step,
            architecture=saved.architecture,
            config=dict(saved.config),
            progress=dict(saved.progress),
            bytes=len(saved.data),
            sha256=saved.sha256,
        )
        .returning(checkpoint.c.checkpoint_id)
    ).scalar_one()
    for ordinal, start in enumerate(range(0, len(saved.data), CHUNK)):
        bulk.copy_rows(
            connection,
            "checkpoint_chunk",
            {
                "checkpoint_id": bulk.integers([checkpoint_id], 8),
                "ordinal": bulk.integers([ordinal]),
                "data": bulk.binary([saved.data[start : start + CHUNK]]),
            },
        )


def load(connection: Connection, run_id: int, kind: str) -> Checkpoint | None:
    """A run's checkpoint of this kind; None if it has none.

    Raises:
        ModelError: its bytes are not those that were written.
    """
    row = (
        connection.execute(
            select(checkpoint).where(checkpoint.c.run_id == run_id, checkpoint.c.kind == kind)
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        return None
    chunks = connection.execute(
        query("runs", "checkpoint_data"), {"checkpoint_id": row["checkpoint_id"]}
    ).scalars()
    found = Checkpoint(
        kind=kind,
        epoch=row["epoch"],
        batch=row["batch"],
        step=row["step"],
        architecture=row["architecture"],
        config=row["config"],
        progress=row["progress"],
        data=b"".join(bytes(chunk) for chunk in chunks),
    )
    if found.sha256 != bytes(row["sha256"]):
        raise ModelError(
            f"the {kind} checkpoint of run {run_id} is damaged: its SHA-256 is not the one written"
        )
    return found


def checkpoint_sha256(connection: Connection, run_id: int, kind: str) -> bytes | None:
    """The hash of a run's checkpoint of this kind; None if it has none."""
    found = connection.execute(
        select(checkpoint.c.sha256).where(checkpoint.c.run_id == run_id, checkpoint.c.kind == kind)
    ).scalar_one_or_none()
    return None if found is None else bytes(found)
