"""The engines that `lvmdb bench retrieval` measures, by name."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from lvmdb.db.bench_table import Access, BenchTable
from lvmdb.db.server_settings import machine_memory
from lvmdb.db.types import DIMENSION
from lvmdb.errors import UnknownNameError, UsageError
from lvmdb.retrieval.engine import Engine
from lvmdb.retrieval.faiss_engines import Faiss
from lvmdb.retrieval.faiss_indexes import HNSW, Flat, IVFFlat
from lvmdb.retrieval.pgvector_engines import Exact, Graph, Lists

EF_SEARCH = (10, 20, 40, 80, 120, 160)
PROBES = (1, 4, 16, 64)

_HELD = 4 * DIMENSION + 300
"""Bytes of a vector in FAISS, with its neighbours."""


@dataclass(frozen=True)
class Sweep:
    """What indexes are built with, and what they are asked with.

    Attributes:
        m, ef_construction: of all graphs.
        ef_search: of all graphs; of bits, four times as many, since each tells less.
        probes: of lists.
        nlist: lists of both IVF indexes; None takes FAISS's advice for the corpus.
        only: parts of the names of the engines that are measured; none names all.
    """

    m: int = 16
    ef_construction: int = 64
    ef_search: Sequence[int] = EF_SEARCH
    probes: Sequence[int] = PROBES
    nlist: int | None = None
    only: Sequence[str] = ()

    def __post_init__(self) -> None:
        for value in self.ef_search:
            if not 1 <= value <= 1000:
                raise UsageError(f"--ef-search is from 1 to 1000, not {value}")


def engines(table: BenchTable, vectors: int, sweep: Sweep, stack: ExitStack) -> list[Engine]:
    """The engines, not built yet; closed with the stack.

    Args:
        table: that pgvector's engines search.
        vectors: how many there are.
        sweep: what they are built and asked with.
        stack: closes them.

    Raises:
        UnknownNameError: `sweep.only` names no engine.
        UsageError: too many lists for so few vectors.
    """
    offered = {engine.name: engine for engine in _offered(table, vectors, sweep)}
    for part in sweep.only:
        if not any(part.lower() in name for name in offered):
            raise UnknownNameError("engine", part, offered)
    chosen = [
        engine
        for name, engine in offered.items()
        if not sweep.only or any(part.lower() in name for part in sweep.only)
    ]
    for engine in chosen:
        stack.callback(engine.close)
    return chosen


def require_memory(made: Sequence[Engine], vectors: int) -> None:
    """Refuse what this machine cannot hold: FAISS's indexes are in memory, one beside the other.

    Raises:
        UsageError: they would take more than half of it.
    """
    held = sum(engine.family == "faiss" for engine in made)
    needed = held * vectors * _HELD
    if needed > machine_memory() // 2:
        raise UsageError(
            f"{held} FAISS indexes of {vectors} vectors take {needed / 1e9:.0f} GB, more than half "
            f"of this machine's memory: choose fewer with --only, e.g. --only hnsw"
        )


def _offered(table: BenchTable, vectors: int, sweep: Sweep) -> list[Engine]:
    lists = IVFFlat(sweep.nlist).lists(vectors)
    ef_search = [{"ef_search": ef} for ef in sweep.ef_search]
    of_bits = [{"ef_search": min(1000, 4 * ef)} for ef in sweep.ef_search]
    probes = sorted({min(count, lists) for count in sweep.probes})
    graph = partial(Graph, table, m=sweep.m, ef_construction=sweep.ef_construction)
    return [
        Faiss(Flat()),
        Faiss(IVFFlat(lists), [{"nprobe": count} for count in probes]),
        Faiss(HNSW(sweep.m, sweep.ef_construction), ef_search),
        Exact(table, Access(1, "vector", "ip")),
        graph(Access(2, "halfvec", "ip"), ef_search),
        graph(Access(3, "halfvec", "cosine"), ef_search),
        graph(Access(4, "vector", "ip"), ef_search),
        graph(Access(5, "vector", "cosine"), ef_search),
        graph(Access(6, "bit", "hamming"), of_bits),
        Lists(
            table, Access(7, "halfvec", "ip"), [{"probes": count} for count in probes], lists=lists
        ),
    ]
