"""Vector indexes as rows: which a dataset has, what they are tuned to, whether it changed since."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection, delete, select

from lvmdb.db.engine import Database, raw
from lvmdb.db.indexes import KINDS, METRICS, STORAGES, drop
from lvmdb.db.queries import psycopg_sql, query
from lvmdb.db.schema.retrieval import ann_index
from lvmdb.errors import CorpusError, DatabaseError, UnknownNameError, UsageError

EF_SEARCH, EF_MOST = 100, 1000
"""Candidates that an HNSW search holds, unless its index was tuned; the most that there can be."""

MOST_WORKERS = 64
"""Processes, or threads, that help to build."""

AMONG = 200
"""Candidates of an index on bits, which are ranked again, unless it was tuned."""


@dataclass(frozen=True)
class Usable:
    """An index that the database has and can search.

    Attributes:
        name: of the index.
        kind, storage, metric: as in `lvmdb.db.indexes`.
        vectors: how many it held when it was built.
        lists: of an IVFFlat index.
        tuned: its own `ef_search` or `probes`; None if it was never tuned.
        tuned_k: how many nearest it was tuned for.
    """

    name: str
    kind: str
    storage: str
    metric: str
    vectors: int
    lists: int | None = None
    tuned: int | None = None
    tuned_k: int = 10

    def effort(self, k: int) -> int:
        """What a search for k uses, `ef_search` or `probes`: what was tuned, in proportion for a
        larger k than that; else the program's default."""
        if self.kind == "ivfflat":
            return min(self.most_effort, self.tuned or math.ceil(math.sqrt(self.most_effort)))
        start = AMONG if self.storage == "bit" else EF_SEARCH
        if self.tuned is not None:
            start = math.ceil(self.tuned * max(1.0, k / self.tuned_k))
        return min(EF_MOST, max(start, k))

    def among(self, effort: int) -> int:
        """Of an index on bits, how many candidates are ranked again: all that a graph holds."""
        return AMONG if self.kind == "ivfflat" else effort

    @property
    def effort_name(self) -> str:
        """`ef_search` or `probes`."""
        return "probes" if self.kind == "ivfflat" else "ef_search"

    @property
    def most_effort(self) -> int:
        """The most that `effort_name` may be."""
        return (self.lists or 1) if self.kind == "ivfflat" else EF_MOST


def usable(db: Database, dataset: str) -> list[Usable]:
    """The indexes of a dataset that can be searched, the preferred first: by inner product before
    cosine, halfvec before vector before bit."""
    with db.connect() as connection:
        rows = connection.execute(query("retrieval", "usable_indexes"), {"dataset": dataset}).all()
    found = []
    for row in rows:
        tuned = row.query_parameters or {}
        found.append(
            Usable(
                name=row.name,
                kind=row.kind,
                storage=row.storage,
                metric=row.metric,
                vectors=row.vectors,
                lists=row.parameters.get("nlist"),
                tuned=tuned.get("probes" if row.kind == "ivfflat" else "ef_search"),
                tuned_k=(row.tuning or {}).get("k", 10),
            )
        )
    return found


def choose(
    db: Database,
    dataset: str,
    *,
    kind: str | None = None,
    storage: str | None = None,
    metric: str | None = None,
) -> Usable:
    """The preferred index of a dataset, among those of a kind, storage and metric.

    Raises:
        UsageError: there is no such kind, storage or metric at all.
        CorpusError: the dataset has no such index.
    """
    check_options(kind=kind, storage=storage, metric=metric)
    wanted = {"kind": kind, "storage": storage, "metric": metric}
    for index in usable(db, dataset):
        if all(value in (None, getattr(index, name)) for name, value in wanted.items()):
            return index
    asked = " ".join(value for value in wanted.values() if value)
    options = "".join(f" --{name} {value}" for name, value in wanted.items() if value)
    raise CorpusError(
        f"dataset '{dataset}' has no {asked + ' ' if asked else ''}vector index: run 'lvmdb index "
        f"build --dataset {dataset}{options}', or search with --exact"
    )


def remove(db: Database, name: str) -> None:
    """Drop an index and its row; of a FAISS index its files.

    Raises:
        UnknownNameError: lvmdb built no such index.
    """
    with db.begin() as connection:
        rows = connection.execute(
            select(ann_index.c.name, ann_index.c.engine, ann_index.c.dataset_source)
        ).all()
        known = {row.name: row for row in rows}
        if name not in known:
            raise UnknownNameError("index", name, known)
        lock(raw(connection), known[name].dataset_source)
        connection.execute(delete(ann_index).where(ann_index.c.name == name))
        if known[name].engine == "pgvector":
            drop(raw(connection), name)
    if known[name].engine == "faiss":
        from lvmdb.retrieval.faiss_files import ids_path

        for path in (Path(name), ids_path(Path(name))):
            path.unlink(missing_ok=True)


def lock(connection: psycopg.Connection[Any], dataset: str) -> None:
    """Keep others from building or dropping an index of the dataset until the session ends.

    Raises:
        DatabaseError: another session is at it.
    """
    row = connection.execute(psycopg_sql("retrieval", "lock_indexes"), {"dataset": dataset})
    if row.fetchone() != (True,):
        raise DatabaseError(
            f"another session is building or dropping an index of dataset '{dataset}': wait for it"
        )


def check_options(**wanted: str | None) -> None:
    """Refuse a kind, storage or metric that no index has.

    Raises:
        UsageError: there is no such one.
    """
    known = {"kind": KINDS, "storage": STORAGES, "metric": METRICS}
    for option, value in wanted.items():
        if value not in (None, *known[option]):
            raise UsageError(f"--{option} is one of {', '.join(known[option])}, not {value}")


def check_workers(workers: int) -> None:
    """Refuse a number of helpers that no build can have.

    Raises:
        UsageError: it is not from 0 to 64.
    """
    if not 0 <= workers <= MOST_WORKERS:
        raise UsageError(f"--workers is from 0 to {MOST_WORKERS}, not {workers}")


def listing(db: Database) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns, and a row for each index: as it was built and tuned, whether its corpus changed.

    A dataset whose rows are the versions that an index was built over is the same; of others the
    vectors' fingerprint is computed.
    """
    rows: list[dict[str, Any]] = []
    with db.connect() as connection:
        now = _Now(connection)
        for row in map(dict, connection.execute(query("retrieval", "list_indexes")).mappings()):
            tuned = row["query_parameters"] or {}
            told = row["tuning"] or {}
            shown = {
                "parameters": _shown(row["parameters"]),
                "seconds": round(row["seconds"], 1),
                "usable": _is_there(row),
                "stale": now.differs(row, row["corpus_fingerprint"]),
                "searches": _shown(tuned) or None,
                "recall": told.get("mean"),
                "tuning_stale": now.differs(row, row["tuned_fingerprint"]) if told else None,
            }
            rows.append({name: {**row, **shown}[name] for name in _COLUMNS})
    return list(_COLUMNS), rows


_COLUMNS = (
    "name", "dataset", "engine", "kind", "storage", "metric", "parameters", "vectors", "seconds",
    "workers", "bytes", "usable", "stale", "searches", "recall", "tuning_stale", "created_at",
)  # fmt: skip


class _Now:
    """What datasets are now, computed at most once each."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._marks: dict[str, str] = {}
        self._fingerprints: dict[str, bytes] = {}

    def differs(self, row: Mapping[str, Any], fingerprint: bytes) -> bool:
        """Whether the dataset of a row has another fingerprint than this."""
        dataset = row["dataset"]
        if row["corpus_mark"] is not None and fingerprint == row["corpus_fingerprint"]:
            if dataset not in self._marks:
                self._marks[dataset] = mark(self._connection, dataset)
            if self._marks[dataset] == row["corpus_mark"]:
                return False
        if dataset not in self._fingerprints:
            found = self._connection.execute(
                query("retrieval", "corpus_fingerprint"), {"dataset": dataset}
            ).one()
            self._fingerprints[dataset] = bytes(found.fingerprint)
        return self._fingerprints[dataset] != fingerprint


def mark(connection: Connection, dataset: str) -> str:
    """Which versions of rows a dataset has now."""
    found = connection.execute(query("retrieval", "corpus_mark"), {"dataset": dataset})
    return str(found.scalar_one())


def _is_there(row: Mapping[str, Any]) -> bool:
    return bool(row["usable"] if row["engine"] == "pgvector" else Path(row["name"]).is_file())


def _shown(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in parameters.items())
