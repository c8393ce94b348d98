"""No model looks ahead: what comes later changes no earlier prediction.

All in double precision, for each architecture by itself and as the body of a `LagResidual`.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from tiny_models import TINY, architecture_of, awake
from torch import Tensor

from lvmdb.models.base import LatentModel
from lvmdb.models.lag_residual import LagResidual
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.training import losses
from lvmdb.training.losses import Answer
from lvmdb.training.objective import answer

LAGS = 4  # fewer than the positions of every sequence below
same = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-11)


CAUSAL = [name for name in TINY if "every" in architecture_of(name).objectives]
ALONE_AND_RESIDUAL = [kind + name for name in CAUSAL for kind in ("", "residual ")]


def plain(name: str) -> LatentModel:
    architecture = architecture_of(name)
    options = {**TINY[name], "input_dim": 10, "output_dim": 6, "residual": False}
    built = architecture.build(architecture.configure(options))
    assert isinstance(built, LatentModel)
    awake(built)
    return built


def generates(kind: str) -> bool:
    name = kind.removeprefix("residual ")
    return architecture_of(name).configure(TINY[name]).generates


@pytest.fixture(params=ALONE_AND_RESIDUAL)
def model(request: pytest.FixtureRequest) -> LatentModel:
    torch.manual_seed(0)
    body = plain(request.param.removeprefix("residual "))
    if not request.param.startswith("residual"):
        return body.double()
    built = LagResidual(body, LAGS)
    # As after training: the body says something, and the weights are of both signs.
    torch.nn.init.normal_(body.head.weight)
    torch.nn.init.normal_(built.lag_weights)
    return built.double()


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def gradients(model: LatentModel, of: Tensor) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(of, list(parameters.values()))
    return dict(zip(parameters, found, strict=True))


def shorter(model: LatentModel, context: Tensor) -> Tensor:
    """The prediction after all of `(batch, time, 10)`, by the way that predicts only once."""
    mask = torch.ones(context.shape[:2], dtype=torch.bool)
    if not isinstance(model, LagResidual):
        predicted: Tensor = model(context, mask)
        return predicted
    added: Tensor = model.body(context, mask)
    return model.weighted(context[:, -LAGS:], mask[:, -LAGS:]) + added / 6**0.5


def test_the_future_changes_nothing(model: LatentModel) -> None:
    context = normal(3, 11, 10)
    mask = torch.arange(11) >= torch.tensor([[0], [2], [5]])
    before = model.every(context, mask)  # (3, 11, 6)
    for cut in range(1, 11):
        other = context.clone()
        other[:, cut:] = 50 * normal(3, 11 - cut, 10)
        after = model.every(other, mask)
        torch.testing.assert_close(after[:, :cut], before[:, :cut], rtol=1e-11, atol=1e-11)
        assert not torch.allclose(after[:, cut:], before[:, cut:])


def test_no_gradient_comes_from_the_future(model: LatentModel) -> None:
    context = normal(2, 9, 10).requires_grad_()
    mask = torch.arange(9) >= torch.tensor([[0], [3]])
    every = model.every(context, mask)
    for position in range(3, 9):
        (gradient,) = torch.autograd.grad(
            every[:, position].square().sum(), context, retain_graph=True
        )
        assert bool((gradient[:, position + 1 :] == 0).all())
        assert bool((gradient[~mask] == 0).all())
        assert bool((gradient[:, position].abs().sum(-1) > 0).all())


def test_every_position_says_what_a_shorter_context_says(model: LatentModel) -> None:
    context = normal(2, 9, 10)
    every = model.every(context, torch.ones(2, 9, dtype=torch.bool))
    for time in range(1, 10):
        alone = shorter(model, context[:, :time])
        same(every[:, time - 1], alone)
        if time <= LAGS:  # a residual model, too, can be asked as it is
            asked = model(context[:, :time], torch.ones(2, time, dtype=torch.bool))
            same(every[:, time - 1], asked)


@pytest.mark.parametrize("held", [0.0, 70.0, float("nan")])
def test_padding_on_the_left_changes_nothing(model: LatentModel, held: float) -> None:
    """Sequences of 9, 5, 2 and 1 concepts in one batch, and each by itself: values, gradients."""
    lengths = (9, 5, 2, 1)
    context = normal(4, 9, 10)
    mask = torch.arange(9) >= torch.tensor([[9 - n] for n in lengths])
    context = torch.where(mask.unsqueeze(-1), context, held)
    together = model.every(context, mask)
    loss = together[mask].square().sum()
    assert bool(together.isfinite().all())
    sole = []
    for row, length in enumerate(lengths):
        full = torch.ones(1, length, dtype=torch.bool)
        alone = model.every(context[row : row + 1, 9 - length :], full)
        same(together[row, 9 - length :], alone[0])
        sole.append(alone.square().sum())
    expected = gradients(model, torch.stack(sole).sum())
    found = gradients(model, loss)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=name)


# One that generates is trained on its target with noise of its own: see test_lcm.
@pytest.mark.parametrize(
    "model", [k for k in ALONE_AND_RESIDUAL if not generates(k)], indirect=True
)
@pytest.mark.parametrize("name", ["mse", "cosine", "mse+cosine"])
def test_the_loss_is_the_mean_over_the_concepts_that_are_there(
    model: LatentModel, name: str
) -> None:
    """Each position one question, each with the same weight, asked one by one."""
    lengths = (9, 4, 1)
    mask = torch.arange(9) >= torch.tensor([[9 - n] for n in lengths])
    batch = SequenceBatch(
        context=normal(3, 9, 10) * mask.unsqueeze(-1),
        mask=mask,
        target=F.normalize(normal(3, 9, 6), dim=-1) * mask.unsqueeze(-1),
        article_id=torch.arange(3),
        target_seq=torch.tensor(lengths),
    )
    found = losses.get(name)(answer(model, batch)).total
    single = [
        losses.get(name)(
            Answer(
                shorter(model, batch.context[row : row + 1, 9 - n : 9 - n + time]),
                batch.target[row : row + 1, 9 - n + time - 1],
            )
        ).total
        for row, n in enumerate(lengths)
        for time in range(1, n + 1)
    ]
    assert len(single) == batch.targets == 14
    expected = torch.stack(single).mean()
    same(found, expected)
    wanted, got = gradients(model, expected), gradients(model, found)
    for parameter, value in wanted.items():
        torch.testing.assert_close(got[parameter], value, rtol=1e-8, atol=1e-10, msg=parameter)
