"""The losses, by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lvmdb.errors import UnknownNameError
from lvmdb.training import losses
from lvmdb.training.losses import Answer

RIGHT_ANGLE = Answer(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]]))


def test_by_hand() -> None:
    assert losses.get("mse")(RIGHT_ANGLE).total.item() == 5.0
    assert losses.get("cosine")(RIGHT_ANGLE).total.item() == 1.0
    both = losses.get("mse+cosine")(RIGHT_ANGLE)
    assert both.total.item() == 3.5
    assert {k: v.item() for k, v in both.terms.items()} == {"mse_sum": 5.0, "cosine_distance": 1.0}
    assert losses.mse_mean(RIGHT_ANGLE.prediction, RIGHT_ANGLE.target).item() == 2.5


def test_the_two_squared_errors_and_the_cosine_of_unit_vectors() -> None:
    torch.manual_seed(0)
    prediction, target = F.normalize(torch.randn(2, 64, 768), dim=-1)
    total = losses.mse_sum(prediction, target)
    torch.testing.assert_close(total, 2 * losses.cosine_distance(prediction, target))
    torch.testing.assert_close(total, 768 * losses.mse_mean(prediction, target))


def test_the_mixture_pulls_equally_along_the_sphere() -> None:
    prediction = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
    target = F.normalize(torch.tensor([[1.0, 2.0, -1.0]]), dim=-1)
    (square,) = torch.autograd.grad(0.5 * losses.mse_sum(prediction, target), prediction)
    (distance,) = torch.autograd.grad(losses.cosine_distance(prediction, target), prediction)
    torch.testing.assert_close(square[:, 1:], distance[:, 1:])


@pytest.mark.parametrize("name", [n for n in losses.names() if not losses.contrastive(n)])
def test_all_are_zero_at_the_target_and_finite_at_zero(name: str) -> None:
    target = F.normalize(torch.randn(5, 8), dim=-1)
    value = losses.get(name)(Answer(target, target))
    assert value.total.item() == pytest.approx(0.0, abs=1e-6)
    assert not any(term.requires_grad for term in value.terms.values())
    zero = torch.zeros(5, 8, requires_grad=True)
    torch.autograd.backward(losses.get(name)(Answer(zero, target)).total)
    assert zero.grad is not None
    assert torch.isfinite(zero.grad).all()


def test_an_unknown_loss() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown loss 'cosin'; did you mean 'cosine'\?"):
        losses.get("cosin")
