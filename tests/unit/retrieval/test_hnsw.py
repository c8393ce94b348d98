"""How an HNSW index may be built, and what it is estimated to need."""

from __future__ import annotations

import pytest

from lvmdb.db.indexes import HNSW
from lvmdb.errors import UsageError


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"storage": "bit"}, "--storage is one of halfvec, vector, not bit"),
        ({"m": 1}, "--m is from 2 to 100, not 1"),
        ({"m": 101, "ef_construction": 300}, "--m is from 2 to 100, not 101"),
        ({"ef_construction": 31}, "--ef-construction is from twice --m .32. to 1000, not 31"),
        ({"m": 2, "ef_construction": 3}, "--ef-construction"),
        ({"ef_construction": 1001}, "--ef-construction"),
    ],
)
def test_what_pgvector_would_refuse_names_the_flag(values: dict[str, object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        HNSW(**values)  # type: ignore[arg-type]


def test_memory_grows_with_what_is_held() -> None:
    # Half-precision vectors take 768 * 2 bytes, and each vector 32 neighbours of 16 bytes and more.
    half, full = HNSW().memory(1000), HNSW(storage="vector").memory(1000)
    assert full - half == pytest.approx(1.1 * 1000 * 768 * 2, rel=1e-6)
    assert half > 1000 * (768 * 2 + 32 * 16)
    assert HNSW(m=32).memory(1000) > half
    assert HNSW().memory(0) == 0
