"""The backbone never looks ahead: what comes later changes no earlier prediction."""

from __future__ import annotations

import pytest
import torch

from lvmdb.models.backbone import Backbone
from lvmdb.models.config import Mamba2Config
from lvmdb.models.mamba2 import Mamba2


@pytest.fixture
def model() -> Backbone:
    torch.manual_seed(0)
    return Mamba2(
        Mamba2Config(
            input_dim=10, output_dim=6, d_model=16, layers=3, d_state=4, headdim=8, chunk_size=4
        )
    ).double()


def test_the_future_changes_nothing(model: Backbone) -> None:
    context = torch.randn(3, 11, 10, dtype=torch.float64)
    mask = torch.arange(11) >= torch.tensor([[0], [2], [5]])
    before = model.every(context, mask)  # (3, 11, 6)
    for cut in range(1, 11):
        other = context.clone()
        other[:, cut:] = 50 * torch.randn(3, 11 - cut, 10, dtype=torch.float64)
        after = model.every(other, mask)
        torch.testing.assert_close(after[:, :cut], before[:, :cut], rtol=1e-11, atol=1e-11)
        assert not torch.allclose(after[:, cut:], before[:, cut:])


def test_every_position_says_what_a_shorter_context_says(model: Backbone) -> None:
    context = torch.randn(2, 9, 10, dtype=torch.float64)
    mask = torch.ones(2, 9, dtype=torch.bool)
    every = model.every(context, mask)
    for time in range(1, 10):
        last = model(context[:, :time], mask[:, :time])
        torch.testing.assert_close(every[:, time - 1], last, rtol=1e-11, atol=1e-11)
