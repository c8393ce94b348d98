"""Margins by hand, and over parts of a batch as over the whole."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmdb.models.base import LatentModel
from lvmdb.sequences.batch import ProbeBatch
from lvmdb.training import losses
from lvmdb.training.margins import Margins, margin_terms
from lvmdb.training.objective import answer
from lvmdb.training.options import TrainingOptions
from lvmdb.training.step import Stepper


class Linear(LatentModel):
    """Answers with a linear map of the question."""

    def __init__(self) -> None:
        super().__init__(6)
        self.output_projection = nn.Linear(6, 6)

    def last_state(self, context: Tensor, mask: Tensor) -> Tensor:
        return context[:, -1]


def batch(rows: int = 7) -> ProbeBatch:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    present = torch.arange(3) < torch.arange(rows).unsqueeze(1) % 4
    return ProbeBatch(
        context=normal(rows, 1, 6),
        mask=torch.ones(rows, 1, dtype=torch.bool),
        target=F.normalize(normal(rows, 6), dim=-1),
        article_id=torch.arange(rows),
        target_seq=torch.arange(rows),
        soft=normal(rows, 3, 6) * present.unsqueeze(-1),
        soft_present=present,
        hard=normal(rows, 3, 6) * present.flip(0).unsqueeze(-1),
        hard_present=present.flip(0),
    )


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / a.norm() / b.norm())


def test_terms_by_hand() -> None:
    given = batch()
    prediction = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    found = margin_terms(prediction, given, Margins(soft=0.3, hard=0.7))
    for name, margin, negatives, present in (
        ("soft_margin", 0.3, given.soft, given.soft_present),
        ("hard_margin", 0.7, given.hard, given.hard_present),
    ):
        rows = []
        for row in range(7):
            over = [
                max(
                    0.0,
                    margin
                    - cosine(prediction[row], given.target[row])
                    + cosine(prediction[row], n),
                )
                for n in negatives[row][present[row]]
            ]
            rows.append(sum(over) / len(over) if over else 0.0)
        assert found[name].item() == pytest.approx(sum(rows) / 7, rel=1e-5)
        assert 0.0 in rows
        assert any(rows)


def test_a_target_that_is_near_enough_costs_nothing() -> None:
    given = batch()
    none = margin_terms(given.target, given, Margins(0.0, 0.0))
    assert set(none) == {"soft_margin", "hard_margin"}
    apart = ProbeBatch(**{**vars(given), "soft": -given.target.unsqueeze(1).repeat(1, 3, 1)})
    assert margin_terms(given.target, apart, Margins(2.0, 0.4))["soft_margin"].item() == 0.0
    assert margin_terms(-given.target, apart, Margins())["soft_margin"].item() > 1


def test_they_are_terms_of_any_loss() -> None:
    model, given = Linear(), batch()
    answered = answer(model, given, margins=Margins(0.1, 0.9))
    value = losses.get("mse+cosine")(answered)
    expected = margin_terms(model(given.context, given.mask), given, Margins(0.1, 0.9))
    assert list(value.terms) == ["mse_sum", "cosine_distance", "soft_margin", "hard_margin"]
    total = value.terms["mse_sum"] / 2 + value.terms["cosine_distance"] + sum(expected.values())
    torch.testing.assert_close(value.total, total)
    for name, term in expected.items():
        torch.testing.assert_close(value.terms[name], term.detach())


def test_a_step_keeps_negatives_off_by_its_options() -> None:
    given = batch()
    torch.manual_seed(0)
    model = Linear()
    stepper = Stepper(model, "cosine", TrainingOptions(margin_soft=2.0, margin_hard=0.0, lr=0.01))
    terms = [stepper.step(given, 0.01) for _ in range(60)]
    assert terms[-1]["soft_margin"] < terms[0]["soft_margin"]
    assert terms[0]["soft_margin"] > terms[0]["hard_margin"]


def test_parts_by_their_rows_are_the_whole() -> None:
    """So that several processes, each with its rows, are one."""
    prediction = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    whole = margin_terms(prediction, batch(), Margins())
    for name, value in whole.items():
        parts = []
        for rank in range(2):
            mine = torch.arange(7) % 2 == rank
            term = margin_terms(prediction[mine], batch().select(mine), Margins())[name]
            parts.append(term * int(mine.sum()) / 7)
        torch.testing.assert_close(torch.stack(parts).sum(), value)
    moved = batch().to(torch.device("cpu")).select(torch.zeros(7, dtype=torch.bool))
    assert isinstance(moved, ProbeBatch)
    assert len(moved) == len(moved.hard) == 0
