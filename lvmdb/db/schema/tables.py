"""All tables in one metadata object, for migrations and for tests of drift."""

from __future__ import annotations

from lvmdb.db.schema import (
    corpus,
    decoding,
    evaluations,
    ingest,
    retrieval,
    runs,
    schedules,
    sequences,
)
from lvmdb.db.schema.base import metadata

GROUPS = (corpus, ingest, sequences, runs, evaluations, retrieval, schedules, decoding)

__all__ = ["GROUPS", "metadata"]
