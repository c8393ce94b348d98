"""RWKV-4 against transformers' own, with the same weights, in float64."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lvmdb.models import wkv as module
from lvmdb.models.configs.rwkv import RWKVConfig
from lvmdb.models.rwkv import RWKV, ChannelMixing, TimeMixing
from lvmdb.models.wkv import NOTHING, wkv

WIDTH, LAYERS = 10, 3


@pytest.fixture(scope="module")
def library() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever importing transformers says about itself
        importlib.import_module("transformers.models.rwkv")
        return importlib.import_module("transformers.models.rwkv.modeling_rwkv")


@pytest.fixture(scope="module")
def upstream(library: Any) -> nn.Module:
    # rescale_every halves weights and stream in evaluation, which the norms undo but for epsilon.
    config = library.RwkvConfig(
        vocab_size=7, hidden_size=WIDTH, num_hidden_layers=LAYERS, rescale_every=0
    )
    torch.manual_seed(0)
    model: nn.Module = library.RwkvModel(config)
    return model.double().eval()


@pytest.fixture(scope="module")
def theirs(upstream: nn.Module) -> nn.Module:
    """Each number moved, so that no two parts have the same."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in upstream.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.4)
    return upstream


@pytest.fixture(autouse=True)
def in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers works in float32 inside, whatever it is given; here it stays in float64."""
    monkeypatch.setattr(Tensor, "float", lambda self: self)


def renamed(name: str) -> str:
    """Ours for a parameter of theirs."""
    if name == "blocks.0.pre_ln.weight" or name == "blocks.0.pre_ln.bias":
        return name.removeprefix("blocks.0.")
    if name.startswith("ln_out."):
        return name.replace("ln_out", "norm")
    _, block, part, rest = name.split(".", 3)
    ours = {
        "ln1": (0, "norm"),
        "attention": (0, "mixer"),
        "ln2": (1, "norm"),
        "feed_forward": (1, "mixer"),
    }
    odd, place = ours[part]
    return f"blocks.{2 * int(block) + odd}.{place}.{rest}"


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def compare(
    theirs: Callable[[Tensor], Tensor],
    ours: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    wanted: dict[str, nn.Parameter],
    got: dict[str, nn.Parameter],
) -> None:
    """Outputs, and gradients with respect to the input and to parameters of the same name."""
    given, direction = normal(*shape), normal(*shape)
    results = []
    for function, parameters in ((theirs, wanted), (ours, got)):
        x = given.clone().requires_grad_()
        output = function(x)
        gradients = torch.autograd.grad(
            output, [x, *parameters.values()], direction, materialize_grads=True
        )
        results.append((output, dict(zip(["x", *parameters], gradients, strict=True))))
    (expected, expected_gradients), (found, found_gradients) = results
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    assert found_gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(
            found_gradients[name], gradient, rtol=1e-8, atol=1e-9, msg=f"{name}: {{}}".format
        )


@pytest.mark.parametrize("time", [1, 2, 5, 16, 17, 25, 40])
def test_the_weighted_mean(library: Any, time: int) -> None:
    torch.manual_seed(time)
    given = [normal(WIDTH), normal(WIDTH), 3 * normal(2, time, WIDTH), normal(2, time, WIDTH)]
    for tensor in given:
        tensor.requires_grad_()
    log_decay, first, key, value = given
    expected, _ = library.rwkv_linear_attention_cpu(log_decay, first, key, value)
    found = wkv(log_decay.exp(), first, key, value)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    direction = normal(2, time, WIDTH)
    wanted = torch.autograd.grad(expected, given, direction, materialize_grads=True)
    for left, right in zip(torch.autograd.grad(found, given, direction), wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("time", [17, 30, 36])
def test_one_loop_and_chunks_agree(monkeypatch: pytest.MonkeyPatch, time: int) -> None:
    given = [normal(4).exp(), normal(4), normal(2, time, 4), normal(2, time, 4)]
    for tensor in given:
        tensor.requires_grad_()
    direction = normal(2, time, 4)
    results = []
    for longest in (16, 1000):
        monkeypatch.setattr(module, "LOOP", longest)
        y = wkv(*given)
        results.append((y, *torch.autograd.grad(y, given, direction)))
    for chunks, loop in zip(*results, strict=True):
        torch.testing.assert_close(chunks, loop, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("time", [9, 50])
def test_any_keys_are_stable_in_float32(time: int) -> None:
    """Keys whose exponentials neither float32 nor float64 can hold, beside each other."""
    torch.manual_seed(time)
    decay, first = torch.tensor([1e-4, 0.1, 3.0, 400.0]), torch.tensor([0.0, -90.0, 90.0, 1.0])
    key = torch.randn(2, time, 4) * torch.tensor([300.0, 1.0, 2000.0, 30.0])
    value = torch.randn(2, time, 4)
    results = []
    for dtype in (torch.float32, torch.float64):
        given = [t.to(dtype).requires_grad_() for t in (decay, first, key, value)]
        y = wkv(*given)
        results.append((y, *torch.autograd.grad(y.square().sum(), given)))
    for narrow, wide in zip(*results, strict=True):
        assert bool(narrow.isfinite().all())
        torch.testing.assert_close(narrow.double(), wide, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("time", [6, 33])
def test_nothing_before_the_start_has_no_influence(time: int) -> None:
    key, value = normal(1, time, 4), normal(1, time, 4)
    decay, first = normal(4).exp(), normal(4)
    expected = wkv(decay, first, key, value)
    padded = torch.full((1, 3, 4), NOTHING, dtype=torch.float64)
    found = wkv(
        decay, first, torch.cat([padded, key], 1), torch.cat([torch.zeros_like(padded), value], 1)
    )
    torch.testing.assert_close(found[:, 3:], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("time", [1, 6, 19])
def test_both_parts_of_a_block(theirs: nn.Module, time: int) -> None:
    torch.manual_seed(time)
    time_mixing, channel_mixing = TimeMixing(WIDTH), ChannelMixing(WIDTH, 4 * WIDTH)
    for name, part in (("attention", time_mixing), ("feed_forward", channel_mixing)):
        original = theirs.get_submodule(f"blocks.1.{name}")
        part.double().load_state_dict(original.state_dict())

        def mixed(x: Tensor, original: nn.Module = original) -> Tensor:
            output: Tensor = original(x)[0]
            return output

        compare(
            mixed,
            part,
            (2, time, WIDTH),
            dict(original.named_parameters()),
            dict(part.named_parameters()),
        )


@pytest.mark.parametrize("time", [1, 5, 18])
def test_the_whole_model(theirs: nn.Module, time: int) -> None:
    """Under the names that the module's docstring gives; the embedding is the only one left."""
    torch.manual_seed(time)
    ours = RWKV(RWKVConfig(d_model=WIDTH, layers=LAYERS, input_dim=WIDTH, output_dim=WIDTH))
    ours.double()
    theirs_by_name = {
        name: parameter
        for name, parameter in theirs.named_parameters()
        if name != "embeddings.weight"
    }
    own = {name: p for name, p in ours.named_parameters() if "_projection" not in name}
    assert {renamed(name): p.shape for name, p in theirs_by_name.items()} == {
        name: p.shape for name, p in own.items()
    }
    nn.init.eye_(ours.input_projection.weight)
    nn.init.zeros_(ours.input_projection.bias)
    published = {renamed(name): parameter for name, parameter in theirs_by_name.items()}
    missing = ours.load_state_dict(published, strict=False)
    assert not missing.unexpected_keys
    assert all("_projection" in name for name in missing.missing_keys)
    compare(
        lambda x: theirs(inputs_embeds=x, use_cache=False).last_hidden_state,
        lambda x: ours.states(x, torch.ones(x.shape[:2], dtype=torch.bool)),
        (2, time, WIDTH),
        theirs_by_name,
        {name: own[renamed(name)] for name in theirs_by_name},
    )


def test_padding_in_a_long_sequence() -> None:
    """Longer than one loop; with biases in the norms, that make padding look like a concept."""
    torch.manual_seed(0)
    model = RWKV(RWKVConfig(d_model=WIDTH, layers=2, input_dim=WIDTH, output_dim=WIDTH)).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    context = normal(2, 40, WIDTH)
    mask = torch.arange(40) >= torch.tensor([[7], [35]])
    together = model.every(context, mask)
    for row, start in ((0, 7), (1, 35)):
        alone = model.every(
            context[row : row + 1, start:], torch.ones(1, 40 - start, dtype=torch.bool)
        )
        torch.testing.assert_close(together[row, start:], alone[0], rtol=1e-9, atol=1e-10)


def test_initial_values_are_upstreams(library: Any) -> None:
    config = library.RwkvConfig(vocab_size=7, hidden_size=WIDTH, num_hidden_layers=LAYERS)
    port = dict(library.RwkvModel(config).named_parameters())
    ours = dict(RWKV(RWKVConfig(d_model=WIDTH, layers=LAYERS)).named_parameters())
    compared = 0
    for name, parameter in port.items():
        if "time_mix" in name or "time_decay" in name:
            torch.testing.assert_close(ours[renamed(name)], parameter)
            compared += 1
    assert compared == 6 * LAYERS
    # The port has ones here, by a slip (transformers 5.23); the release has log(.3) and a zigzag.
    zigzag = torch.tensor([0.0, 0.5, -0.5, 0.0])
    first = ours["blocks.2.mixer.time_first"][:4]
    torch.testing.assert_close(first, zigzag + torch.tensor(0.3).log())
    # The release starts what reaches the stream at zero; the rest keeps lengths.
    for name in ("0.mixer.key", "0.mixer.receptance", "0.mixer.output", "1.mixer.value"):
        assert not ours[f"blocks.{name}.weight"].any()
    assert not ours["blocks.1.mixer.receptance.weight"].any()
    for name, gain in (("0.mixer.value", 1), ("1.mixer.key", 4)):
        weight = ours[f"blocks.{name}.weight"]
        torch.testing.assert_close(weight.t() @ weight, gain * torch.eye(WIDTH))
