"""The registry: names, presets, sizes, and what every architecture promises."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from tiny_models import TINY, architecture_of, awake

from lvmdb.errors import MissingDependencyError, ModelError, UnknownNameError
from lvmdb.models import mamba2_kernels, registry
from lvmdb.models.base import LatentModel
from lvmdb.models.baselines.base import Baseline
from lvmdb.models.config import ModelConfig
from lvmdb.models.configs.lstm import LSTMConfig
from lvmdb.models.configs.mamba2 import Mamba2Config
from lvmdb.models.mamba2 import Mamba2
from lvmdb.models.mamba2_kernels import resolve_kernel
from lvmdb.training.catalogue import parameters


def build(name: str, **options: object) -> LatentModel:
    architecture = architecture_of(name)
    torch.manual_seed(1)
    shared: dict[str, object] = {"input_dim": 14, "output_dim": 12}
    built = architecture.build(architecture.configure({**TINY[name], **shared, **options}))
    assert isinstance(built, LatentModel)
    awake(built)
    return built.eval()


def test_listing_imports_no_architecture() -> None:
    code = (
        "import sys, lvmdb.models.registry as r; r.names(); "
        "print([m for m in sys.modules if m == 'torch' or m.startswith('lvmdb.models.lstm')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_and_an_unknown_one() -> None:
    assert set(registry.names(trained=True)) == {architecture_of(label).name for label in TINY}
    assert len(registry.names(trained=False)) == 7
    with pytest.raises(UnknownNameError, match=r"did you mean 'mamba2'\?"):
        registry.get("mamba-2")
    with pytest.raises(UnknownNameError, match="unknown preset 'huge'"):
        registry.get("lstm").configure(preset="huge")
    with pytest.raises(ModelError, match="lstm is built from LSTMConfig, not Mamba2Config"):
        registry.get("lstm").build(Mamba2Config())


def test_options_win_over_presets() -> None:
    config = registry.get("lstm").configure({"layers": 3}, "toy")
    assert config == LSTMConfig(hidden=272, layers=3)


@pytest.mark.parametrize("name", registry.names())
def test_presets_build(name: str) -> None:
    architecture = registry.get(name)
    for preset in ("toy", "small"):
        built = architecture.build(architecture.configure(preset=preset))
        assert isinstance(built, LatentModel if architecture.trained else Baseline)
        assert built.kernel == "torch"


def test_sizes() -> None:
    def size(name: str, preset: str | None = None) -> int:
        architecture = registry.get(name)
        with torch.device("meta"):
            built = architecture.build(architecture.configure({"residual": False}, preset))
        return registry.count_parameters(built)

    assert size("lstm") == 4_990_208
    # DistilGPT-2 without its token embedding, and two projections between 768 and 768.
    assert size("gpt2") == 81_912_576 - 50_257 * 768 + 2 * (768 * 768 + 768)
    assert 125_000_000 < size("mamba2", "full") < 135_000_000
    assert 165_000_000 < size("rwkv", "full") < 175_000_000


@pytest.mark.parametrize("name", registry.names(trained=True))
def test_architectures_are_compared_at_equal_size(name: str) -> None:
    """With the residual, as they are by default."""
    architecture = registry.get(name)
    assert 950_000 <= parameters(architecture, "toy") <= 1_050_000
    assert 4_500_000 <= parameters(architecture, "small") <= 5_500_000


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("name", list(TINY))
def test_shape_and_determinism(name: str, residual: bool) -> None:
    context, mask = torch.randn(3, 5, 14), torch.ones(3, 5, dtype=torch.bool)
    first, second = build(name, residual=residual), build(name, residual=residual)
    assert first(context, mask).shape == (3, 12)
    assert torch.equal(first(context, mask), second(context, mask))


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("name", list(TINY))
def test_padding_has_no_influence(name: str, residual: bool) -> None:
    """Whatever it holds; and a padded context is the same as a shorter one."""
    model = build(name, residual=residual)
    if residual:
        torch.nn.init.normal_(model.get_submodule("body").output_projection.weight)  # type: ignore[union-attr, arg-type]
    context = torch.randn(4, 5, 14)
    mask = torch.arange(5) >= torch.tensor([[0], [1], [3], [4]])  # (4, 5)
    clean = model(context, mask)
    for garbage in (torch.randn(4, 5, 14) * 100, torch.full((4, 5, 14), float("nan"))):
        assert torch.equal(model(torch.where(mask.unsqueeze(-1), context, garbage), mask), clean)
    for row, length in enumerate((5, 4, 2, 1)):
        alone = model(context[row : row + 1, 5 - length :], mask[row : row + 1, 5 - length :])
        torch.testing.assert_close(alone[0], clean[row], rtol=1e-5, atol=1e-6)
    assert torch.isfinite(model(context, torch.zeros(4, 5, dtype=torch.bool))).all()


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("name", list(TINY))
def test_an_architecture_has_the_objectives_that_it_names(name: str, residual: bool) -> None:
    model = build(name, residual=residual)
    context, mask = torch.randn(3, 5, 14), torch.arange(5) >= torch.tensor([[0], [2], [4]])
    if "every" not in architecture_of(name).objectives:
        with pytest.raises(ModelError, match=r"only after the whole context: .*objective=last"):
            model.every(context, mask)
        return
    predicted = model.every(context, mask)
    assert predicted.shape == (3, 5, 12)
    torch.testing.assert_close(predicted[:, -1], model(context, mask), rtol=1e-5, atol=1e-6)
    with pytest.raises(ModelError, match="padded on the left"):
        model.every(context, mask.flip(1))
    with pytest.raises(ModelError, match=r"contexts of shape \(batch, time, 14\)"):
        model.every(context[..., :9], mask)


@pytest.mark.parametrize("name", list(TINY))
def test_every_parameter_learns(name: str) -> None:
    model = build(name, residual=False)
    mask = torch.arange(5) >= torch.tensor([[0], [2]])
    context, target = torch.randn(2, 5, 14), torch.randn(2, 12)
    said = model.denoised(context, mask, target) if model.generates else model(context, mask)
    said.square().sum().backward()
    for parameter, value in model.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize("name", list(TINY))
def test_saved_and_loaded_it_says_the_same(name: str) -> None:
    model, other = build(name), build(name)
    context, mask = torch.randn(3, 5, 14), torch.ones(3, 5, dtype=torch.bool)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(context, mask), other(context, mask))


@pytest.mark.parametrize("name", list(TINY))
def test_half_precision_stays_close(name: str) -> None:
    model = build(name, residual=False)
    context, mask = torch.randn(3, 5, 14), torch.ones(3, 5, dtype=torch.bool)
    exact = model(context, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(context, mask)
    similar = torch.nn.functional.cosine_similarity(exact, rounded.float())
    assert bool((similar > 0.99).all())


@pytest.mark.parametrize("name", list(TINY))
def test_wrong_shapes_are_refused(name: str) -> None:
    model = build(name)
    with pytest.raises(ModelError, match=r"contexts of shape \(batch, time, 14\), not \(2, 5, 9\)"):
        model(torch.randn(2, 5, 9), torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(ModelError, match="the mask of a context"):
        model(torch.randn(2, 5, 14), torch.ones(2, 5))
    with pytest.raises(ModelError, match="padded on the left"):
        model(torch.randn(1, 3, 14), torch.tensor([[True, False, True]]))


def test_resolve_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_kernel("auto", "cpu") == "torch"
    assert resolve_kernel("torch", "cuda") == "torch"
    with pytest.raises(ModelError, match="runs on CUDA only, not on 'cpu'"):
        resolve_kernel("mamba_ssm", "cpu")
    with pytest.raises(ModelError, match="kernel must be one of"):
        resolve_kernel("triton", "cpu")

    monkeypatch.setattr(mamba2_kernels, "_imported", lambda module: None)
    assert resolve_kernel("auto", "cuda") == "torch"
    with pytest.raises(MissingDependencyError, match=r"pip install 'lvmdb\[cuda\]'"):
        resolve_kernel("mamba_ssm", "cuda")
    monkeypatch.setattr(mamba2_kernels, "_imported", lambda module: object())
    assert resolve_kernel("auto", "cuda:1") == "mamba_ssm"


def test_mamba2_asked_for_absent_kernels_does_not_fall_back() -> None:
    model = build("mamba2", kernel="mamba_ssm")
    with pytest.raises(ModelError, match="set kernel to auto or torch"):
        _ = model.kernel
    with pytest.raises(ModelError, match="set kernel to auto or torch"):
        model(torch.randn(1, 5, 14), torch.ones(1, 5, dtype=torch.bool))


def test_mamba2_has_upstreams_keys_and_initial_values() -> None:
    config = registry.get("mamba2").configure(TINY["mamba2"])
    assert isinstance(config, ModelConfig)
    model = registry.get("mamba2").build(config)
    assert isinstance(model, LatentModel)
    mamba = model.get_submodule("body")
    assert isinstance(mamba, Mamba2)
    mixer = mamba.blocks[0].get_submodule("mixer")
    expected = {"in_proj.weight", "conv1d.weight", "conv1d.bias", "dt_bias", "A_log", "D"}
    assert set(mixer.state_dict()) == expected | {"norm.weight", "out_proj.weight"}
    step = torch.nn.functional.softplus(mixer.get_parameter("dt_bias"))
    assert bool(((step > 0.99e-3) & (step < 0.101)).all())
    decay = mixer.get_parameter("A_log").exp()
    assert bool(((decay >= 0.99) & (decay <= 16.01)).all())
    assert bool((mixer.get_parameter("D") == 1).all())
