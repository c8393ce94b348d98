"""The forward signal on processes where the answer is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from lvmdb.errors import ModelError
from lvmdb.metrics.forward_signal import (
    MEASURES,
    READINGS,
    Maps,
    Statistic,
    Sums,
    fit_orders,
    measure,
    orders,
    statistics,
)
from lvmdb.metrics.linear_map import Moments, fit

DIMENSION = 12
Rows = npt.NDArray[np.float32]
Step = Callable[[npt.NDArray[np.float64], np.random.Generator], npt.NDArray[np.float64]]


def turned(angle: float) -> npt.NDArray[np.float64]:
    """A rotation by `angle` in each of six planes."""
    plane = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.kron(np.eye(DIMENSION // 2), plane)


def corpus(
    seed: int, step: Step, articles: int, length: int = 14
) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Articles of a stationary process: uniform on the sphere, whatever the step's rotation."""
    generator = np.random.default_rng(seed)
    rows = np.empty((articles, length, DIMENSION))
    v = generator.standard_normal((articles, DIMENSION))
    for t in range(length):
        rows[:, t] = v = v / np.linalg.norm(v, axis=1, keepdims=True)
        v = step(v, generator)
    return rows.reshape(-1, DIMENSION).astype(np.float32), np.full(articles, length)


def noise(
    v: npt.NDArray[np.float64], generator: np.random.Generator, size: float
) -> npt.NDArray[np.float64]:
    drawn: npt.NDArray[np.float64] = generator.standard_normal(v.shape)
    return drawn * (size / math.sqrt(DIMENSION))


def rotation(v: npt.NDArray[np.float64], generator: np.random.Generator) -> npt.NDArray[np.float64]:
    return v @ turned(1.0).T + noise(v, generator, 0.6)


def walk(v: npt.NDArray[np.float64], generator: np.random.Generator) -> npt.NDArray[np.float64]:
    return v + noise(v, generator, 0.6)


def signals(
    train: Rows,
    test: Rows,
    lengths: npt.NDArray[np.int64],
    held: npt.NDArray[np.int64],
    seed: int = 0,
) -> dict[tuple[str, str], Statistic]:
    generator = np.random.default_rng(seed)
    half = len(held) // 2
    cut = int(held[:half].sum())
    maps = fit_orders(orders(train, lengths, generator), orders(test[:cut], held[:half], generator))
    found = statistics(measure(maps, test[cut:], held[half:]))
    return {(s.statistic, s.measure): s for s in found}


def of(step: Step, seed: int = 0) -> dict[tuple[str, str], Statistic]:
    train, lengths = corpus(2 * seed, step, 200)
    test, held = corpus(2 * seed + 1, step, 200)
    return signals(train, test, lengths, held, seed)


def exchangeable(seed: int) -> dict[tuple[str, str], Statistic]:
    """Draws around a centre of the article's own: alike, in any order."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((400, 1, DIMENSION))
    rows = centres + generator.standard_normal((400, 14, DIMENSION))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    halves = rows.astype(np.float32).reshape(2, -1, DIMENSION)
    return signals(halves[0], halves[1], np.full(200, 14), np.full(200, 14), seed)


def test_a_rotation_has_both_signals() -> None:
    found = of(rotation)
    for kind in MEASURES:
        for signal in ("order signal", "direction signal"):
            one = found[signal, kind]
            assert one.value is not None
            assert one.low is not None
            assert one.low > 0.2, one
        assert found["order signal", kind].verdict == "order carries information"
        assert found["direction signal", kind].verdict == "forwards and backwards differ"
    # Backwards it is as predictable: what differs is the map, not how well it fits.
    ahead, back = found["forwards", "cosine"], found["backwards", "cosine"]
    assert ahead.value == pytest.approx(back.value, abs=0.01)
    # The best map is the rotation, and its cosine that of a step with this noise.
    assert ahead.value == pytest.approx(1 / np.sqrt(1 + 0.6**2), abs=0.02)
    # Read by the map of the reversed articles, it is the other rotation: cos(2) of a step.
    reversed_map = found["reversed map", "cosine"]
    assert ahead.value is not None
    assert reversed_map.value == pytest.approx(np.cos(2.0) * ahead.value, abs=0.03)


def test_a_reversible_walk_has_order_and_no_direction() -> None:
    found = of(walk)
    for kind in MEASURES:
        order, direction = found["order signal", kind], found["direction signal", kind]
        assert order.low is not None
        assert order.low > 0.1
        assert direction.verdict == "alike in both directions", direction
        assert direction.value == pytest.approx(0, abs=0.01)


def test_exchangeable_draws_have_no_signal() -> None:
    found = exchangeable(0)
    for kind in MEASURES:
        assert found["order signal", kind].value == pytest.approx(0, abs=0.03)
        assert found["order signal", kind].verdict == "as predictable in any order"
        assert found["direction signal", kind].verdict == "alike in both directions"
    # A concept does foretell the next, as it foretells any other of its article.
    assert found["forwards", "cosine"].value == pytest.approx(
        found["shuffled", "cosine"].value, abs=0.01
    )
    assert (found["shuffled", "cosine"].low or 0) > 0.3


def test_signals_are_not_seen_where_there_are_none() -> None:
    """Of twenty corpora of each kind, intervals of 95 % are wrong about as often as they say."""
    wrong = 0
    for seed in range(1, 21):
        draws, steps = exchangeable(seed), of(walk, seed)
        wrong += draws["order signal", "cosine"].verdict != "as predictable in any order"
        wrong += draws["order signal", "hit@1"].verdict != "as predictable in any order"
        wrong += draws["direction signal", "cosine"].verdict != "alike in both directions"
        wrong += steps["direction signal", "cosine"].verdict != "alike in both directions"
        wrong += steps["direction signal", "hit@1"].verdict != "alike in both directions"
    # 100 intervals: five are expected to miss; eleven or more would be rare (p < .02).
    assert wrong <= 10


def test_the_statistic_that_telescopes_is_not_in_use() -> None:
    """The mean of cos(v[t], v[t+1]) - cos(v[t], v[t-1]) is made of the article's ends alone."""
    rows, lengths = corpus(3, rotation, 50)
    articles = rows.reshape(len(lengths), -1, DIMENSION)
    after = np.einsum("atd,atd->at", articles[:, :-1], articles[:, 1:])
    telescoped = (after[:, 1:] - after[:, :-1]).sum(1)
    np.testing.assert_allclose(telescoped, after[:, -1] - after[:, 0], atol=1e-5)


def test_moments_are_those_of_the_pairs_themselves() -> None:
    rows, lengths = corpus(4, rotation, 6, length=5)
    lengths = np.array([5, 1, 4, 10, 10])
    found = orders(rows, lengths, np.random.default_rng(0))
    starts = np.cumsum(lengths) - lengths
    before = [i + t for i, n in zip(starts, lengths, strict=True) for t in range(n - 1)]
    x, y = rows[before].astype(float), rows[np.array(before) + 1].astype(float)
    for moments, (given, truth) in ((found.forwards, (x, y)), (found.reversed, (y, x))):
        assert moments.pairs == len(x)
        np.testing.assert_allclose(moments.x, given.sum(0), atol=1e-4)
        np.testing.assert_allclose(moments.y, truth.sum(0), atol=1e-4)
        np.testing.assert_allclose(moments.xx, given.T @ given, atol=1e-4)
        np.testing.assert_allclose(moments.xy, given.T @ truth, atol=1e-4)
        mean_x, mean_y = given.mean(0), truth.mean(0)
        centred = moments.about(mean_x, mean_y)
        np.testing.assert_allclose(centred[0], (given - mean_x).T @ (given - mean_x), atol=1e-4)
        np.testing.assert_allclose(centred[1], (given - mean_x).T @ (truth - mean_y), atol=1e-4)
    assert found.shuffled.pairs == len(x)
    # Two blocks are added up.
    whole = orders(rows[:6], lengths[:2], np.random.default_rng(0))
    whole += orders(rows[6:], lengths[2:], np.random.default_rng(0))
    np.testing.assert_allclose(whole.forwards.xy, found.forwards.xy, atol=1e-4)


def test_the_fit_is_least_squares_with_the_strength_that_validation_chooses() -> None:
    generator = np.random.default_rng(5)
    truth = generator.standard_normal((4, 4))

    def pairs(count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], Moments]:
        x = generator.standard_normal((count, 4)) + 2
        y = x @ truth + 1 + 0.1 * generator.standard_normal((count, 4))
        return x, y, Moments(count, x.sum(0), y.sum(0), x.T @ x, x.T @ y)

    x, y, train = pairs(500)
    held_x, held_y, held = pairs(200)
    (linear,) = fit([(train, held)])
    assert linear.strength == 0.001
    np.testing.assert_allclose(linear.weight, truth, atol=0.05)
    np.testing.assert_allclose(linear(x.astype(np.float32)).mean(0), y.mean(0), atol=1e-5)
    # Where nothing can be learnt, the strongest shrinkage is best.
    noisy = Moments(200, held_x.sum(0), held_y.sum(0), held_x.T @ held_x,
                    np.outer(held_x.sum(0), held_y.sum(0)) / 200)  # fmt: skip
    assert fit([(train, noisy)])[0].strength == 100
    # Maps that are compared share the strength that suits them together.
    assert len({each.strength for each in fit([(train, noisy), (train, held)])}) == 1
    with pytest.raises(ModelError, match="needs training and validation pairs"):
        fit([(train, Moments(0, np.zeros(4), np.zeros(4), np.zeros((4, 4)), np.zeros((4, 4))))])


def test_hits_by_hand() -> None:
    """An article on a circle, read by maps that change nothing: v[t] is its own prediction."""
    angles = np.radians([0, 10, 90, 20, 20])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    unit = Moments(9, np.zeros(2), np.zeros(2), 9 * np.eye(2), 9 * np.eye(2))
    (same,) = fit([(unit, unit)])
    sums = measure(Maps(same, same, same), rows, np.array([5]))
    cosine, hit_1, hit_5 = sums.totals[0, 0]
    assert cosine == pytest.approx(np.cos(np.radians([10, 80, 70, 0])).sum(), abs=1e-6)
    # After 0 comes 10, the nearest of four. After 10 comes 90, the farthest of three. After 90
    # comes 20, which ties with the other 20: half a hit. The last has one candidate: no question.
    assert hit_1 == pytest.approx(1.5)
    assert sums.weights.tolist() == [[4, 3, 0]]
    assert hit_5 == 0
    # Backwards: after 20 comes 20, of four; after the other 20 comes 90, not 10; after 90, 10.
    assert sums.totals[0, READINGS.index("backwards"), 1] == pytest.approx(2)
    # In any order: 1/4 + 1/3 + 1/2, whatever the prediction.
    assert sums.totals[0, READINGS.index("shuffled"), 1] == pytest.approx(1 / 4 + 1 / 3 + 1 / 2)
    pairs = [np.cos(a - b) for i, a in enumerate(angles) for j, b in enumerate(angles) if i != j]
    assert sums.totals[0, 3, 0] == pytest.approx(4 * np.mean(pairs), abs=1e-6)


def test_few_articles_have_values_and_no_interval() -> None:
    one = Sums(np.ones((2, 4, 3)), np.array([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]))
    found = {(s.statistic, s.measure): s for s in statistics(one)}
    assert found["forwards", "cosine"].value == 0.5
    assert found["forwards", "cosine"].low is None
    assert found["order signal", "cosine"].verdict == "too few articles"
    assert found["order signal", "hit@5"].value is None
    assert len(found) == 6 * 3
