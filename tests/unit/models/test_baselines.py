"""The baselines against small cases worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lvmdb.errors import ModelError
from lvmdb.models import registry
from lvmdb.models.baselines.base import Baseline
from lvmdb.models.lag_residual import ramp
from lvmdb.sequences.batch import SequenceBatch

Pass = Callable[[], list[SequenceBatch]]


def batch(context: Tensor, target: Tensor, mask: Tensor | None = None) -> SequenceBatch:
    count = len(target)
    if mask is None:
        mask = torch.ones(context.shape[:2], dtype=torch.bool)
    return SequenceBatch(context, mask, target, torch.zeros(count).long(), torch.arange(count))


def make(name: str, dim: int, time: int, **options: object) -> Baseline:
    architecture = registry.get(name)
    shape: dict[str, object] = {"input_dim": dim, "output_dim": dim, "context_len": time}
    built = architecture.build(architecture.configure({**shape, **options}))
    assert isinstance(built, Baseline)
    return built


def once(*batches: SequenceBatch) -> Pass:
    return lambda: list(batches)


def walks(count: int, seed: int, dim: int = 8, time: int = 3) -> SequenceBatch:
    """Windows whose target leans on the lags with weights .1, .2, .7, plus noise."""
    generator = torch.Generator().manual_seed(seed)
    context = F.normalize(torch.randn(count, time, dim, generator=generator), dim=-1)
    clean = torch.tensor([0.1, 0.2, 0.7]) @ context
    noise = 0.05 * torch.randn(count, dim, generator=generator)
    return batch(context, F.normalize(clean + noise, dim=-1))


def mean_cosine(baseline: Baseline, on: SequenceBatch) -> float:
    return float(F.cosine_similarity(baseline.predict(on), on.target).mean())


def test_copy_last_and_context_mean() -> None:
    context = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[9.0, 9.0], [0.6, 0.8]]])
    mask = torch.tensor([[True, True], [False, True]])
    data = batch(context, torch.zeros(2, 2), mask)
    for name, expected in (
        ("copy-last", [[0.0, 1.0], [0.6, 0.8]]),
        ("context-mean", [[0.5, 0.5], [0.6, 0.8]]),
    ):
        baseline = make(name, 2, 2)
        baseline.fit(once(data), once(data), 0)
        torch.testing.assert_close(baseline.predict(data), torch.tensor(expected))
        assert baseline.state() == {}


def test_train_mean() -> None:
    zeros = torch.zeros(2, 1, 2)
    baseline = make("train-mean", 2, 1)
    first = batch(zeros, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    second = batch(zeros[:1], torch.tensor([[0.0, 1.0]]))
    baseline.fit(once(first, second), once(), 0)
    expected = torch.tensor([[1 / 3, 2 / 3], [1 / 3, 2 / 3]])
    torch.testing.assert_close(baseline.predict(first), expected)


def test_random_depends_on_seed_article_and_position_alone() -> None:
    baseline, other = make("random", 768, 2), make("random", 768, 2)
    data = batch(torch.zeros(200, 2, 768), torch.zeros(200, 768))
    baseline.fit(once(), once(), 7)
    other.fit(once(), once(), 8)
    drawn = baseline.predict(data)
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(200))
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    moved = SequenceBatch(
        data.context, data.mask, data.target, data.article_id[order], data.target_seq[order]
    )
    assert torch.equal(baseline.predict(moved), drawn[order])
    assert not torch.equal(other.predict(data), drawn)
    swapped = SequenceBatch(data.context, data.mask, data.target, data.target_seq, data.article_id)
    assert not torch.isclose(baseline.predict(swapped)[1:], drawn[1:]).all(1).any()

    # Isotropic: pairs are as good as orthogonal, and no dimension is preferred.
    cosines = (drawn @ drawn.T)[~torch.eye(200, dtype=torch.bool)]
    assert abs(float(cosines.mean())) < 0.002
    assert abs(float(cosines.std()) - 768**-0.5) < 0.002
    assert float(drawn.mean(0).abs().max()) < 5 * (200 * 768) ** -0.5


def test_random_is_pinned() -> None:
    """Stored predictions must come out again in years to come: worked with Python's integers."""

    def mix(bits: int) -> int:
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % 2**64
        return bits ^ (bits >> 31)

    step = 0x9E3779B97F4A7C15
    seed, article, position = 42, 5, 9
    key = mix((seed + step) % 2**64)
    for part in (article, position):
        key = mix(key ^ mix((part + step) % 2**64))
    uniform = [((mix((key + i * step) % 2**64) >> 11) + 1) / 2**53 for i in range(1, 7)]
    pairs = zip(uniform[:3], uniform[3:], strict=True)
    normal = [math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v) for u, v in pairs]
    length = math.sqrt(sum(n * n for n in normal))

    baseline = make("random", 3, 1)
    baseline.fit(once(), once(), seed)
    data = SequenceBatch(
        torch.zeros(1, 1, 3),
        torch.ones(1, 1, dtype=torch.bool),
        torch.zeros(1, 3),
        torch.tensor([article]),
        torch.tensor([position]),
    )
    assert baseline.predict(data)[0].tolist() == pytest.approx([n / length for n in normal])


def test_lag_weights_find_the_weights() -> None:
    train = walks(4000, 0)
    baseline = make("lag-weights", 8, 3)
    baseline.fit(once(train), once(), 0)
    weights = baseline.state()["lag_weights"]
    torch.testing.assert_close(
        weights / weights.sum(), torch.tensor([0.1, 0.2, 0.7]), atol=0.01, rtol=0
    )
    # The length makes squared error least: no factor on top of it helps.
    predicted = baseline.predict(train)
    factor = (predicted * train.target).sum() / predicted.square().sum()
    assert float(factor) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_lag_weights_are_at_the_top(seed: int) -> None:
    """No simple weighting, and no weighting nearby, has a better mean cosine on train."""
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(300, 4, 6, generator=generator)
    train = batch(context, torch.randn(300, 6, generator=generator) + context[:, 2])
    baseline = make("lag-weights", 6, 4)
    baseline.fit(once(train), once(), 0)
    reached = mean_cosine(baseline, train)

    def cosine_of(weights: Tensor) -> float:
        return float(F.cosine_similarity(weights @ context, train.target).mean())

    for simple in (torch.ones(4), torch.tensor([0.0, 0.0, 0.0, 1.0]), ramp(4)):
        assert reached >= cosine_of(simple) - 1e-7
    weights = baseline.state()["lag_weights"]
    for _ in range(20):
        nearby = weights + 0.05 * weights.norm() * torch.randn(4, generator=generator)
        assert reached >= cosine_of(nearby) - 1e-7


def test_lag_weights_do_not_depend_on_the_batches() -> None:
    train = walks(500, 3)
    pieces = [batch(train.context[i : i + 64], train.target[i : i + 64]) for i in range(0, 500, 64)]
    whole, parts = make("lag-weights", 8, 3), make("lag-weights", 8, 3)
    whole.fit(once(train), once(), 0)
    parts.fit(once(*pieces), once(), 0)
    torch.testing.assert_close(whole.state()["lag_weights"], parts.state()["lag_weights"])


@pytest.mark.parametrize("windows", [50, 7, 6, 5, 2])
def test_ridge_is_ridge(windows: int) -> None:
    """With more windows than the six numbers of a context, as many, and fewer."""
    torch.manual_seed(0)
    x, y = torch.randn(windows, 2, 3), torch.randn(windows, 3)
    data = batch(x, y)
    baseline = make("ridge", 3, 2, strengths=[0.5])
    baseline.fit(once(batch(x[:2], y[:2]), batch(x[2:], y[2:])), once(data), 0)
    flat, target = x.flatten(1).double(), y.double()
    centred = flat - flat.mean(0)
    gram = centred.T @ centred
    strength = 0.5 * gram.diagonal().mean() * torch.eye(6)
    weight = torch.linalg.solve(gram + strength, centred.T @ (target - target.mean(0)))
    expected = (flat - flat.mean(0)) @ weight + target.mean(0)
    torch.testing.assert_close(baseline.predict(data), expected.float())


@pytest.mark.parametrize("noise", [0.0, 1.0, 5.0])
def test_ridge_chooses_by_validation(noise: float) -> None:
    torch.manual_seed(0)
    linear, x = torch.randn(6, 3), torch.randn(200, 2, 3)
    clean = batch(x, x.flatten(1) @ linear)
    train = batch(x[:10], clean.target[:10] + noise * torch.randn(10, 3))
    grid = [1e-6, 0.1, 10.0]
    reached = []
    for strength in grid:
        alone = make("ridge", 3, 2, strengths=[strength])
        alone.fit(once(train), once(clean), 0)
        reached.append(mean_cosine(alone, clean))
    baseline = make("ridge", 3, 2, strengths=grid[::-1])
    baseline.fit(once(train), once(clean), 0)
    assert mean_cosine(baseline, clean) == pytest.approx(max(reached))
    assert float(baseline.state()["strength"]) == grid[reached.index(max(reached))]


def test_nearest_neighbour_and_its_ties() -> None:
    context = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[2.0, 0.0]], [[-1.0, 0.0]]])
    target = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]])
    query = torch.tensor([[[5.0, 0.1]], [[0.1, 3.0]], [[-1.0, 0.2]]])
    for block in (1, 2, 3, 100):
        baseline = make("nearest-neighbour", 2, 1, block=block)
        baseline.fit(
            once(batch(context[:3], target[:3]), batch(context[3:], target[3:])), once(), 0
        )
        predicted = baseline.predict(batch(query, torch.zeros(3, 2)))
        assert predicted[:, 0].tolist() == [1.0, 2.0, 4.0]


def test_nearest_neighbour_is_a_brute_force_search() -> None:
    train, query = walks(300, 1), walks(40, 2)
    baseline = make("nearest-neighbour", 8, 3, block=37)
    baseline.fit(once(train), once(), 0)
    for i in range(40):
        similarity = F.cosine_similarity(query.context[i].flatten(), train.context.flatten(1))
        assert torch.equal(baseline.predict(query)[i], train.target[similarity.argmax()])
    assert baseline.refit_on_load
    assert baseline.state() == {}


@pytest.mark.parametrize("name", registry.names(trained=False))
def test_every_baseline_is_deterministic_and_its_state_is_enough(name: str) -> None:
    train, validation, test = walks(200, 0), walks(50, 1), walks(50, 2)
    first, second, loaded = (make(name, 8, 3) for _ in range(3))
    for baseline in (first, second):
        baseline.fit(once(train), once(validation), 3)
    predicted = first.predict(test)
    assert predicted.shape == (50, 8)
    assert predicted.dtype == torch.float32
    assert torch.equal(predicted, second.predict(test))
    if not first.refit_on_load:
        loaded.load_state(first.state())
        assert torch.equal(predicted, loaded.predict(test))


@pytest.mark.parametrize("name", ["random", "train-mean", "lag-weights", "ridge"])
def test_state_of_another_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="the stored baseline has"):
        make(name, 8, 3).load_state({"something": torch.zeros(2)})


@pytest.mark.parametrize(
    "name", ["random", "train-mean", "lag-weights", "ridge", "nearest-neighbour"]
)
def test_unfitted_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="has not been fitted"):
        make(name, 8, 3).predict(walks(2, 0))


@pytest.mark.parametrize("name", ["train-mean", "lag-weights", "ridge", "nearest-neighbour"])
def test_an_empty_split_is_named(name: str) -> None:
    with pytest.raises(ModelError, match="the train split has no windows"):
        make(name, 8, 3).fit(once(), once(), 0)


def test_ridge_without_validation_is_refused() -> None:
    with pytest.raises(ModelError, match="the validation split has no windows"):
        make("ridge", 8, 3).fit(once(walks(20, 0)), once(), 0)


def test_windows_of_another_length_are_refused() -> None:
    with pytest.raises(ModelError, match=r"shape \(batch, 5, 8\), not \(4, 3, 8\)"):
        make("copy-last", 8, 5).predict(walks(4, 0))
