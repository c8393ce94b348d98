"""Centring, and the statistics that it takes."""

from __future__ import annotations

import pytest
import torch
from tiny_models import TINY

from lvmdb.errors import ModelError
from lvmdb.models import registry
from lvmdb.models.base import LatentModel
from lvmdb.models.centred import Centred
from lvmdb.models.statistics import Statistics, measure


def build(**options: object) -> LatentModel:
    torch.manual_seed(0)
    architecture = registry.get("lstm")
    shared: dict[str, object] = {"input_dim": 9, "output_dim": 6, "context_len": 4}
    built = architecture.build(architecture.configure({**TINY["lstm"], **shared, **options}))
    assert isinstance(built, LatentModel)
    return built


def test_mean_and_covariance_of_blocks_are_those_of_the_whole() -> None:
    targets = torch.randn(50, 6) + 3
    found = measure([targets[:20], targets[20:27], targets[27:]])
    wanted = targets.double()
    torch.testing.assert_close(found.mean, wanted.mean(0))
    torch.testing.assert_close(found.covariance, torch.cov(wanted.T, correction=0))
    with pytest.raises(ModelError, match="no training window"):
        measure([])


@pytest.mark.parametrize("residual", [True, False])
def test_it_is_the_model_beside_the_mean(residual: bool) -> None:
    mean = torch.randn(6)
    centred, plain = build(centre=True, residual=residual), build(residual=residual)
    assert isinstance(centred, Centred)
    centred.fit(Statistics(mean.double(), torch.eye(6).double()))
    torch.nn.init.normal_(plain.head.weight)
    centred.body.load_state_dict(plain.state_dict())
    context = torch.randn(3, 4, 9)
    mask = torch.arange(4) >= torch.tensor([[0], [1], [3]])
    moved = context.clone()
    moved[..., :6] -= mean
    torch.testing.assert_close(centred(context, mask), plain(moved, mask) + mean)
    torch.testing.assert_close(centred.every(context, mask), plain.every(moved, mask) + mean)


def test_the_mean_is_saved_and_is_no_parameter() -> None:
    model = build(centre=True)
    assert registry.count_parameters(model) == registry.count_parameters(build())
    model.fit(Statistics(torch.ones(6).double(), torch.eye(6).double()))
    other = build(centre=True)
    other.load_state_dict(model.state_dict())
    assert isinstance(other, Centred)
    assert torch.equal(other.mean, torch.ones(6))


def test_the_residual_alone_starts_at_the_weighted_mean_moved() -> None:
    """A constant context is predicted as itself from the start, wherever the mean is."""
    model = build(centre=True)
    model.fit(Statistics(torch.full((6,), 5.0).double(), torch.eye(6).double()))
    context = torch.randn(2, 1, 9).expand(2, 4, 9)
    predicted = model(context, torch.ones(2, 4, dtype=torch.bool))
    torch.testing.assert_close(predicted, context[:, 0, :6])
