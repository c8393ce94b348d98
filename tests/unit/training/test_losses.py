"""The losses, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

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


def unit(*numbers: float) -> list[float]:
    return F.normalize(torch.tensor(numbers), dim=0).tolist()


def test_infonce_by_hand() -> None:
    """Each of two truths told from the other, at temperature one half."""
    prediction = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    target = torch.tensor([[1.0, 0.0], unit(1.0, 1.0)])
    value = losses.get("infonce", 0.5)(Answer(prediction, target))
    half = math.sqrt(0.5)
    rows = [math.log1p(math.exp((half - 1) / 0.5)), math.log1p(math.exp((0 - half) / 0.5))]
    assert value.total.item() == pytest.approx(sum(rows) / 2, rel=1e-6)
    assert value.terms["infonce"].item() == pytest.approx(sum(rows) / 2, rel=1e-6)


def test_a_concept_is_no_negative_of_itself() -> None:
    target = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    prediction = torch.tensor([unit(3.0, 1.0), unit(1.0, 2.0), unit(1.0, 1.0)])
    twice = losses.infonce(Answer(prediction, target), 0.1)
    once = [
        losses.infonce(Answer(prediction[[row]], target[[row]], others=target[[other]]), 0.1)
        for row, other in ((0, 2), (1, 2), (2, 0))
    ]
    # The third is told from both copies of the first: two candidates.
    again = losses.infonce(Answer(prediction[[2]], target[[2]], others=target[:2]), 0.1)
    torch.testing.assert_close(twice, (once[0] + once[1] + again) / 3)


def test_the_context_is_a_hard_negative_where_it_is_there() -> None:
    prediction, target = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    context = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    for present, negatives in (
        ([False, False, False], []),
        ([False, False, True], [-1.0]),
        ([True, True, True], [1.0, -1.0]),  # the second is the truth itself
    ):
        given = Answer(prediction, target, context=context, present=torch.tensor([present]))
        expected = math.log(1.0 + sum(math.exp(cosine / 0.5) for cosine in negatives))
        assert losses.infonce(given, 0.5).item() == pytest.approx(expected, abs=1e-6)


def test_a_concept_of_the_own_context_is_no_candidate() -> None:
    """Four targets of one article, one of another: with two lags, each is told from the rest."""
    torch.manual_seed(0)
    prediction, target = torch.randn(2, 5, 6)
    place = torch.tensor([[7, 3], [7, 4], [7, 5], [7, 6], [8, 5]])
    others, others_place = torch.randn(2, 6), torch.tensor([[7, 2], [9, 2]])
    # What each row is told from, by number; 5 and 6 are the other process's.
    against = [[1, 2, 3, 4, 6], [2, 3, 4, 6], [3, 4, 5, 6], [0, 4, 5, 6], [0, 1, 2, 3, 5, 6]]
    everything = F.normalize(torch.cat([target, others]), dim=-1)
    expected = []
    for row, negatives in enumerate(against):
        cosine = F.normalize(prediction[row], dim=-1) @ everything.T / 0.3
        kept = cosine[[row, *negatives]]
        expected.append(kept.logsumexp(0) - cosine[row])
    found = losses.infonce(
        Answer(prediction, target, place, 2, others=others, others_place=others_place), 0.3
    )
    torch.testing.assert_close(found, torch.stack(expected).mean())


def test_others_count_as_if_they_were_in_the_batch() -> None:
    torch.manual_seed(0)
    prediction, target = torch.randn(2, 7, 5)
    whole = losses.infonce(Answer(prediction, target), 0.2)
    first = losses.infonce(Answer(prediction[:3], target[:3], others=target[3:]), 0.2)
    second = losses.infonce(Answer(prediction[3:], target[3:], others=target[:3]), 0.2)
    torch.testing.assert_close(whole, (3 * first + 4 * second) / 7)


@pytest.mark.parametrize("temperature", [0.02, 0.05, 0.2])
def test_no_term_of_a_mixture_drowns_another(temperature: float) -> None:
    """The gradients of all three terms along the sphere, in a crowd as it is on real data."""
    torch.manual_seed(0)
    shared = torch.randn(1, 64)
    target = F.normalize(torch.randn(128, 64) + shared, dim=-1)
    noise = 0.2 * torch.randn(128, 64)  # a cosine of .53 to the truth: training's first steps
    prediction = F.normalize(target + noise, dim=-1).requires_grad_()
    sizes = []
    for value in (
        0.5 * losses.mse_sum(prediction, target),
        losses.cosine_distance(prediction, target),
        temperature * losses.infonce(Answer(prediction, target), temperature),
    ):
        (gradient,) = torch.autograd.grad(value, prediction)
        along = gradient - (gradient * prediction).sum(-1, keepdim=True) * prediction
        sizes.append(along.norm().item())
    assert max(sizes) < 5 * min(sizes), sizes
    # Unscaled, InfoNCE would be as much larger as its temperature is smaller.
    mixed = losses.get("mse+infonce", temperature)(Answer(prediction, target))
    by_hand = 0.5 * mixed.terms["mse_sum"] + temperature * mixed.terms["infonce"]
    torch.testing.assert_close(mixed.total, by_hand)


@pytest.mark.parametrize("name", ["infonce", "mse+infonce", "mse+cosine"])
def test_the_weight_is_of_infonce_in_a_mixture_alone(name: str) -> None:
    given = Answer(torch.randn(5, 4), torch.randn(5, 4))
    plain, weighed = (losses.get(name, 0.1, weight=weight)(given) for weight in (1.0, 3.0))
    assert plain.terms == weighed.terms
    more = 2 * 0.1 * plain.terms["infonce"] if name == "mse+infonce" else torch.tensor(0.0)
    torch.testing.assert_close(weighed.total, plain.total + more)


@pytest.mark.parametrize(("name", "scale"), [("mse", 0.5), ("cosine", 1.0), ("infonce", 0.1)])
def test_a_single_loss_beside_other_terms_pulls_as_in_a_mixture(name: str, scale: float) -> None:
    given = Answer(torch.randn(5, 4), torch.randn(5, 4))
    alone, beside = (losses.get(name, 0.1, mixed=mixed)(given) for mixed in (False, True))
    torch.testing.assert_close(beside.total, scale * alone.total)
    assert alone.terms == beside.terms


def test_extra_terms_are_added_and_logged() -> None:
    plain = losses.get("cosine")(RIGHT_ANGLE)
    more = losses.get("cosine")(replace(RIGHT_ANGLE, extra={"coarse": torch.tensor(0.25)}))
    assert (more.total - plain.total).item() == 0.25
    assert more.terms["coarse"].item() == 0.25


def test_an_unknown_loss() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown loss 'cosin'; did you mean 'cosine'\?"):
        losses.get("cosin")
