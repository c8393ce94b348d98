"""The search for near-duplicates finds exactly the pairs that comparing all with all finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lvmdb.errors import SequenceError
from lvmdb.sequences import near_duplicates as module
from lvmdb.sequences.near_duplicates import COSINE, NearDuplicates, near_duplicates

Vectors = NDArray[np.float32]


def all_pairs(found: NearDuplicates) -> set[tuple[int, int]]:
    """Pairs of rows, by their groups."""
    members = [np.flatnonzero(found.group == g).tolist() for g in range(found.groups)]
    pairs = {(i, j) for rows in members for i in rows for j in rows if i < j}
    for first, second in found.pairs.tolist():
        pairs |= {(min(i, j), max(i, j)) for i in members[first] for j in members[second]}
    return pairs


def cosines(vectors: Vectors) -> NDArray[np.float64]:
    rows = vectors.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def random_vectors(
    seed: int, count: int, width: int, rank: int, noise: float, copies: int
) -> Vectors:
    """Vectors on `rank` axes, each followed by relatives at `noise`, and some exact copies."""
    generator = np.random.default_rng(seed)
    base = generator.standard_normal((count, rank)) @ generator.standard_normal((rank, width))
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    near = base + noise * generator.standard_normal(base.shape) / np.sqrt(width)
    rows = np.concatenate([base, near]).astype(np.float32)
    rows = np.concatenate([rows, rows[generator.integers(0, len(rows), copies)]])
    shuffled: Vectors = rows[generator.permutation(len(rows))]
    return shuffled


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(1, 60),
    st.sampled_from([2, 3, 8, 40, 768]),
    st.integers(1, 12),
    st.sampled_from([0.0, 1e-4, 0.09, 0.1, 0.11, 0.3]),
    st.integers(0, 20),
)
def test_all_pairs_are_found_and_no_others(
    seed: int, count: int, width: int, rank: int, noise: float, copies: int
) -> None:
    vectors = random_vectors(seed, count, width, rank, noise, copies)
    exact = cosines(vectors)
    found = near_duplicates(vectors)
    pairs = all_pairs(found)
    i, j = np.triu_indices(len(vectors), 1)
    certain = {(a, b) for a, b in zip(i.tolist(), j.tolist(), strict=True) if exact[a, b] >= COSINE}
    # Nearer to the limit than this, the order of summing decides.
    doubtful = {(a, b) for a, b in certain | pairs if abs(exact[a, b] - COSINE) < 1e-9}
    assert pairs - doubtful == certain - doubtful
    assert len({tuple(pair) for pair in found.pairs.tolist()}) == len(found.pairs)
    assert (found.pairs[:, 0] < found.pairs[:, 1]).all()


def test_groups_and_cosines_are_those_of_the_vectors() -> None:
    generator = np.random.default_rng(1)
    one, other = generator.standard_normal((2, 768)).astype(np.float32)
    near = one + np.float32(0.05) * other
    found = near_duplicates(np.stack([one, other, near, one, other]))
    assert found.group.tolist() == [0, 1, 2, 0, 1]
    assert found.pairs.tolist() == [[0, 2]]
    expected = one @ near / (np.linalg.norm(one) * np.linalg.norm(near))
    assert found.cosine.tolist() == pytest.approx([expected], abs=1e-6)


def test_the_limit_itself_belongs_to_the_pairs() -> None:
    def at(cosine: float) -> list[float]:
        return [cosine, float(np.sqrt(1 - cosine**2)), 0.0]

    vectors = np.array([at(1), at(COSINE + 1e-6), at(COSINE - 1e-6)], dtype=np.float32)
    assert [pair for pair in near_duplicates(vectors).pairs.tolist() if 0 in pair] == [[0, 1]]


def test_length_does_not_matter() -> None:
    vectors = random_vectors(3, 20, 30, 30, 0.05, 0)
    scaled = vectors * np.linspace(0.5, 2, len(vectors), dtype=np.float32)[:, None]
    assert all_pairs(near_duplicates(scaled)) == all_pairs(near_duplicates(vectors)) != set()


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_to_compare(count: int) -> None:
    found = near_duplicates(np.ones((count, 768), dtype=np.float32))
    assert (found.groups, len(found.pairs)) == (count, 0)


def test_thousands_of_equal_vectors_are_one_group() -> None:
    vectors = np.repeat(random_vectors(0, 1, 768, 1, 0.5, 0), 10_000, axis=0)
    done: list[int] = []
    found = near_duplicates(vectors, done.append)
    assert (found.groups, len(found.pairs)) == (2, 0)
    assert sum(done) == len(vectors)


@pytest.mark.parametrize(("rank", "noise"), [(1, 0.0), (2, 0.0), (768, 0.01)])
def test_vectors_that_are_all_alike_are_refused(
    monkeypatch: pytest.MonkeyPatch, rank: int, noise: float
) -> None:
    """Blocks are bounded too, so that what is found before the refusal fits into memory."""
    monkeypatch.setattr(module, "MOST_PAIRS", 5_000)
    monkeypatch.setattr(module, "_CANDIDATES", 1_000)
    generator = np.random.default_rng(0)
    axes = generator.standard_normal((rank, 768)) if rank < 768 else np.eye(768)
    mixed = generator.standard_normal((1_000, rank))
    vectors = mixed @ axes if noise == 0 else axes[0] + noise * mixed / 768**0.5
    with pytest.raises(SequenceError, match=r"more than 5,000 pairs .* repeated text .* encoder"):
        near_duplicates(vectors.astype(np.float32))


def test_vectors_of_a_few_dimensions_are_compared_in_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = random_vectors(5, 300, 768, 3, 0.0, 0)
    whole = near_duplicates(vectors)
    monkeypatch.setattr(module, "_CANDIDATES", 50)
    monkeypatch.setattr(module, "_ROWS", 7)
    done: list[int] = []
    in_blocks = near_duplicates(vectors, done.append)
    assert all_pairs(in_blocks) == all_pairs(whole)
    assert len(whole.pairs) > 100
    assert sum(done) == len(vectors)
