"""What can be asked for nearest concepts: one interface for all engines, as in ann-benchmarks.

Aumüller, Bernhardsson & Faithfull 2020, "ANN-Benchmarks". What an index is built with and what a
search is asked with are apart: one index is built once, and asked with many settings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]
Ids: TypeAlias = NDArray[np.void]
"""The 16 bytes of each `cpe_id`, as numpy's type `V16`."""

ID = np.dtype("V16")
NO_ID = np.zeros(1, dtype=ID)[0]
"""Where fewer were found than were asked for."""


class Engine(ABC):
    """One index over a corpus of unit vectors, and how it is asked.

    Attributes:
        name: unique within a benchmark.
        family: `pgvector` or `faiss`: the `engine` of `ann_index`.
        kind: `exact`, `hnsw`, `ivfflat`.
        storage: `vector`, `halfvec` or `bit`: what is compared first.
        measure: `ip` or `cosine`: what is nearest.
        build_arguments: what the index is built with, as JSON holds it.
        query_arguments: the settings that a search can be asked with, each by the name of its
            arguments; an exact engine has one, the empty one.
    """

    name: str
    family: str
    kind: str
    storage: str = "vector"
    measure: str = "ip"
    build_arguments: Mapping[str, int]
    query_arguments: Sequence[Mapping[str, int]] = ({},)

    @abstractmethod
    def build(self, vectors: Vectors, ids: Ids) -> None:
        """Build over vectors `(n, 768)` with these ids `(n,)`, with the threads that were set."""

    @abstractmethod
    def threads(self, count: int) -> None:
        """How many threads, or server processes, work at once on a build or a batch."""

    @abstractmethod
    def configure(self, arguments: Mapping[str, int]) -> None:
        """Ask all further searches with these arguments."""

    @abstractmethod
    def search(self, query: NDArray[np.float32], k: int) -> Ids:
        """The k nearest of a query `(768,)`, nearest first; `(<= k,)`."""

    @abstractmethod
    def batch_search(self, queries: Vectors, k: int) -> Ids:
        """The same for queries `(q, 768)` in one call; `(q, k)`, `NO_ID` where fewer were found."""

    @abstractmethod
    def another(self) -> Engine:
        """The same index, asked from another thread at the same time."""

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Size on disk, of what is beside the rows; FAISS's in a file."""

    @property
    @abstractmethod
    def memory(self) -> int | None:
        """Bytes that building took: FAISS's process measured, pgvector's graph by its layout."""

    @abstractmethod
    def close(self) -> None:
        """Give back what it holds."""

    def holds(self, arguments: Mapping[str, int], k: int) -> bool:
        """Whether a search with these arguments can find k: a graph search ends at ef_search."""
        return arguments.get("ef_search", k) >= k
