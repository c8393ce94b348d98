"""Ranks: by hand, against a naive loop, and under attempts to be flattered."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmdb.errors import CorpusError, ModelError
from lvmdb.metrics.manifold import nearest_other_cosine
from lvmdb.metrics.ranking import (
    TOLERANCE,
    Ranks,
    duplicate_groups,
    harmonic_numbers,
    rank_in_pool,
    recall_at,
    reciprocal_rank_at,
)
from lvmdb.metrics.vectors import normalise

# Four directions in the plane; 4 repeats 0.
POOL = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0], [1, 0]], dtype=np.float32)


def ints(*values: Any) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def none_excluded(n: int) -> npt.NDArray[np.int64]:
    return np.full((n, 1), -1, dtype=np.int64)


def ranks(greater: int, ties: int, candidates: int = 100) -> Ranks:
    return Ranks(ints(greater), ints(ties), ints(candidates), np.zeros(1))


def rank_of(prediction: tuple[float, float], truth: int, *excluded: int, same: bool) -> list[int]:
    group = duplicate_groups(POOL) if same else None
    out = ints(excluded).reshape(1, -1)
    got = rank_in_pool(
        np.array([prediction], np.float32), POOL, ints(truth), out, duplicate_group=group
    )
    return [int(got.greater[0]), int(got.ties[0]), int(got.candidates[0])]


def test_rank_by_hand() -> None:
    # Towards (0.6, 0.8) the scores are 0.6, 0.96, 0.8, -0.6, 0.6.
    toward = (6.0, 8.0)
    assert rank_of(toward, 1, same=False) == [0, 0, 5]
    assert rank_of(toward, 2, same=False) == [1, 0, 5]
    assert rank_of(toward, 0, same=False) == [2, 1, 5]
    assert rank_of(toward, 3, same=False) == [4, 0, 5]


def test_a_duplicate_of_the_truth_is_the_same_answer() -> None:
    assert rank_of((6, 8), 0, same=True) == [2, 0, 4]
    assert rank_of((6, 8), 4, same=True) == [2, 0, 4]
    # Two equal vectors that are not the answer are two candidates.
    assert rank_of((6, 8), 3, same=True) == [4, 0, 5]


def test_context_concepts_are_never_candidates() -> None:
    assert rank_of((6, 8), 2, 1, same=False) == [0, 0, 4]
    assert rank_of((6, 8), 2, 1, 1, -1, same=False) == [0, 0, 4]
    # A duplicate of the truth that is in the context is left out once, not twice.
    assert rank_of((6, 8), 0, 4, 1, same=True) == [1, 0, 3]


def test_the_truth_stays_a_candidate_even_if_it_is_in_the_context() -> None:
    assert rank_of((6, 8), 2, 2, same=False) == [1, 0, 5]


def test_recall_by_hand() -> None:
    # Third place, no ties: out of the first two, within the first three.
    assert [float(recall_at(ranks(2, 0), k)[0]) for k in (1, 2, 3, 10)] == [0, 0, 1, 1]
    # Places 3 to 6 are equally likely: of the first five, three of these four.
    assert recall_at(ranks(2, 3), 5)[0] == 0.75
    assert recall_at(ranks(2, 3), 2)[0] == 0
    assert recall_at(ranks(2, 3), 6)[0] == 1


def test_reciprocal_rank_by_hand() -> None:
    assert reciprocal_rank_at(ranks(0, 0), 10)[0] == 1
    assert reciprocal_rank_at(ranks(3, 0), 10)[0] == pytest.approx(1 / 4)
    assert reciprocal_rank_at(ranks(10, 0), 10)[0] == 0
    # Places 1, 2, 3: (1 + 1/2 + 1/3) / 3 = 11/18.
    assert reciprocal_rank_at(ranks(0, 2), 10)[0] == pytest.approx(11 / 18)
    # Places 9 to 12, cut at 10: (1/9 + 1/10) / 4 = 19/360.
    assert reciprocal_rank_at(ranks(8, 3), 10)[0] == pytest.approx(19 / 360)


def test_harmonic_numbers() -> None:
    assert harmonic_numbers(4) == pytest.approx([0, 1, 3 / 2, 11 / 6, 25 / 12])


def test_duplicate_groups_by_hand() -> None:
    assert duplicate_groups(POOL).tolist() == [0, 1, 2, 3, 0]
    signed = np.array([[0.0, 1.0], [-0.0, 1.0]], dtype=np.float32)
    assert duplicate_groups(signed).tolist() == [0, 0]


@pytest.mark.parametrize("prediction", ["zero", "constant"])
def test_an_answer_without_content_gets_chance(prediction: str) -> None:
    rng = np.random.default_rng(1)
    pool = normalise(rng.standard_normal((200, 16)))
    truth = np.arange(200)
    answer = np.zeros(16) if prediction == "zero" else rng.standard_normal(16)
    got = rank_in_pool(np.tile(answer, (200, 1)), pool, truth, none_excluded(200))
    # Every concept is the truth once, so a constant answer is first for exactly one query.
    assert recall_at(got, 5).mean() == pytest.approx(5 / 200)
    expected = harmonic_numbers(10)[10] / 200
    assert reciprocal_rank_at(got, 10).mean() == pytest.approx(expected)


def test_a_pool_of_one_vector_tells_nothing() -> None:
    pool = np.tile(np.array([[0.6, 0.8]], np.float32), (50, 1))
    got = rank_in_pool(pool[:3], pool, ints(0, 7, 49), none_excluded(3))
    assert recall_at(got, 1) == pytest.approx([1 / 50] * 3)


def test_scores_within_the_tolerance_are_tied() -> None:
    for gap, tied in ((TOLERANCE / 4, True), (TOLERANCE * 4, False)):
        high = 0.5 + gap
        pool = np.array([[0.5, np.sqrt(0.75)], [high, np.sqrt(1 - high**2)]])
        got = rank_in_pool(np.array([[1.0, 0.0]]), pool, ints(0), none_excluded(1))
        assert (int(got.greater[0]), int(got.ties[0])) == ((0, 1) if tied else (1, 0))


def test_the_length_of_a_prediction_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    pool = normalise(rng.standard_normal((60, 8)))
    predictions = rng.standard_normal((20, 8))
    truth = rng.integers(0, 60, 20)
    plain = rank_in_pool(predictions, pool, truth, none_excluded(20))
    for scale in (1e-30, 1e30):
        scaled = rank_in_pool(predictions * scale, pool, truth, none_excluded(20))
        assert scaled.greater.tolist() == plain.greater.tolist()


def naive(
    predictions: npt.NDArray[Any],
    pool: npt.NDArray[Any],
    truth: npt.NDArray[Any],
    excluded: npt.NDArray[Any],
    same: bool,
) -> list[tuple[int, int, int]]:
    """The definition, candidate by candidate, in float64."""
    result = []
    for p, t, out in zip(predictions, truth, excluded, strict=True):
        length = float(np.linalg.norm(p))
        unit = p / length if length else p
        own, greater, ties, candidates = float(unit @ pool[t]), 0, 0, 1
        for j, vector in enumerate(pool):
            if j == t or j in out or (same and np.array_equal(vector, pool[t])):
                continue
            candidates += 1
            score = float(unit @ vector)
            greater += score > own + TOLERANCE
            ties += abs(score - own) <= TOLERANCE
        result.append((greater, ties, candidates))
    return result


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    # Signed unit axes and small whole predictions: scores tie exactly, or differ by much.
    axes = np.concatenate([np.eye(4), -np.eye(4)])
    size, count, k = draw(st.integers(1, 30)), draw(st.integers(0, 12)), draw(st.integers(0, 3))
    pool = axes[draw(st.lists(st.integers(0, 7), min_size=size, max_size=size))]
    whole = st.lists(st.integers(-3, 3), min_size=4, max_size=4)
    predictions = draw(st.lists(whole, min_size=count, max_size=count))
    inside = st.integers(0, size - 1)
    outside = st.lists(st.integers(-1, size - 1), min_size=k, max_size=k)
    truth = draw(st.lists(inside, min_size=count, max_size=count))
    excluded = draw(st.lists(outside, min_size=count, max_size=count))
    return {
        "predictions": np.array(predictions, np.float32).reshape(count, 4),
        "pool": pool.astype(np.float32),
        "truth": np.array(truth, np.int64),
        "excluded": np.array(excluded, np.int64).reshape(count, k),
    }


@settings(max_examples=300)
@given(problems(), st.integers(1, 40), st.booleans())
def test_ranks_equal_the_naive_loop(problem: dict[str, Any], block: int, same: bool) -> None:
    group = duplicate_groups(problem["pool"]) if same else None
    got = rank_in_pool(**problem, block=block, duplicate_group=group)
    triples = zip(got.greater.tolist(), got.ties.tolist(), got.candidates.tolist(), strict=True)
    assert list(triples) == naive(**problem, same=same)


@settings(max_examples=200)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 20))
def test_expected_values_are_means_over_the_tied_places(greater: int, ties: int, k: int) -> None:
    places = range(greater + 1, greater + ties + 2)
    hits = [1.0 if r <= k else 0.0 for r in places]
    reciprocal = [1 / r if r <= k else 0.0 for r in places]
    assert recall_at(ranks(greater, ties), k)[0] == pytest.approx(np.mean(hits))
    assert reciprocal_rank_at(ranks(greater, ties), k)[0] == pytest.approx(np.mean(reciprocal))


def test_blocks_of_queries_and_pool_change_nothing() -> None:
    rng = np.random.default_rng(3)
    pool = normalise(rng.standard_normal((300, 8))).astype(np.float32)
    pool[250:] = pool[:50]
    count = 2100  # more than two blocks of queries
    predictions = rng.standard_normal((count, 8)).astype(np.float32)
    truth = rng.integers(0, 300, count)
    excluded = rng.integers(-1, 300, (count, 5))
    group = duplicate_groups(pool)
    whole = rank_in_pool(predictions, pool, truth, excluded, duplicate_group=group)
    parts = rank_in_pool(predictions, pool, truth, excluded, block=64, duplicate_group=group)
    assert whole.greater.tolist() == parts.greater.tolist()
    assert whole.ties.tolist() == parts.ties.tolist()
    tail = slice(2000, 2100)
    slow = naive(predictions[tail], pool, truth[tail], excluded[tail], same=True)
    assert [s[0] for s in slow] == whole.greater[tail].tolist()
    assert [s[2] for s in slow] == whole.candidates[tail].tolist()


def test_a_diverged_model_is_refused() -> None:
    bad = np.array([[np.nan, 0.0]], dtype=np.float32)
    with pytest.raises(ModelError, match="NaN or infinity"):
        rank_in_pool(bad, POOL, ints(0), none_excluded(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pool": POOL * 2}, "pool vector 0 has length 2, not 1"),
        ({"pool": np.full((3, 2), np.nan)}, "pool vector 0 has length nan"),
        ({"pool": POOL[:0]}, "candidate pool must be"),
        ({"truth": ints(5)}, "true concept is not in the candidate pool of 5"),
        ({"truth": ints(-1)}, "true concept is not in the candidate pool"),
        ({"excluded": ints([5])}, "context concept's index"),
        ({"excluded": ints([-2])}, "context concept's index"),
        ({"excluded": ints(1)}, "excluded"),
        ({"truth": ints(0, 1)}, "1 predictions need truth"),
        ({"predictions": np.ones((1, 3))}, "2 dimensions"),
        ({"duplicate_group": ints(0, 1)}, "duplicate groups of 2 concepts"),
    ],
)
def test_arguments_that_do_not_belong_together(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "predictions": np.ones((1, 2)),
        "pool": POOL,
        "truth": ints(0),
        "excluded": none_excluded(1),
    }
    with pytest.raises((ModelError, CorpusError), match=message):
        rank_in_pool(**{**arguments, **change})


def test_k_starts_at_one() -> None:
    for function in (recall_at, reciprocal_rank_at):
        with pytest.raises(ModelError, match="k starts at 1"):
            function(ranks(0, 0), 0)


def test_the_nearest_concept_may_be_no_candidate() -> None:
    """The context and the truth's duplicates are concepts too."""
    pool = np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    found = rank_in_pool(
        np.array([[2, 0], [0, -1]], dtype=np.float32), pool, np.array([1, 1]), np.array([[0], [0]])
    )
    assert found.nearest == pytest.approx([1.0, 0.0])
    assert nearest_other_cosine(pool, np.array([0, 2])) == pytest.approx([0.6, 0.8])
    assert nearest_other_cosine(pool, np.array([0, 2]), block=1) == pytest.approx([0.6, 0.8])
    with pytest.raises(ModelError, match="pool of one"):
        nearest_other_cosine(pool[:1], np.array([0]))
