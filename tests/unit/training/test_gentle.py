"""Parameters that are trained gently neither decay nor take large steps."""

from __future__ import annotations

import pytest
import torch
from tiny_models import TINY, architecture_of

from lvmdb.models.base import LatentModel
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.training.options import TrainingOptions
from lvmdb.training.step import Stepper, parameter_groups


def built(name: str) -> LatentModel:
    shape: dict[str, object] = {"input_dim": 6, "output_dim": 6, "context_len": 5}
    architecture = architecture_of(name)
    model = architecture.build(architecture.configure({**TINY[name], **shape}))
    assert isinstance(model, LatentModel)
    return model


GENTLE = {
    "s4 dplr": ("log_dt", "log_A_real", "A_imag", "P", "B"),
    "hyena": ("filter.bias", "frequency", "network.0.weight", "network.6.weight"),
}


@pytest.mark.parametrize("name", list(GENTLE))
def test_they_are_a_group_of_their_own(name: str) -> None:
    model = built(name)
    decaying, free, gentle = parameter_groups(model, 0.25)
    assert (decaying["weight_decay"], free["weight_decay"], gentle["weight_decay"]) == (0.25, 0, 0)
    by_id = {id(p): key for key, p in model.named_parameters()}
    groups = [[by_id.pop(id(p)) for p in group["params"]] for group in (decaying, free, gentle)]
    assert not by_id
    for ending in GENTLE[name]:
        assert any(key.endswith(ending) for key in groups[2]), ending
        assert not any(key.endswith("." + ending) for key in groups[0] + groups[1]), ending
    for ending in ("input_projection.weight", "output_projection.weight"):
        assert any(key.endswith(ending) for key in groups[0])


def test_their_rate_is_at_most_a_thousandth() -> None:
    stepper = Stepper(built("s4 dplr"), "mse", TrainingOptions(lr=0.5))
    batch = SequenceBatch(
        context=torch.randn(2, 5, 6),
        mask=torch.ones(2, 5, dtype=torch.bool),
        target=torch.randn(2, 6),
        article_id=torch.arange(2),
        target_seq=torch.arange(2),
    )
    for rate, expected in ((0.004, [0.004, 0.004, 0.001]), (0.0004, [0.0004] * 3)):
        stepper.step(batch, rate)
        assert [group["lr"] for group in stepper.optimizer.param_groups] == expected
