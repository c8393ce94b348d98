"""Several predictions as one: each method by hand, in the plane."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lvmdb.errors import ModelError
from lvmdb.evaluation.combining import StackedRegression, units, vote, weighted_sum


def at(*degrees: float, length: float = 1.0) -> Tensor:
    """Vectors at these angles, `(batch, 2)`."""
    radians = torch.tensor(degrees).deg2rad()
    return length * torch.stack([radians.cos(), radians.sin()], dim=1)


def angles(vectors: Tensor) -> list[int]:
    """Their angles to the nearest degree."""
    return [round(math.degrees(math.atan2(y, x))) for x, y in vectors.tolist()]


POOL = np.concatenate([at(0, 30, 60, 90, 120, 30).numpy()])
GROUPS = np.array([0, 1, 2, 3, 4, 1])
NOBODY = np.zeros((1, 0), dtype=np.int64)


def test_a_mean_is_of_directions_not_of_lengths() -> None:
    mean = weighted_sum([at(0, 40, length=100), at(90, 50, length=0.01)], [0.5, 0.5])
    assert angles(mean) == [45, 45]
    # Its length is how far the members agree: cos 45, cos 5 degrees.
    assert mean.norm(dim=1).tolist() == pytest.approx(
        [math.cos(math.radians(45)), math.cos(math.radians(5))], abs=1e-6
    )
    assert angles(weighted_sum([at(0), at(90)], [math.sqrt(3), 1.0])) == [30]


def test_what_is_no_number_is_refused_and_zero_stays_zero() -> None:
    assert units([torch.zeros(1, 2), at(0)]).tolist() == [[[0, 0]], [[1, 0]]]
    for wrong in (math.nan, math.inf):
        with pytest.raises(ModelError, match="predicts what is no number"):
            weighted_sum([at(0), torch.tensor([[wrong, 0.0]])], [0.5, 0.5])


def test_weights_are_those_of_least_squares_and_never_negative() -> None:
    # y = .75 a + .5 b exactly.
    regression = StackedRegression(2)
    one, other = at(0, 70, 200, length=3), at(90, 20, 250, length=0.1)
    target = 0.75 * units([one])[0] + 0.5 * units([other])[0]
    for part in (slice(0, 1), slice(1, 3)):
        regression.add([one[part], other[part]], target[part])
    assert regression.weights() == pytest.approx([0.75, 0.5], abs=1e-6)
    # Least squares without the bound would bet against the second: y = 2 a - b.
    regression = StackedRegression(2)
    regression.add([at(0), at(60)], 2 * at(0) - at(60))
    # The best w >= 0: the projection on a alone, a.(2 a - b) = 2 - cos 60.
    assert regression.weights() == pytest.approx([1.5, 0.0], abs=1e-6)
    regression = StackedRegression(2)
    regression.add([at(10), at(-10)], at(180))
    assert regression.weights() == [0.0, 0.0]


def test_weights_do_not_depend_on_how_the_windows_come() -> None:
    generator = torch.Generator().manual_seed(0)
    members = [torch.randn(60, 5, generator=generator) for _ in range(3)]
    members.append(members[0] + 1e-6 * members[1])  # all but the same as another
    target = torch.randn(60, 5, generator=generator) + members[0] + members[1] + members[2]
    found = []
    for size in (1, 7, 60):
        regression = StackedRegression(4)
        for start in range(0, 60, size):
            part = slice(start, start + size)
            regression.add([member[part] for member in members], target[part])
        found.append(regression.weights())
    # Those of the pair may be shared out in any way.
    sums = [[w[0] + w[3], w[1], w[2]] for w in found]
    assert sums[0] == pytest.approx(sums[2], abs=1e-5)
    assert sums[1] == pytest.approx(sums[2], abs=1e-5)
    table = torch.stack([units([member])[0] for member in members[:3]]).flatten(1).T
    exact = np.linalg.lstsq(table.numpy(), target.flatten().numpy(), rcond=None)[0]
    assert (exact > 0).all()
    assert sums[2] == pytest.approx(exact.tolist(), abs=1e-4)


def test_the_concept_with_the_most_votes_is_elected() -> None:
    # Nearest are 0, 0 and 90: two votes for 0, though 30 is nearest to the mean.
    elected = vote([at(2), at(-40), at(100)], POOL, GROUPS, NOBODY)
    assert angles(elected) == [0]
    assert elected.dtype == torch.float32
    # A vote for a vector is one for all rows that have it: 30 twice, in two rows.
    assert angles(vote([at(28), at(33), at(119), at(91)], POOL, GROUPS, NOBODY)) == [30]


def test_of_equal_votes_the_highest_cosine_to_all_decides() -> None:
    # One vote each for 0, 60 and 120; to all three, 60 is nearest.
    assert angles(vote([at(0), at(60), at(120)], POOL, GROUPS, NOBODY)) == [60]
    # And of equal cosines the first concept of the pool.
    assert angles(vote([at(30), at(60)], POOL, GROUPS, NOBODY)) == [30]
    assert angles(vote([at(60), at(30)], POOL, GROUPS, NOBODY)) == [30]


def test_nobody_may_vote_for_the_context() -> None:
    excluded = np.array([[1, 5], [0, 2]])
    # At 20 degrees 30 is nearest, in rows 1 and 5; without them 0 is. At 50, 60 is; without it 30.
    elected = vote([at(20, 50), at(20, 50)], POOL, GROUPS, excluded, block=2)
    assert angles(elected) == [0, 30]


@pytest.mark.parametrize("block", [1, 2, 4, 100])
def test_blocks_do_not_matter(block: int) -> None:
    generator = np.random.default_rng(1)
    pool = generator.standard_normal((37, 8)).astype(np.float32)
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    members = [torch.from_numpy(generator.standard_normal((5, 8))).float() for _ in range(3)]
    excluded = generator.integers(0, 37, (5, 4))
    found = vote(members, pool, np.arange(37), excluded, block=block).numpy()
    for query in range(5):
        allowed = [row for row in range(37) if row not in excluded[query]]
        asked = [units([member])[0, query].numpy() for member in members]
        ballots = [max(allowed, key=lambda row: float(pool[row] @ each)) for each in asked]
        best = max(
            ballots, key=lambda row: (ballots.count(row), sum(float(pool[row] @ a) for a in asked))
        )
        assert np.array_equal(found[query], pool[best])


def test_a_member_without_a_direction_has_no_vote() -> None:
    none = torch.zeros(1, 2)
    assert angles(vote([none, none, at(118)], POOL, GROUPS, NOBODY)) == [120]
    assert vote([none, none], POOL, GROUPS, NOBODY).tolist() == [[0, 0]]
