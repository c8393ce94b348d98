"""The process with a known answer: its law, its best prediction, its closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lvmdb.corpus.synthetic import Process, articles, closed_form, expected, windows
from lvmdb.db.types import DIMENSION
from lvmdb.errors import UsageError
from lvmdb.metrics.vectors import cosine

DEFAULT = Process()


def test_articles_are_drawn_again_and_longer_ones_begin_alike() -> None:
    first, again = (list(articles(DEFAULT, range(3), 8)) for _ in range(2))
    assert [a.texts[7] for a in first] == [f"synthetic article {n}, concept 7" for n in range(3)]
    assert [a.source_key for a in first] == [f"synthetic-{n}" for n in range(3)]
    for one, other in zip(first, again, strict=True):
        assert one.vectors.dtype == np.float32
        np.testing.assert_array_equal(one.vectors, other.vectors)
        np.testing.assert_allclose(np.linalg.norm(one.vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(DEFAULT.draw(1, 3)[1], DEFAULT.draw(1, 8)[1][:3])
    np.testing.assert_array_equal(DEFAULT.draw(1, 0)[0], DEFAULT.draw(1, 8)[0])
    assert np.abs(Process(seed=1).draw(0, 1)[1] - DEFAULT.draw(0, 1)[1]).max() > 0.01


def test_a_process_has_a_name_of_its_own() -> None:
    assert DEFAULT.name == "synthetic rank=8 carry=1 topic=0.2 noise=0.5 angle=0.6 seed=0"
    assert Process(seed=1).name != DEFAULT.name


def test_the_rotation_turns_the_subspace_and_nothing_else() -> None:
    basis, turned = DEFAULT.basis, DEFAULT.rotation
    np.testing.assert_allclose(basis.T @ basis, np.eye(8), atol=1e-12)
    np.testing.assert_allclose(turned.T @ turned, np.eye(8), atol=1e-12)
    assert np.linalg.det(turned) == pytest.approx(1)
    assert np.trace(turned) == pytest.approx(2 * np.cos(DEFAULT.angles).sum())
    assert DEFAULT.angles.mean() == pytest.approx(0.6)


def test_concepts_of_different_articles_are_never_near_duplicates() -> None:
    drawn = np.concatenate([a.vectors for a in articles(DEFAULT, range(200), 16)])
    cosines = drawn @ drawn.T
    article = np.repeat(np.arange(200), 16)
    cosines[article[:, None] == article] = -1
    assert cosines.max() < 0.9
    # Neither within an article, though they are alike.
    assert np.max(np.einsum("nd,nd->n", drawn[:-1], drawn[1:])) < 0.95


def test_without_noise_the_next_concept_is_known() -> None:
    process = Process(noise=0)
    topic, vectors = process.draw(5, 12)
    predicted = process.best_knowing_topic(vectors[:-1], np.tile(topic, (11, 1)))
    np.testing.assert_allclose(cosine(predicted, vectors[1:]), 1, atol=1e-12)
    with pytest.raises(UsageError, match="without noise"):
        process.best_from_context(vectors[None, :5])


def test_closed_form_without_noise() -> None:
    process = Process(noise=0, topic=0)
    best, copied, _ = closed_form(process, 5)
    assert best == 1
    assert copied == pytest.approx(np.cos(process.angles).mean())
    found = expected(process, 5, 12, sample=200)
    assert found.best_from_context.value == pytest.approx(1, abs=1e-12)
    assert found.copy_last.value == pytest.approx(copied, abs=4 * found.copy_last.error)


@pytest.mark.parametrize(
    "process",
    [
        Process(topic=0),
        Process(topic=0, angle=0, rank=16, noise=0.8),
        Process(topic=0, angle=1.1, rank=16, carry=2, noise=1.2),
    ],
    ids=lambda p: p.name,
)
def test_closed_form_and_monte_carlo_agree(process: Process) -> None:
    """The closed form leaves out that lengths vary: a few thousandths."""
    found = expected(process, 5, 16, sample=100)
    best, copied, mean = closed_form(process, 5)
    assert found.best_from_context.value == pytest.approx(found.best_knowing_topic.value)
    pairs = (
        (found.best_knowing_topic, best),
        (found.copy_last, copied),
        (found.context_mean, mean),
    )
    for one, value in pairs:
        assert one.value == pytest.approx(value, abs=0.003 + 4 * one.error)


def test_draws_around_a_centre_have_the_values_of_theory() -> None:
    """v = (b u + s e) / sqrt(b^2 + s^2): the next is told by u alone, at b / sqrt(b^2 + s^2)."""
    found = expected(Process(carry=0, topic=1, noise=0.7), 4, 10, sample=100)
    length = math.sqrt(1 + 0.7**2)
    assert found.best_knowing_topic.value == pytest.approx(1 / length, abs=0.002)
    assert found.copy_last.value == pytest.approx(1 / length**2, abs=0.002)
    # The mean of four has a quarter of the noise's variance.
    mean = 1 / length / math.sqrt(1 + 0.7**2 / 4)
    assert found.context_mean.value == pytest.approx(mean, abs=0.002)


def test_the_optimum_is_between_two_numbers_that_are_near() -> None:
    found = expected(DEFAULT, 3, 20, sample=100)
    above, below = found.best_knowing_topic, found.best_from_context
    assert 0 < above.value - below.value < 0.0012
    assert above.error < 0.001
    longer = expected(DEFAULT, 8, 20, sample=100)
    gap = longer.best_knowing_topic.value - longer.best_from_context.value
    assert 0 < gap < 0.5 * (above.value - below.value)
    assert below.value > found.copy_last.value + 0.2 > found.context_mean.value + 0.2


def test_nothing_added_to_the_best_prediction_makes_it_better() -> None:
    random = np.random.default_rng(0)
    best, others = [], []
    for number in range(60):
        topic, vectors = DEFAULT.draw(number, 20)
        contexts, target = windows(vectors, 3)
        predicted = DEFAULT.best_knowing_topic(contexts[:, -1], np.tile(topic, (17, 1)))
        best.append(cosine(predicted, target).mean())
        unit = predicted / np.linalg.norm(predicted, axis=1, keepdims=True)
        added = [contexts[:, -1], contexts[:, 0], contexts.mean(1), -contexts[:, -1]]
        added += [DEFAULT.basis @ random.standard_normal(8), random.standard_normal(DIMENSION)]
        lengths = [np.linalg.norm(a, axis=-1, keepdims=True) for a in added]
        others.append(
            [cosine(unit + 0.1 * a / n, target).mean() for a, n in zip(added, lengths, strict=True)]
        )
    assert np.all(np.mean(others, axis=0) < np.mean(best))


def test_windows_are_contexts_and_what_follows() -> None:
    rows = np.arange(6.0)[:, None]
    contexts, target = windows(rows, 4)
    assert contexts[..., 0].tolist() == [[0, 1, 2, 3], [1, 2, 3, 4]]
    assert target[:, 0].tolist() == [4, 5]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"rank": 7}, "--rank is an even number"),
        ({"rank": 0}, "--rank is an even number"),
        ({"rank": 258}, "--rank is an even number"),
        ({"noise": -1.0}, "--noise"),
        ({"carry": math.nan}, "--carry"),
        ({"topic": math.inf}, "--topic"),
        ({"angle": math.nan}, "--angle"),
        ({"carry": 0.0, "topic": 0.0, "noise": 0.0}, "cannot all be 0"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_numbers_that_make_no_process_are_refused(options: dict[str, float], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Process(**options)  # type: ignore[arg-type]


def test_a_closed_form_that_is_not_known_is_refused() -> None:
    for process in (DEFAULT, Process(carry=0, topic=0)):
        with pytest.raises(UsageError, match="closed form"):
            closed_form(process, 5)
