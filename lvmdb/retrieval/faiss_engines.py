"""FAISS behind the interface of `retrieval.engine`."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from lvmdb.retrieval.engine import ID, Engine, Ids, Vectors
from lvmdb.retrieval.faiss_indexes import HNSW, IVFFlat, Plan, parameters, threads
from lvmdb.sequences.memory import Peak


class Faiss(Engine):
    """One of FAISS's indexes in this process's memory, by inner product.

    Args:
        plan: which, and how it is built.
        query_arguments: `ef_search` of a graph, `nprobe` of lists.
    """

    family = "faiss"

    def __init__(self, plan: Plan, query_arguments: Sequence[Mapping[str, int]] = ({},)) -> None:
        self.name = f"faiss {plan.kind}"
        self.kind = "exact" if plan.kind == "flat" else plan.kind
        self.query_arguments = query_arguments
        self.build_arguments: Mapping[str, int] = {}
        self._plan, self._threads = plan, 1
        self._index: Any = None
        self._ids: Ids = np.empty(0, dtype=ID)
        self._memory: int | None = None

    def build(self, vectors: Vectors, ids: Ids) -> None:
        peak = Peak()
        with threads(self._threads):
            self._index = self._plan.make(vectors)
        self._memory = peak.bytes()
        self._ids = ids
        self.build_arguments = parameters(self._plan, len(vectors))

    def threads(self, count: int) -> None:
        self._threads = count

    def configure(self, arguments: Mapping[str, int]) -> None:
        if isinstance(self._plan, HNSW):
            self._index.hnsw.efSearch = arguments["ef_search"]
        elif isinstance(self._plan, IVFFlat):
            self._index.nprobe = arguments["nprobe"]

    def search(self, query: NDArray[np.float32], k: int) -> Ids:
        # Of one query FAISS makes one thread, whatever it may have.
        places = self._index.search(query[None], k)[1][0]
        found: Ids = self._ids[places[places >= 0]]
        return found

    def batch_search(self, queries: Vectors, k: int) -> Ids:
        with threads(self._threads):
            places = self._index.search(queries, k)[1]
        found: Ids = self._ids[np.maximum(places, 0)]
        found[places < 0] = np.zeros(1, dtype=ID)
        return found

    def another(self) -> Engine:
        return copy.copy(self)

    @property
    def bytes(self) -> int:
        counted = 0

        def count(data: bytes) -> None:
            nonlocal counted
            counted += len(data)

        writer = faiss.PyCallbackIOWriter(count)  # type: ignore[attr-defined]  # not in its stubs
        faiss.write_index(self._index, writer)
        del writer  # its buffer is written at its end
        return counted

    @property
    def memory(self) -> int | None:
        return self._memory

    def close(self) -> None:
        self._index = None
