"""Nearest concepts of a vector or of a concept, through an index or exactly."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.errors import CorpusError, UnknownNameError, UsageError
from lvmdb.retrieval.indexes import storages

EF_SEARCH = 100
"""Candidates that an HNSW search holds at least; never fewer than are asked for."""

MOST = 999
"""The largest k: pgvector's ef_search ends at 1000, and a concept's own row is one of them."""


@dataclass(frozen=True)
class Hit:
    """A concept that was found; `cosine` is of the full vectors, whatever the index stores."""

    cpe_id: uuid.UUID
    title: str
    article_id: int
    seq: int
    concept_text: str
    cosine: float


def by_vector(
    db: Database,
    dataset: str,
    vector: NDArray[np.float32] | Sequence[float],
    k: int = 10,
    *,
    exact: bool = False,
) -> list[Hit]:
    """The k nearest concepts of a vector `(768,)`, best first.

    Raises:
        UsageError: k is not from 1 to 999.
        CorpusError: the dataset has no index, and an exact search was not asked for.
    """
    numbers = np.asarray(vector, dtype=np.float32)
    norm = float(np.linalg.norm(numbers))
    if not np.isfinite(norm) or norm == 0:
        raise CorpusError("the vector to search for has no direction: it is zero or not finite")
    check(db, dataset, k, exact=exact)
    unit = numbers / norm
    return _search(db, dataset, "[" + ",".join(map(str, unit.tolist())) + "]", k, exact)


def by_concept(db: Database, cpe_id: str, k: int = 10, *, exact: bool = False) -> list[Hit]:
    """The k nearest concepts of a concept in its own dataset, itself left out.

    Raises:
        UnknownNameError: there is no such concept.
        CorpusError: it has no vector; or as `by_vector`.
    """
    try:
        key = str(uuid.UUID(cpe_id))
    except ValueError:
        raise UsageError(f"--cpe-id is a UUID, not '{cpe_id}'") from None
    with db.connect() as connection:
        row = connection.execute(
            query("retrieval", "concept_vector"), {"cpe_id": key}
        ).one_or_none()
    if row is None:
        raise UnknownNameError("concept", cpe_id)
    if row.concept_vec is None:
        raise CorpusError(f"concept {cpe_id} has no vector")
    check(db, row.dataset_source, k, exact=exact)
    hits = _search(db, row.dataset_source, row.concept_vec, k + 1, exact)
    return [hit for hit in hits if str(hit.cpe_id) != key][:k]


def check(db: Database, dataset: str, k: int, *, exact: bool = False) -> None:
    """Refuse a search that cannot be.

    Raises:
        UsageError, CorpusError: as `by_vector`.
    """
    if not 1 <= k <= MOST:
        raise UsageError(f"-k is from 1 to {MOST}, not {k}")
    if not exact and not storages(db, dataset):
        raise CorpusError(
            f"dataset '{dataset}' has no vector index: run 'lvmdb index build --dataset "
            f"{dataset}', or search with --exact"
        )


def _search(db: Database, dataset: str, literal: str, k: int, exact: bool) -> list[Hit]:
    name = (
        "nearest_halfvec" if not exact and "halfvec" in storages(db, dataset) else "nearest_vector"
    )
    with db.begin() as connection:
        configure(connection, k, exact=exact)
        parameters = {"dataset": dataset, "query": literal, "k": k}
        rows = connection.execute(query("retrieval", name), parameters).mappings()
        return [Hit(**row) for row in rows]


def configure(connection: Connection, k: int, *, exact: bool) -> None:
    """Settings of one search, for the transaction alone."""
    if exact:
        connection.execute(text("SET LOCAL enable_indexscan = off"))
        return
    connection.execute(
        text("SELECT set_config('hnsw.ef_search', :ef, true)"), {"ef": str(max(k, EF_SEARCH))}
    )
    # A filter never leaves fewer than k where k exist.
    connection.execute(text("SET LOCAL hnsw.iterative_scan = strict_order"))
    # The planner may price reading and sorting a small dataset below asking its vector index.
    connection.execute(text("SET LOCAL enable_sort = off"))
