"""How an index may be built and asked, and what it is estimated to need."""

from __future__ import annotations

import numpy as np
import pytest

from lvmdb.db.indexes import HNSW, IVFFlat
from lvmdb.errors import UsageError
from lvmdb.retrieval.exact import Neighbours, none_found
from lvmdb.retrieval.found import parse_tmd
from lvmdb.retrieval.indexes import Usable
from lvmdb.retrieval.tuning import _least, recalls


@pytest.mark.parametrize(
    ("kind", "values", "why"),
    [
        (HNSW, {"storage": "float"}, "--storage is one of halfvec, vector, bit, not float"),
        (HNSW, {"metric": "l2"}, "--metric is one of ip, cosine, not l2"),
        (HNSW, {"m": 1}, "--m is from 2 to 100, not 1"),
        (HNSW, {"m": 101, "ef_construction": 300}, "--m is from 2 to 100, not 101"),
        (HNSW, {"ef_construction": 31}, "--ef-construction is from twice --m .32. to 1000, not 31"),
        (HNSW, {"m": 2, "ef_construction": 3}, "--ef-construction"),
        (HNSW, {"ef_construction": 1001}, "--ef-construction"),
        (IVFFlat, {"nlist": 0}, "--nlist is from 1 to 32768, not 0"),
        (IVFFlat, {"nlist": 32769}, "--nlist is from 1 to 32768, not 32769"),
        (IVFFlat, {"storage": "x"}, "--storage is one of"),
    ],
)
def test_what_pgvector_would_refuse_names_the_flag(
    kind: type, values: dict[str, object], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        kind(**values)


def test_memory_grows_with_what_is_held() -> None:
    # Half-precision vectors take 768 * 2 bytes, and each vector 32 neighbours of 16 bytes and more.
    half, full = HNSW().memory(1000), HNSW(storage="vector").memory(1000)
    assert full - half == pytest.approx(1.1 * 1000 * 768 * 2, rel=1e-6)
    assert half > 1000 * (768 * 2 + 32 * 16)
    assert HNSW(storage="bit").memory(1000) < half / 2
    assert HNSW(m=32).memory(1000) > half
    assert HNSW().memory(0) == 0
    # Elkan's bounds of 50 samples a list grow with the square of the lists.
    wide, narrow = (IVFFlat(nlist=n).memory(400_000) for n in (8_000, 1_000))
    assert wide > 4 * 50 * 8_000 * 8_000
    assert wide > 30 * narrow


def test_lists_hold_forty_vectors_at_least() -> None:
    assert [IVFFlat().lists(n) for n in (3, 80, 1_600, 1_000_000)] == [1, 2, 40, 1000]
    assert IVFFlat(nlist=1052).lists(42_109) == 1052
    with pytest.raises(UsageError, match="--nlist is at most 1052 with 42109 vectors"):
        IVFFlat(nlist=1053).lists(42_109)


def test_effort_is_what_was_tuned_and_enough_for_k() -> None:
    graph = Usable("g", "hnsw", "halfvec", "ip", 1000)
    assert [graph.effort(k) for k in (1, 100, 101, 2000)] == [100, 100, 101, 1000]
    tuned = Usable("g", "hnsw", "halfvec", "ip", 1000, tuned=30, tuned_k=10)
    assert [tuned.effort(k) for k in (1, 10, 11, 999)] == [30, 30, 33, 1000]
    lists = Usable("l", "ivfflat", "halfvec", "ip", 1000, lists=25)
    assert [lists.effort(10), lists.most_effort, lists.effort_name] == [5, 25, "probes"]
    assert Usable("l", "ivfflat", "halfvec", "ip", 1000, lists=25, tuned=9).effort(999) == 9
    bits = Usable("b", "hnsw", "bit", "ip", 1000)
    assert bits.effort(10) == bits.among(200) == 200
    assert Usable("b", "ivfflat", "bit", "ip", 1000, lists=4).among(2) == 200


@pytest.mark.parametrize("least", [1, 2, 5, 7, 63, 64, 100, None])
def test_the_least_that_reaches_is_found(least: int | None) -> None:
    asked: list[int] = []

    def reaches(effort: int) -> bool:
        asked.append(effort)
        return least is not None and effort >= least

    assert _least(1, 100, reaches) == least
    assert max(asked) <= 100
    assert len(asked) == len(set(asked)) or least is not None
    assert _least(20, 8, lambda effort: effort == 8) == 8


def test_recall_counts_what_is_as_near_as_the_last() -> None:
    exact, found = none_found(2, 3), none_found(2, 3)
    exact.cosine[:] = [[0.9, 0.8, 0.7], [0.9, 0.8, np.nan]]
    found.cosine[:] = [[0.9, 0.7 + 1e-7, 0.69], [0.8, np.nan, np.nan]]
    assert recalls(found, exact).tolist() == [2 / 3, 1 / 2]


def test_what_was_found_stands_best_first() -> None:
    found = none_found(2, 3)
    ids = np.arange(4 * 16, dtype=np.uint8).reshape(4, 16)
    found.put(np.array([1, 0, 1, 1]), ids, np.array([0.1, 0.2, 0.3, 0.2], np.float32))
    assert found.counts.tolist() == [1, 3]
    assert [each.bytes[0] for each in found.ids(1)] == [32, 48, 0]
    left: Neighbours = found.without([[], found.ids(1)[:1]], 2)
    assert [each.bytes[0] for each in left.ids(1)] == [48, 0]
    assert left.counts.tolist() == [1, 2]


def test_patterns_of_codes() -> None:
    assert parse_tmd("7.*.*") == (7, None, None)
    assert parse_tmd("*.31.63") == (None, 31, 63)
    for wrong in (
        "7",
        "7.*",
        "16.*.*",
        "*.32.*",
        "*.*.64",
        "-1.*.*",
        "a.*.*",
        "7.*.*.*",
        "\u0667.*.*",
    ):
        with pytest.raises(UsageError, match=r"--tmd is domain\.task\.modifier"):
            parse_tmd(wrong)
