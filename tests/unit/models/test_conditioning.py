"""TMD codes as a model reads them: behind the concept, or as a scale of the hidden stream."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from tiny_models import TINY, architecture_of, awake
from torch import Tensor

from lvmdb.db.types import TMD_DIMENSION
from lvmdb.errors import ModelError
from lvmdb.models.backbone import Backbone
from lvmdb.models.base import LatentModel
from lvmdb.models.conditioning import Conditioning
from lvmdb.models.config import TMD_WIDTH, TrainedConfig
from lvmdb.models.configs.mamba2 import Mamba2Config

MASK = torch.tensor([[True] * 5, [False, False, True, True, True]])


def build(tmd: str, name: str = "mamba2", **options: object) -> LatentModel:
    architecture = architecture_of(name)
    width = 12 if tmd == "none" else 12 + TMD_WIDTH
    shared: dict[str, object] = {"input_dim": width, "output_dim": 12, "tmd": tmd}
    torch.manual_seed(1)
    built = architecture.build(architecture.configure({**TINY[name], **shared, **options}))
    assert isinstance(built, LatentModel)
    return built.eval()


def said(model: LatentModel, context: Tensor, mask: Tensor) -> Tensor:
    """What it predicts; of what is drawn, with the same noise each time."""
    torch.manual_seed(3)
    predicted: Tensor = model(context, mask)
    return predicted


def contexts() -> tuple[Tensor, Tensor]:
    """Concepts with and without a code."""
    context = torch.randn(2, 5, 12 + TMD_WIDTH, generator=torch.Generator().manual_seed(0))
    context[0, 1, 12:] = 0
    context[1, 3:, 12:] = 0
    return context, MASK


def backbone(model: LatentModel) -> Backbone:
    while not isinstance(model, Backbone):
        model = cast(LatentModel, model.body)
    return model


def test_the_width_is_that_of_the_codes() -> None:
    assert TMD_WIDTH == TMD_DIMENSION


def test_scales_by_hand() -> None:
    torch.manual_seed(0)
    found = Conditioning(3, 4)
    code = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert torch.equal(found(code), torch.ones(3, 4))
    for parameter in found.parameters():
        torch.nn.init.normal_(parameter)
    weight, bias = found.projection.weight, found.projection.bias
    scale = found(code)
    torch.testing.assert_close(scale[0], 1 + weight @ code[0] + bias)
    torch.testing.assert_close(scale[1], 1 + found.unknown)
    torch.testing.assert_close(scale[2], 1 + weight[:, 1] + bias)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("centre", [True, False])
def test_training_starts_at_the_model_without_codes(residual: bool, centre: bool) -> None:
    conditioned = build("condition", residual=residual, centre=centre)
    plain = build("none", residual=residual, centre=centre)
    missing = conditioned.load_state_dict(plain.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    assert {name.partition("conditioning.")[2] for name in missing.missing_keys} == {
        "projection.weight",
        "projection.bias",
        "unknown",
    }
    context, mask = contexts()
    assert torch.equal(conditioned(context, mask), plain(context[..., :12], mask))
    assert torch.equal(conditioned.every(context, mask), plain.every(context[..., :12], mask))


def test_the_stream_is_scaled_at_each_position_by_its_own_code() -> None:
    model = backbone(build("condition", residual=False))
    assert model.conditioning is not None
    for parameter in model.conditioning.parameters():
        torch.nn.init.normal_(parameter)
    seen: list[Tensor] = []
    model.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    context, mask = contexts()
    model(context, mask)
    embedded = model.input_projection(context[..., :12].masked_fill(~mask.unsqueeze(-1), 0.0))
    code = context[..., 12:].masked_fill(~mask.unsqueeze(-1), 0.0)
    torch.testing.assert_close(seen[0], embedded * model.conditioning(code))
    # NULL is no code: its scale is its own, whatever f says of others.
    torch.testing.assert_close(seen[0][1, 4], embedded[1, 4] * (1 + model.conditioning.unknown))


def test_all_of_it_learns() -> None:
    model = backbone(build("condition", residual=False))
    context, mask = contexts()
    model(context, mask).square().sum().backward()
    assert model.conditioning is not None
    for name, parameter in model.conditioning.named_parameters():
        assert parameter.grad is not None
        assert bool((parameter.grad != 0).any()), name


@pytest.mark.parametrize("name", list(TINY))
def test_every_architecture_reads_codes_as_input(name: str) -> None:
    model = build("input", name, residual=False)
    awake(model)
    context, mask = contexts()
    predicted = said(model, context, mask)
    assert predicted.shape == (2, 12)
    assert torch.equal(said(model, context, mask), predicted)
    other = context.clone()
    other[..., 12:] *= -1
    assert not torch.allclose(said(model, other, mask), predicted)
    with pytest.raises(ModelError, match=r"contexts of shape \(batch, time, 28\)"):
        model(context[..., :12], mask)


@pytest.mark.parametrize("name", list(TINY))
def test_conditioning_needs_the_shared_backbone(name: str) -> None:
    plain = build("none", name, residual=False)
    if isinstance(plain, Backbone):
        assert backbone(build("condition", name)).conditioning is not None
        return
    with pytest.raises(ModelError, match=rf"which {type(plain).__name__} is not built on: use"):
        build("condition", name)


def test_half_precision_and_double() -> None:
    context, mask = contexts()
    model = build("condition", residual=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(context, mask)
    exact = model(context, mask)
    assert bool((torch.cosine_similarity(exact, rounded.float()) > 0.99).all())
    assert model.double()(context.double(), mask).dtype == torch.float64


def test_a_width_without_room_for_codes_is_refused() -> None:
    with pytest.raises(ModelError, match="tmd must be one of none, input, condition, not 'all'"):
        Mamba2Config(tmd="all")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="input_dim must be 784, not 768"):
        Mamba2Config(tmd="input")
    config: TrainedConfig = Mamba2Config(tmd="input", input_dim=784)
    assert config.reads_tmd
    assert not Mamba2Config().reads_tmd
