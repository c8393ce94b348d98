"""Vector indexes: the only data definition that lvmdb composes at run time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from psycopg import sql
from sqlalchemy import Connection

from lvmdb.db.engine import raw
from lvmdb.db.types import DIMENSION
from lvmdb.errors import UsageError

STORAGES = ("halfvec", "vector")
_BYTES = {"halfvec": 2, "vector": 4}
_IDENTIFIER = 63
"""PostgreSQL cuts longer names."""


@dataclass(frozen=True)
class HNSW:
    """How an HNSW index is built (Malkov & Yashunin 2018).

    Attributes:
        storage: `halfvec`, half the memory and no measurable loss of order, or `vector`.
        m: neighbours of a vector in a layer.
        ef_construction: candidates held while a vector is inserted.
    """

    storage: str = "halfvec"
    m: int = 16
    ef_construction: int = 64

    def __post_init__(self) -> None:
        if self.storage not in STORAGES:
            raise UsageError(f"--storage is one of {', '.join(STORAGES)}, not {self.storage}")
        if not 2 <= self.m <= 100:
            raise UsageError(f"--m is from 2 to 100, not {self.m}")
        if not max(4, 2 * self.m) <= self.ef_construction <= 1000:
            raise UsageError(
                f"--ef-construction is from twice --m ({2 * self.m}) to 1000, "
                f"not {self.ef_construction}"
            )

    @property
    def parameters(self) -> dict[str, int]:
        """The index's own, as they are stored."""
        return {"m": self.m, "ef_construction": self.ef_construction}

    def memory(self, vectors: int) -> int:
        """Bytes that building takes, by pgvector's own layout, a tenth added.

        Each element holds its vector, and 2m neighbours of 16 bytes in the lowest layer; the
        layers above add a share of 1/(m - 1).
        """
        neighbours = 16 * 2 * self.m * (1 + 1 / (self.m - 1))
        element = DIMENSION * _BYTES[self.storage] + neighbours + 200
        return int(1.1 * vectors * element)


def index_name(dataset: str, index: HNSW) -> str:
    """The index's name: one for a dataset and a storage."""
    name = f"ix_cpe_entry_hnsw_{index.storage}_{dataset}"
    if len(name) <= _IDENTIFIER:
        return name
    digest = hashlib.sha256(dataset.encode()).hexdigest()[:8]
    return f"{name[: _IDENTIFIER - 9]}_{digest}"


def create_hnsw(connection: Connection, dataset: str, index: HNSW) -> str:
    """Build the index over one dataset's vectors in the connection's transaction; its name."""
    name = index_name(dataset, index)
    column = {
        "vector": sql.SQL("concept_vec vector_ip_ops"),
        "halfvec": sql.SQL("(concept_vec::halfvec({})) halfvec_ip_ops").format(DIMENSION),
    }[index.storage]
    raw(connection).execute(
        sql.SQL(
            "CREATE INDEX {} ON cpe_entry USING hnsw ({}) WITH (m = {}, ef_construction = {}) "
            "WHERE dataset_source = {}"
        ).format(
            sql.Identifier(name),
            column,
            sql.Literal(index.m),
            sql.Literal(index.ef_construction),
            sql.Literal(dataset),
        )
    )
    return name


def drop(connection: Connection, name: str) -> None:
    """Drop an index, if it is there."""
    raw(connection).execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(name)))
