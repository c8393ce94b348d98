"""Checkpoints as bytes: what goes in comes out, and what is not what it says is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lvmdb.errors import ModelError
from lvmdb.models import registry
from lvmdb.models.base import LatentModel
from lvmdb.models.config import ModelConfig
from lvmdb.models.configs.lstm import LSTMConfig
from lvmdb.models.lag_residual import LagResidual
from lvmdb.models.lstm import LSTM
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.training.checkpoint import pack, pack_state, unpack, unpack_state
from lvmdb.training.options import TrainingOptions
from lvmdb.training.step import Stepper, seed_step

CONFIG = LSTMConfig(input_dim=12, output_dim=12, context_len=3, hidden=8, layers=2, dropout=0.4)


def built(seed: int, config: ModelConfig = CONFIG, name: str = "lstm") -> LatentModel:
    torch.manual_seed(seed)
    model = registry.get(name).build(config)
    assert isinstance(model, LatentModel)
    return model


def batch(seed: int) -> SequenceBatch:
    generator = torch.Generator().manual_seed(seed)
    return SequenceBatch(
        context=torch.randn(5, 3, 12, generator=generator),
        mask=torch.ones(5, 3, dtype=torch.bool),
        target=torch.randn(5, 12, generator=generator),
        article_id=torch.zeros(5, dtype=torch.int64),
        target_seq=torch.arange(5),
    )


def stepped(seed: int, steps: int) -> Stepper:
    stepper = Stepper(built(seed), "mse", TrainingOptions())
    stepper.model.train()
    take(stepper, range(steps))
    return stepper


def take(stepper: Stepper, steps: range) -> None:
    for number in steps:
        seed_step(7, number, 0)
        stepper.step(batch(number), 1e-2)


def test_the_bytes_are_a_function_of_the_weights() -> None:
    first, again, other = stepped(1, 3), stepped(1, 3), stepped(2, 3)
    packed = [pack(stepper.model, CONFIG) for stepper in (first, again, other)]
    assert packed[0] == packed[1] != packed[2]


def test_weights_and_golden_output_come_back() -> None:
    model = stepped(1, 3).model
    loaded = built(9)
    unpack(pack(model, CONFIG), loaded, CONFIG)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    assert model.training
    assert loaded.training


def test_going_on_is_bit_for_bit() -> None:
    """Weights, moments, step counts and the random numbers of dropout."""
    straight = stepped(1, 7)
    half = stepped(1, 4)
    data = pack(half.model, CONFIG, half.optimizer)
    torch.manual_seed(1234)
    resumed = Stepper(built(99), "mse", TrainingOptions())
    unpack(data, resumed.model, CONFIG, resumed.optimizer)
    assert resumed.optimizer.param_groups[0]["weight_decay"] == 0.01
    assert resumed.optimizer.param_groups[1]["weight_decay"] == 0.0
    resumed.model.train()
    take(resumed, range(4, 7))
    assert pack(resumed.model, CONFIG, resumed.optimizer) == pack(
        straight.model, CONFIG, straight.optimizer
    )


def test_random_numbers_are_of_run_step_and_process() -> None:
    def drawn(seed: int, step: int, rank: int) -> float:
        seed_step(seed, step, rank)
        return float(torch.rand(()))

    given = [(s, t, r) for s in (0, 1, -1, 2**63 - 1) for t in (0, 1, 10**9) for r in (0, 1)]
    found = [drawn(*numbers) for numbers in given]
    assert found == [drawn(*numbers) for numbers in given]
    assert len(set(found)) == len(given)


def test_another_forward_pass_under_the_same_names_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = pack(stepped(1, 40).model, CONFIG)
    honest = LSTM.forward

    def changed(self: LSTM, context: Tensor, mask: Tensor) -> Tensor:
        return honest(self, context.flip(1), mask)

    monkeypatch.setattr(LSTM, "forward", changed)
    other = built(1)
    with pytest.raises(ModelError, match="do not give the output that was stored with them"):
        unpack(data, other, CONFIG)


def test_another_class_with_the_same_names_is_refused() -> None:
    class Backwards(LatentModel):
        def __init__(self, like: LatentModel) -> None:
            super().__init__(like.input_dim)
            for name, child in like.named_children():
                self.add_module(name, child)

        def last_state(self, context: Tensor, mask: Tensor) -> Tensor:
            hidden, _ = self.lstm(self.input_projection(context))  # type: ignore[operator]
            mean: Tensor = hidden.mean(1)
            return mean

    plain = LSTMConfig(input_dim=12, output_dim=12, context_len=3, hidden=8, residual=False)
    data = pack(built(1, plain), plain)
    unpack(data, built(2, plain), plain)
    with pytest.raises(ModelError, match="code of the architecture is not the one"):
        unpack(data, Backwards(built(2, plain)), plain)


def test_an_output_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every comparison with NaN is false: it must not pass for a small difference."""
    data = pack(stepped(1, 3).model, CONFIG)

    def broken(self: LagResidual, context: Tensor, mask: Tensor) -> Tensor:
        return torch.full((len(context), 12), torch.nan)

    monkeypatch.setattr(LagResidual, "forward", broken)
    with pytest.raises(ModelError, match="do not give the output"):
        unpack(data, built(1), CONFIG)


def test_a_slightly_other_rounding_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack(stepped(1, 3).model, CONFIG)
    honest = LagResidual.forward
    for factor, fits in ((1 + 2e-6, True), (1 + 1e-3, False)):
        monkeypatch.setattr(LagResidual, "forward", lambda s, c, m, f=factor: honest(s, c, m) * f)
        if fits:
            unpack(data, built(1), CONFIG)
        else:
            with pytest.raises(ModelError, match="do not give the output"):
                unpack(data, built(1), CONFIG)


@pytest.mark.parametrize(
    "change", [{"hidden": 9}, {"layers": 1}, {"layers": 3}, {"residual": False}]
)
def test_another_configuration_is_refused(change: dict[str, Any]) -> None:
    data = pack(built(1), CONFIG)
    fields = {"input_dim": 12, "output_dim": 12, "context_len": 3, "hidden": 8, "layers": 2}
    other = LSTMConfig(**{**fields, **change})
    with pytest.raises(ModelError, match="does not fit the architecture"):
        unpack(data, built(1, other), other)


def test_other_bytes_are_refused() -> None:
    data = pack(built(1), CONFIG)
    for broken in (b"", b"PK\x03\x04 not safetensors", data[: len(data) // 2]):
        with pytest.raises(ModelError, match="not safetensors"):
            unpack(broken, built(1), CONFIG)


def test_without_a_golden_pair_nothing_is_trusted() -> None:
    model = built(1)
    with pytest.raises(ModelError, match="no golden pair"):
        unpack(pack_state(dict(model.state_dict())), model, CONFIG)


def test_a_golden_pair_is_of_evaluation() -> None:
    """Dropout has no part in it, and the module's mode is left as it was."""
    model = stepped(1, 3).model
    model.train()
    assert pack(model, CONFIG) == pack(model, CONFIG)
    assert model.training
    model.eval()
    pack(model, CONFIG)
    assert not model.training


def test_a_baselines_state_comes_back() -> None:
    state = {"mean": torch.arange(6.0).reshape(2, 3).T, "seed": torch.tensor(-5), "none": Tensor()}
    found = unpack_state(pack_state(state))
    assert found.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(found[name], value)
        assert found[name].dtype == value.dtype
    assert unpack_state(pack_state({})) == {}


def test_a_damaged_baseline_is_refused() -> None:
    with pytest.raises(ModelError, match="not safetensors"):
        unpack_state(b"nothing of the kind")
