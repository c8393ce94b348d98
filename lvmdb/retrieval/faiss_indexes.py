"""FAISS's indexes over vectors of unit norm, all by inner product (Douze et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import faiss
import numpy as np
from numpy.typing import NDArray

from lvmdb.db.types import DIMENSION
from lvmdb.errors import UsageError

Vectors: TypeAlias = NDArray[np.float32]

POINTS_A_LIST = 40
"""Vectors for each list of an IVF index, at least: with fewer than 39, FAISS's k-means warns."""


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
        nlist: how many lists; None takes `default_lists`.
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
        if self.nlist is None:
            return default_lists(vectors)
        if self.nlist > max(1, vectors // POINTS_A_LIST):
            raise UsageError(
                f"--nlist is at most {max(1, vectors // POINTS_A_LIST)} with {vectors} vectors "
                f"({POINTS_A_LIST} for each list), not {self.nlist}"
            )
        return self.nlist

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


def default_lists(vectors: int) -> int:
    """Four times the root of their number, FAISS's own advice, with 40 vectors a list at least."""
    return max(1, min(int(4 * math.sqrt(vectors)), vectors // POINTS_A_LIST))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """FAISS computes with so many threads."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
