"""Coarser targets beside the whole one: what the heads say, what the terms are, what stays."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch
from torch import Tensor

from lvmdb.errors import ModelError
from lvmdb.models import registry
from lvmdb.models.base import LatentModel
from lvmdb.models.configs.lstm import LSTMConfig
from lvmdb.models.multi_resolution import MultiResolution, principal_components
from lvmdb.models.statistics import Statistics, measure

WIDTHS = (4, 2)


def statistics() -> Statistics:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(400, 8, generator=generator, dtype=torch.float64)
    return measure([rows * torch.arange(1, 9) + 0.3])


def build(**options: object) -> MultiResolution:
    architecture = registry.get("lstm")
    given = {"input_dim": 10, "output_dim": 8, "hidden": 5, "layers": 1, "context_len": 3}
    torch.manual_seed(0)
    built = architecture.build(architecture.configure({**given, "resolutions": "4,2", **options}))
    assert isinstance(built, MultiResolution)
    built = built.double()
    built.fit(statistics())
    return built


def batch(time: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    context = torch.randn(6, time, 10, generator=generator, dtype=torch.float64)
    target = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    return context, torch.ones(6, time, dtype=torch.bool), target


def terms(model: MultiResolution) -> dict[str, Tensor]:
    context, mask, target = batch()
    state = model.last_state(context, mask)
    return model.extra_terms(state, model.predict(state, context, mask), target)


def values(model: MultiResolution) -> dict[str, float]:
    return {name: term.item() for name, term in terms(model).items()}


def test_the_basis_is_the_eigenvectors_of_the_covariance() -> None:
    covariance = statistics().covariance
    basis = principal_components(covariance, 5)
    torch.testing.assert_close(basis.t() @ basis, torch.eye(5, dtype=torch.float64))
    values = torch.linalg.eigvalsh(covariance).flip(0)[:5]
    torch.testing.assert_close(covariance @ basis, basis * values)
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    assert bool((largest > 0).all())


def test_a_direction_has_one_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the solver turns its vectors."""
    covariance = statistics().covariance
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    expected = principal_components(covariance, 8)
    turned = vectors * torch.tensor([1, -1, 1, -1, -1, 1, -1, 1.0])
    monkeypatch.setattr(torch.linalg, "eigh", lambda _: (eigenvalues, turned))
    assert not torch.equal(turned, vectors)
    torch.testing.assert_close(principal_components(covariance, 8), expected)


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_what_is_predicted_stays_what_it_was(residual: bool, centre: bool) -> None:
    model = build(residual=residual, centre=centre)
    context, mask, _ = batch()
    assert torch.equal(model(context, mask), model.body(context, mask))
    state = model.last_state(context, mask)
    assert state.shape == (6, 5 + 4)
    torch.testing.assert_close(model.predict(state, context, mask), model(context, mask))
    assert torch.equal(model.every(context, mask), model.body.every(context, mask))
    torch.testing.assert_close(model.every(context, mask)[:, -1], model(context, mask))


@pytest.mark.parametrize("centre", [True, False])
def test_heads_of_a_residual_model_start_at_its_weighting(centre: bool) -> None:
    """Nothing is learnt yet: the coarse heads say what the prediction says, in fewer numbers."""
    model = build(centre=centre)
    found = values(model)
    assert found["consistency"] == pytest.approx(0.0, abs=1e-24)
    context, mask, target = batch()
    error = (model(context, mask) - target) @ model.basis  # (6, 4)
    for width in WIDTHS:
        expected = error[:, :width].square().sum(1).mean().item() / 4
        assert found[f"coarse_{width}"] == pytest.approx(expected)


@pytest.mark.parametrize("residual", [True, False])
def test_terms_by_hand(residual: bool) -> None:
    model = build(residual=residual)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    context, mask, target = batch()
    mean, basis = statistics().mean, principal_components(statistics().covariance, 4)
    prediction = model(context, mask)
    inner = model.body.body if residual else model.body
    state = cast(LatentModel, inner).last_state(context, mask)
    start = torch.zeros(6, 8, dtype=torch.float64)
    if residual:
        start = torch.einsum("t,btd->bd", model.body.lag_weights, context[..., :8])
    apart = 0.0
    found = values(model)
    assert list(found) == ["coarse_4", "coarse_2", "consistency"]
    for width, head in zip(WIDTHS, model.heads, strict=True):
        coarse = (start - mean) @ basis[:, :width] + head(state) / math.sqrt(8)
        coarse_target = (target - mean) @ basis[:, :width]
        said = (prediction - mean) @ basis[:, :width]
        expected = (coarse - coarse_target).square().sum(1).mean().item() / 2 / len(WIDTHS)
        assert found[f"coarse_{width}"] == pytest.approx(expected)
        apart += (coarse - said).square().sum(1).mean().item() / 2 / len(WIDTHS)
    assert found["consistency"] == pytest.approx(apart)


def test_all_coarse_terms_pull_as_one_half_squared_error() -> None:
    """Together they move what the heads start from by no more than its error, in all numbers."""
    model = build()
    _, _, target = batch()
    start = torch.randn(6, 4, dtype=torch.float64).requires_grad_()
    state = torch.cat([torch.zeros(6, 5, dtype=torch.float64), start], dim=-1)
    found = model.extra_terms(state, target, target)
    error = start - (target - model.mean) @ model.basis
    for name in ("coarse", "consistency"):
        total = torch.stack([v for term, v in found.items() if term.startswith(name)]).sum()
        (gradient,) = torch.autograd.grad(total, start, retain_graph=True)
        pull = 6 * gradient.norm(dim=1)  # the mean is over six
        assert bool((pull <= error.norm(dim=1) + 1e-12).all())
        assert bool((pull >= error.norm(dim=1) / 2).all())


def test_all_parts_learn() -> None:
    model = build()
    with torch.no_grad():
        model.head.weight.normal_()
    torch.autograd.backward(torch.stack(list(terms(model).values())).sum())
    for name, parameter in model.heads.named_parameters():
        assert parameter.grad is not None
        assert bool((parameter.grad != 0).any()), name
    weight = model.head.weight.grad
    assert weight is not None
    assert bool((weight != 0).any())


def test_a_checkpoint_holds_the_basis() -> None:
    model = build()
    architecture = registry.get("lstm")
    given = {"input_dim": 10, "output_dim": 8, "hidden": 5, "layers": 1, "context_len": 3}
    other = architecture.build(architecture.configure({**given, "resolutions": [4, 2]}))
    assert isinstance(other, MultiResolution)
    assert not bool(other.basis.any())
    other.double().load_state_dict(model.state_dict())
    assert values(other) == values(model)


@pytest.mark.parametrize("given", ["8", "4,4", "2,4", "4,0", "9,3", "-1"])
def test_resolutions_that_do_not_fall_are_refused(given: str) -> None:
    with pytest.raises(ModelError, match="resolutions must fall, from below 8 to 1 at least"):
        build(resolutions=given)


def test_what_generates_is_refused() -> None:
    class Generating(LSTMConfig):
        @property
        def generates(self) -> bool:
            return True

    with pytest.raises(ModelError, match="not for one that generates: leave them out"):
        Generating(resolutions=(384, 192))
    with pytest.raises(ModelError, match="not for one that generates"):
        registry.get("lcm").configure({"variant": "one_tower", "resolutions": "384,192"})
    assert Generating().generates
    assert LSTMConfig(resolutions=(384, 192)).needs_statistics
    assert not LSTMConfig().needs_statistics
