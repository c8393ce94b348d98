"""What is predicted for a batch, and against what; sets on which an objective cannot be."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import TINY, architecture_of
from torch import Tensor, nn

from lvmdb.db.engine import Database
from lvmdb.errors import ModelError, UsageError
from lvmdb.models.base import LatentModel
from lvmdb.models.lag_residual import LagResidual
from lvmdb.sequences import sets
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.training import losses
from lvmdb.training.objective import answer
from lvmdb.training.plan import plan


class Whole(LatentModel):
    """Predicts only after the whole context."""

    def __init__(self) -> None:
        super().__init__(4)
        self.output_projection = nn.Linear(4, 3)

    def last_state(self, context: Tensor, mask: Tensor) -> Tensor:
        return context[:, -1]


class Echo(Whole):
    """Says each position's own number."""

    def states(self, context: Tensor, mask: Tensor) -> Tensor:
        return context

    def predict(self, state: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        return state[..., :3]


def batch(lengths: list[int], objective: str, time: int = 5, width: int = 4) -> SequenceBatch:
    """Sequences of so many concepts; each number says which sequence and which position."""
    starts = torch.tensor(lengths, dtype=torch.int64).unsqueeze(-1)  # (batch, 1)
    mask = torch.arange(time) >= time - starts
    number = 100.0 * torch.arange(len(lengths)).unsqueeze(-1) + torch.arange(time)
    context = (number * mask).unsqueeze(-1).repeat(1, 1, width)
    target = ((number + 1) * mask).unsqueeze(-1).repeat(1, 1, 3)
    return SequenceBatch(
        context=context,
        mask=mask,
        target=target if objective == "every" else target[:, -1],
        article_id=torch.arange(len(lengths)),
        target_seq=starts.squeeze(-1),
    )


def build(name: str, residual: bool) -> LatentModel:
    architecture = architecture_of(name)
    shared: dict[str, object] = {"input_dim": 4, "output_dim": 3, "context_len": 5}
    torch.manual_seed(0)
    built = architecture.build(
        architecture.configure({**TINY[name], **shared, "residual": residual})
    )
    assert isinstance(built, LatentModel)
    return built


def test_last_is_the_model_itself() -> None:
    model, given_batch = Whole(), batch([5, 2], "last")
    said = answer(model, given_batch)
    predicted, target = said.prediction, said.target
    assert torch.equal(predicted, model(given_batch.context, given_batch.mask))
    assert torch.equal(target, given_batch.target)
    assert given_batch.targets == len(given_batch) == 2


@given(lengths=st.lists(st.integers(0, 5), max_size=6))
def test_every_is_each_concept_once_and_beside_its_own_target(lengths: list[int]) -> None:
    given_batch = batch(lengths, "every")
    said = answer(Echo(), given_batch)
    predicted, target = said.prediction, said.target
    assert given_batch.targets == len(predicted) == sum(lengths)
    expected = [100.0 * row + t for row, n in enumerate(lengths) for t in range(5 - n, 5)]
    assert predicted[:, 0].tolist() == expected
    assert torch.equal(target, predicted + 1)


def test_the_mean_is_over_positions_not_over_sequences() -> None:
    """One sequence of four right answers, one of one wrong by two: 4/5 of nothing, 1/5 of 12."""
    given_batch = batch([4, 1], "every")
    context = given_batch.target.clone()
    context[1, -1] += 2
    wrong = SequenceBatch(
        torch.cat([context, torch.zeros(2, 5, 1)], -1),
        given_batch.mask,
        given_batch.target,
        given_batch.article_id,
        given_batch.target_seq,
    )
    value = losses.get("mse")(answer(Echo(), wrong))
    assert value.total.item() == pytest.approx(12 / 5)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("objective", "name"),
    [(o, name) for name in TINY for o in architecture_of(name).objectives],
)
def test_an_empty_batch_has_no_targets_and_no_gradient(
    objective: str, name: str, residual: bool
) -> None:
    """A sum over it is zero with a zero gradient for each parameter, as adding up wants it."""
    empty = batch([], objective)
    assert empty.targets == len(empty) == 0
    model = build(name, residual)
    said = answer(model, empty)
    predicted, target = said.prediction, said.target
    assert predicted.shape == target.shape == (0, 3)
    torch.autograd.backward((predicted - target).square().sum())
    for parameter, value in model.named_parameters():
        assert value.grad is not None, parameter
        assert bool((value.grad == 0).all()), parameter


def test_moving_a_batch_keeps_its_objective() -> None:
    moved = batch([3, 1], "every").to(torch.device("cpu"))
    assert moved.targets == 4
    assert moved.target.shape == (2, 5, 3)


@pytest.mark.parametrize("model", [Whole(), LagResidual(Whole(), 5)])
def test_a_model_for_whole_contexts_says_what_to_do(model: LatentModel) -> None:
    with pytest.raises(ModelError, match=r"Whole predicts only after .*objective=last"):
        answer(model, batch([3, 1], "every"))


def sequence_set(scope: str) -> sets.SequenceSet:
    """A draft: nothing more is looked at than what the plan refuses."""
    return sets.SequenceSet(
        sequence_set_id=1,
        name="old",
        dataset_source="wiki",
        encoder_id=1,
        context_len=5,
        stride=1,
        scope=scope,
        seed=0,
        frozen=False,
        fingerprint=None,
        articles=None,
        concepts=None,
        windows={},
    )


def test_every_position_of_an_article_needs_articles(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = cast("Database", None)
    monkeypatch.setattr(sets, "get", lambda db, name: sequence_set("corpus"))
    with pytest.raises(UsageError, match=r"^[^\n]*'old'.*with --scope article$"):
        plan(nowhere, "lstm", "old", {"objective": "every"})
    # What comes next is that it is a draft: all else was admitted.
    for scope, objective in (("corpus", "last"), ("article", "every"), ("article", "last")):
        monkeypatch.setattr(sets, "get", lambda db, name, scope=scope: sequence_set(scope))
        with pytest.raises(Exception, match="'old' is a draft"):
            plan(nowhere, "lstm", "old", {"objective": objective})


@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=6), lags=st.integers(1, 4))
def test_context_and_place_of_every_target(lengths: list[int], lags: int) -> None:
    given_batch = batch(lengths, "every")
    said = answer(Echo(), given_batch, lags, with_context=True)
    assert said.place is not None
    assert said.context is not None
    assert said.present is not None
    # The position is the number's last digits, and the target's is one more; seqs count from 1.
    position = said.prediction[:, 0] % 100
    first = torch.tensor([5 - n for n in lengths for _ in range(n)])
    assert torch.equal(said.place[:, 1], (position - first + 1).long())
    assert torch.equal(said.place[:, 0], (said.prediction[:, 0] // 100).long())
    back = torch.arange(lags - 1, -1, -1)
    wanted = said.prediction[:, :1] - back
    assert torch.equal(said.present, (position[:, None] - back) >= first[:, None])
    assert torch.equal(said.context[..., 0][said.present], wanted[said.present])
    last = batch([n for n in lengths if n], "last")
    if len(last):
        of_last = answer(Whole(), last, lags, with_context=True)
        assert of_last.place is not None
        assert of_last.context is not None
        assert of_last.place[:, 1].tolist() == [n for n in lengths if n]
        assert torch.equal(of_last.context, last.context[:, -lags:, :3])
