"""What an ingest job is about, what became of it, and whether somebody works on the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from lvmdb.db.queries import query


@dataclass(frozen=True)
class Task:
    """What a job is about; processes with equal ones may share it.

    Attributes:
        dataset, reader, source: where from, where to.
        options: everything else, as JSON.
        shared: whether others may join; else the job is this process's alone.
        total: articles of the source, if they were counted.
    """

    dataset: str
    reader: str
    source: str
    options: Mapping[str, Any]
    shared: bool = True
    total: int | None = None


@dataclass(frozen=True)
class Totals:
    """What all processes of a job did.

    Attributes:
        status: `succeeded`, or `failed` if there was any error.
        read, added, changed, unchanged, failed: numbers of articles.
        vanished: articles that are no longer in their source; None if nobody looked.
        concepts: how many were written.
        errors: rows of `ingest_error`.
        workers: how many processes worked on it.
    """

    status: str
    read: int
    added: int
    changed: int
    unchanged: int
    failed: int
    vanished: int | None
    concepts: int
    errors: int
    workers: int


def find(connection: Connection, task: Task) -> int | None:
    """The job of this task that somebody works on."""
    row = connection.execute(
        query("ingest", "job_to_join"),
        {
            "dataset": task.dataset,
            "reader": task.reader,
            "source": task.source,
            "options": json.dumps(task.options),
        },
    ).one_or_none()
    return None if row is None else int(row.job_id)
