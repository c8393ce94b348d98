"""Vector indexes: how they may be built, and the data definition that is composed for them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from lvmdb.db.types import DIMENSION
from lvmdb.errors import UsageError

STORAGES = ("halfvec", "vector", "bit")
METRICS = ("ip", "cosine")
KINDS = ("hnsw", "ivfflat")
_BYTES = {"halfvec": DIMENSION * 2, "vector": DIMENSION * 4, "bit": DIMENSION // 8}
_IDENTIFIER = 63
"""PostgreSQL cuts longer names."""

POINTS_A_LIST = 40
"""Vectors for each list of an IVF index, at least: with fewer than 39, FAISS's k-means warns."""

NEW, OLD = "_new", "_old"
"""What is behind an index's name while it is built, and when another has taken its place."""

COLUMN = {
    "vector": sql.SQL("concept_vec"),
    "halfvec": sql.SQL("(concept_vec::halfvec({}))").format(DIMENSION),
    "bit": sql.SQL("(binary_quantize(concept_vec)::bit({}))").format(DIMENSION),
}
"""What is indexed, by storage."""

_QUERY = {
    "vector": sql.SQL("{}"),
    "halfvec": sql.SQL("({}::halfvec({}))"),
    "bit": sql.SQL("(binary_quantize({})::bit({}))"),
}
OPERATOR = {"ip": sql.SQL("<#>"), "cosine": sql.SQL("<=>"), "hamming": sql.SQL("<~>")}
"""By what is nearest; of bits it is always the last."""


@dataclass(frozen=True)
class HNSW:
    """How an HNSW index is built (Malkov & Yashunin 2018).

    Attributes:
        storage: `halfvec`, half the memory and no measurable loss of order; `vector`; or `bit`, one
            bit a dimension, of which a search ranks the candidates again by the full vectors.
        m: neighbours of a vector in a layer.
        ef_construction: candidates held while a vector is inserted.
        metric: `ip`, inner product, or `cosine`; the same order for vectors of unit norm.
    """

    storage: str = "halfvec"
    m: int = 16
    ef_construction: int = 64
    metric: str = "ip"

    kind = "hnsw"

    def __post_init__(self) -> None:
        _check(self.storage, self.metric)
        if not 2 <= self.m <= 100:
            raise UsageError(f"--m is from 2 to 100, not {self.m}")
        if not max(4, 2 * self.m) <= self.ef_construction <= 1000:
            raise UsageError(
                f"--ef-construction is from twice --m ({2 * self.m}) to 1000, "
                f"not {self.ef_construction}"
            )

    def parameters(self, vectors: int) -> dict[str, int]:
        """The index's own, as they are stored."""
        return {"m": self.m, "ef_construction": self.ef_construction}

    def memory(self, vectors: int) -> int:
        """Bytes that building takes, by pgvector's own layout, a tenth added.

        Each element holds its vector, and 2m neighbours of 16 bytes in the lowest layer; the
        layers above add a share of 1/(m - 1).
        """
        neighbours = 16 * 2 * self.m * (1 + 1 / (self.m - 1))
        element = _BYTES[self.storage] + neighbours + 200
        return int(1.1 * vectors * element)


@dataclass(frozen=True)
class IVFFlat:
    """How an IVFFlat index is built: vectors in lists around centroids, of which a search reads a
    few.

    Attributes:
        storage: as for HNSW.
        nlist: how many lists, at most one for 40 vectors; None takes the root of their number.
        metric: as for HNSW.
    """

    storage: str = "halfvec"
    nlist: int | None = None
    metric: str = "ip"

    kind = "ivfflat"

    def __post_init__(self) -> None:
        _check(self.storage, self.metric)
        if self.nlist is not None and not 1 <= self.nlist <= 32_768:
            raise UsageError(f"--nlist is from 1 to 32768, not {self.nlist}")

    def lists(self, vectors: int) -> int:
        """How many lists for so many vectors.

        Raises:
            UsageError: there are fewer than 40 vectors for each list.
        """
        return fitting_lists(self.nlist, vectors, default=round(math.sqrt(vectors)))

    def parameters(self, vectors: int) -> dict[str, int]:
        """The index's own, as they are stored."""
        return {"nlist": self.lists(vectors)}

    def memory(self, vectors: int) -> int:
        """Bytes that k-means takes, by pgvector's own layout, a tenth added: its samples (50 a
        list), three sets of centroids, and Elkan's bounds: one of 4 bytes for every sample and
        list, one for every two lists."""
        lists = self.lists(vectors)
        samples = min(vectors, max(50 * lists, 10_000))
        held = (samples + lists) * (_BYTES[self.storage] + 16)
        centroids = 2 * lists * (4 * DIMENSION + 16)
        bounds = 4 * (samples * lists + lists * lists + 2 * samples + 4 * lists)
        return int(1.1 * (held + centroids + bounds))


VectorIndex: TypeAlias = HNSW | IVFFlat


def fitting_lists(nlist: int | None, vectors: int, *, default: int) -> int:
    """How many lists, pgvector's or FAISS's; the default is brought down to what fits.

    Raises:
        UsageError: there are fewer than 40 vectors for each of those asked for.
    """
    most = max(1, vectors // POINTS_A_LIST)
    if nlist is None:
        return max(1, min(default, most))
    if nlist > most:
        raise UsageError(
            f"--nlist is at most {most} with {vectors} vectors ({POINTS_A_LIST} for each list), "
            f"not {nlist}"
        )
    return nlist


def options(index: VectorIndex, vectors: int) -> dict[str, int]:
    """An index's parameters by the names that pgvector has for them."""
    return {"lists" if key == "nlist" else key: n for key, n in index.parameters(vectors).items()}


def _check(storage: str, metric: str) -> None:
    if storage not in STORAGES:
        raise UsageError(f"--storage is one of {', '.join(STORAGES)}, not {storage}")
    if metric not in METRICS:
        raise UsageError(f"--metric is one of {', '.join(METRICS)}, not {metric}")


def index_name(dataset: str, index: VectorIndex) -> str:
    """The index's name: one for a dataset, kind, storage and metric."""
    metric = f"_{index.metric}" if index.metric != "ip" else ""
    return fitting(f"ix_cpe_entry_{index.kind}_{index.storage}{metric}_{dataset}")


def fitting(name: str) -> str:
    """The name, or of one that PostgreSQL would cut, as much as leaves room for a hash of all."""
    if len(name) <= _IDENTIFIER:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _IDENTIFIER - 9]}_{digest}"


def create(
    connection: psycopg.Connection[Any],
    name: str,
    dataset: str,
    index: VectorIndex,
    vectors: int,
    *,
    concurrently: bool = False,
) -> None:
    """Build an index over one dataset's vectors.

    Args:
        connection: outside of a transaction, if writers are not to wait.
        name: of the index.
        dataset: whose vectors.
        index: how.
        vectors: how many there are.
        concurrently: others go on writing; an index that fails stays, and is not valid.
    """
    connection.execute(
        sql.SQL("CREATE INDEX {} {} ON cpe_entry USING {} ({} {}) WITH ({}) WHERE {}").format(
            sql.SQL("CONCURRENTLY" if concurrently else ""),
            sql.Identifier(name),
            sql.Identifier(index.kind),
            COLUMN[index.storage],
            sql.Identifier(_operators(index.storage, index.metric)),
            sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(key), sql.Literal(value))
                for key, value in options(index, vectors).items()
            ),
            sql.SQL("dataset_source = {}").format(sql.Literal(dataset)),
        )
    )


def _operators(storage: str, metric: str) -> str:
    return "bit_hamming_ops" if storage == "bit" else f"{storage}_{metric}_ops"


def drop(connection: psycopg.Connection[Any], name: str, *, concurrently: bool = False) -> None:
    """Drop an index, if it is there; concurrently, others go on reading meanwhile."""
    connection.execute(
        sql.SQL("DROP INDEX {} IF EXISTS {}").format(
            sql.SQL("CONCURRENTLY" if concurrently else ""), sql.Identifier(name)
        )
    )


def rename(connection: psycopg.Connection[Any], name: str, to: str) -> None:
    """Give an index another name, if it is there; nobody waits."""
    connection.execute(
        sql.SQL("ALTER INDEX IF EXISTS {} RENAME TO {}").format(
            sql.Identifier(name), sql.Identifier(to)
        )
    )


def distance(storage: str, metric: str, query: sql.Composable) -> sql.Composed:
    """What an index on this storage orders by, written as the index was: its column, and a vector
    as the query names it."""
    asked = _QUERY[storage].format(query, DIMENSION) if storage != "vector" else query
    operator = OPERATOR["hamming" if storage == "bit" else metric]
    return sql.SQL("{} {} {}").format(COLUMN[storage], operator, asked)


def similarity(metric: str, query: sql.Composable) -> sql.Composed:
    """How near a concept is to a vector. No index is in the order of this, so that ordering by it,
    downwards, is exact."""
    if metric == "ip":
        return sql.SQL("-(concept_vec <#> {})").format(query)
    return sql.SQL("1 - (concept_vec <=> {})").format(query)
