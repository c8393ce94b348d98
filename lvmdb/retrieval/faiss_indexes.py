"""FAISS's indexes over vectors of unit norm, all by inner product (Douze et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import faiss

from lvmdb.db.indexes import fitting_lists
from lvmdb.db.types import DIMENSION
from lvmdb.errors import UsageError
from lvmdb.retrieval.engine import Vectors


@dataclass(frozen=True)
class Flat:
    """Every vector is compared: exact."""

    kind = "flat"

    def make(self, vectors: Vectors) -> Any:
        """The index over vectors `(n, 768)`."""
        index = faiss.IndexFlatIP(DIMENSION)
        index.add(vectors)
        return index


@dataclass(frozen=True)
class IVFFlat:
    """Vectors in lists around centroids, of which a search reads a few.

    Attributes:
        nlist: how many lists; None takes four times the root of the number of vectors, as far
            as each list has 40.
        seed: of k-means.
    """

    kind = "ivfflat"
    nlist: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.nlist is not None and self.nlist < 1:
            raise UsageError(f"--nlist is 1 or more, not {self.nlist}")

    def lists(self, vectors: int) -> int:
        """How many lists for so many vectors.

        Raises:
            UsageError: there are fewer than 40 vectors for each list.
        """
        # By default four times the root of their number, FAISS's own advice.
        return fitting_lists(self.nlist, vectors, default=int(4 * math.sqrt(vectors)))

    def make(self, vectors: Vectors) -> Any:
        """The index over vectors `(n, 768)`."""
        lists = self.lists(len(vectors))
        index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(DIMENSION), DIMENSION, lists, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.seed = self.seed
        # A handful of vectors has one list; FAISS would warn of it.
        index.cp.min_points_per_centroid = min(39, len(vectors) // lists)
        index.train(vectors)
        index.add(vectors)
        return index


@dataclass(frozen=True)
class HNSW:
    """The graph of Malkov & Yashunin 2018, with full vectors.

    Attributes:
        m: neighbours of a vector in a layer, twice as many in the lowest.
        ef_construction: candidates held while a vector is inserted.
    """

    kind = "hnsw"
    m: int = 16
    ef_construction: int = 64

    def __post_init__(self) -> None:
        if not 2 <= self.m <= 100:
            raise UsageError(f"--m is from 2 to 100, not {self.m}")
        if self.ef_construction < 1:
            raise UsageError(f"--ef-construction is 1 or more, not {self.ef_construction}")

    def make(self, vectors: Vectors) -> Any:
        """The index over vectors `(n, 768)`."""
        index = faiss.IndexHNSWFlat(DIMENSION, self.m, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = self.ef_construction
        index.add(vectors)
        return index


Plan: TypeAlias = Flat | IVFFlat | HNSW

PLANS: dict[str, type[Plan]] = {plan.kind: plan for plan in (Flat, IVFFlat, HNSW)}
"""By kind, as in `ann_index`."""


def parameters(plan: Plan, vectors: int) -> dict[str, int]:
    """A plan's own, as they are stored, with the number of lists that was meant."""
    given = asdict(plan)
    if isinstance(plan, IVFFlat):
        given["nlist"] = plan.lists(vectors)
    return given


@contextmanager
def threads(count: int) -> Iterator[None]:
    """FAISS computes with so many threads."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
