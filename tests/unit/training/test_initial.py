"""Published weights: transformers' own models, saved as they are published, and what is refused.

A model that starts from them must compute what transformers computes: the same stream in, the same
states out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    Mamba2Config,
    Mamba2ForCausalLM,
    RwkvConfig,
    RwkvForCausalLM,
    RwkvModel,
)
from transformers import Mamba2Model as TheirMamba2

from lvmdb.errors import InputError, ModelError
from lvmdb.models import registry
from lvmdb.models.backbone import Backbone
from lvmdb.models.base import LatentModel
from lvmdb.models.config import ModelConfig
from lvmdb.models.published import core
from lvmdb.training import initial

PUBLISHED = ["mamba2", "gpt2", "rwkv"]

OPTIONS: dict[str, dict[str, object]] = {
    "mamba2": {"d_model": 16, "layers": 2, "d_state": 4, "headdim": 8, "d_conv": 4, "expand": 2},
    "gpt2": {"d_model": 16, "layers": 3, "heads": 4, "max_positions": 32},
    "rwkv": {"d_model": 16, "layers": 2, "expand": 3},
}


def theirs(name: str, *, head: bool = False) -> Any:
    """A tiny model of transformers with weights that are far from its initial ones."""
    torch.manual_seed(5)
    if name == "mamba2":
        config = Mamba2Config(
            **{"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "head_dim": 8},
            **{"num_heads": 4, "expand": 2, "n_groups": 1, "vocab_size": 11, "conv_kernel": 4},
            **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        )
        made = (Mamba2ForCausalLM if head else TheirMamba2)(config)
    elif name == "gpt2":
        config = GPT2Config(
            **{"n_embd": 16, "n_layer": 3, "n_head": 4, "vocab_size": 11, "n_positions": 32},
            **{"bos_token_id": 1, "eos_token_id": 2},
        )
        made = (GPT2LMHeadModel if head else GPT2Model)(config)
    else:
        config = RwkvConfig(
            **{"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 11, "context_length": 32},
            **{"intermediate_size": 48, "attention_hidden_size": 16},
        )
        made = (RwkvForCausalLM if head else RwkvModel)(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def ours(name: str, **more: object) -> tuple[ModelConfig, LatentModel]:
    architecture = registry.get(name)
    shared: dict[str, object] = {"input_dim": 12, "output_dim": 12}
    config = architecture.configure({**OPTIONS[name], **shared, **more})
    torch.manual_seed(1)
    built = architecture.build(config)
    assert isinstance(built, LatentModel)
    return config, built.eval()


def started(name: str, folder: Path, **more: object) -> LatentModel:
    config, model = ours(name, **more)
    architecture = registry.get(name)
    sha256 = initial.weights_sha256(architecture, config, str(folder))
    initial.start(architecture, config, str(folder), sha256, model)
    return model


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    yield
    transformers.logging.set_verbosity_warning()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """`folder("gpt2")`: saved as published; `head`: with one; `kind`: safetensors, sharded, bin."""

    def save(name: str, *, head: bool = False, kind: str = "safetensors") -> Path:
        model = theirs(name, head=head)
        path = tmp_path / f"{name}-{kind}"
        size = "5KB" if kind == "sharded" else "1GB"
        model.save_pretrained(path, max_shard_size=size)
        if kind == "bin":
            (path / "model.safetensors").unlink()
            torch.save(model.state_dict(), path / "pytorch_model.bin")
        return path

    return save


def states_of(name: str, model: Any, stream: Tensor) -> Tensor:
    """What transformers makes of a stream `(batch, time, 16)` behind its embedding."""
    base = getattr(model, model.base_model_prefix, model)
    if name == "gpt2":
        stream = stream - base.wpe.weight[: stream.shape[1]]
    found: Tensor = base(inputs_embeds=stream).last_hidden_state
    return found


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("name", PUBLISHED)
@torch.no_grad()
def test_the_blocks_compute_what_the_published_ones_do(
    name: str, head: bool, folder: Callable[..., Path]
) -> None:
    before = ours(name)[1]
    model = started(name, folder(name, head=head))
    inner = core(model)
    assert isinstance(inner, Backbone)
    context, mask = torch.randn(2, 7, 12), torch.ones(2, 7, dtype=torch.bool)
    stream = inner.embed(context, None)
    if name == "rwkv":  # the norm behind the embedding is a published one
        stream = inner.input_projection(context)
    expected = states_of(name, theirs(name, head=head), stream)
    torch.testing.assert_close(inner.states(context, mask), expected, rtol=1e-4, atol=1e-5)
    # Projections, positions and all that is around the architecture are as they were made.
    kept = {"input_projection", "output_projection", "positions"}
    for key, value in core(before).state_dict().items():
        same = torch.equal(inner.state_dict()[key], value)
        assert same == (key.partition(".")[0] in kept), key
    assert torch.equal(model.lag_weights, before.lag_weights)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "kind"), [("rwkv", "sharded"), ("gpt2", "bin")])
def test_however_the_weights_are_stored(name: str, kind: str, folder: Callable[..., Path]) -> None:
    plain, other = folder(name), folder(name, kind=kind)
    if kind == "sharded":
        assert len(list(other.glob("model-*.safetensors"))) > 1
    first, second = started(name, plain), started(name, other)
    for key, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key
    config, _ = ours(name)
    hashes = {initial.weights_sha256(registry.get(name), config, str(f)) for f in (plain, other)}
    assert len(hashes) == 2
    assert all(len(found) == 64 for found in hashes)


def test_every_wrapper_leaves_the_blocks_to_the_innermost(folder: Callable[..., Path]) -> None:
    path = folder("mamba2")
    model = started("mamba2", path, tmd="condition", input_dim=28, centre=True, resolutions="6,3")
    expected = core(started("mamba2", path)).state_dict()
    for key, value in core(model).state_dict().items():
        if key.startswith(("blocks.", "norm.")):
            assert torch.equal(value, expected[key])


def test_names_of_mamba_ssm(folder: Callable[..., Path]) -> None:
    path = folder("mamba2", head=True)
    weights = load_file(path / "model.safetensors")
    renamed = {
        n.replace("backbone.embeddings", "backbone.embedding"): v for n, v in weights.items()
    }
    assert renamed.keys() != weights.keys()
    (path / "model.safetensors").unlink()
    torch.save(renamed, path / "pytorch_model.bin")
    settings = {"d_model": 16, "n_layer": 2, "ssm_cfg": {"layer": "Mamba2"}}
    (path / "config.json").write_text(json.dumps(settings))
    expected = core(started("mamba2", folder("mamba2", head=True, kind="sharded"))).state_dict()
    for key, value in core(started("mamba2", path)).state_dict().items():
        assert torch.equal(value, expected[key])


@pytest.mark.parametrize(
    ("name", "given", "why"),
    [
        ("mamba2", {"d_model": 32}, "the blocks in FOLDER have d_model 16: give --set d_model=16$"),
        ("mamba2", {"layers": 3}, "have layers 2: give --set layers=2$"),
        ("mamba2", {"d_state": 8, "headdim": 16}, "give --set d_state=4 --set headdim=8$"),
        ("gpt2", {"d_model": 8, "heads": 2}, "d_model 16, heads 4: give --set d_model=16 --set he"),
        ("gpt2", {"layers": 6}, "have layers 3: give --set layers=3$"),
        ("rwkv", {"expand": 4}, "have expand 3: give --set expand=3$"),
    ],
)
def test_other_shapes_are_refused_with_what_would_fit(
    name: str, given: dict[str, object], why: str, folder: Callable[..., Path]
) -> None:
    path = folder(name)
    with pytest.raises(ModelError) as caught:
        started(name, path, **given)
    assert "\n" not in str(caught.value)
    caught.match(why.replace("FOLDER", str(path)))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("n_groups", 2),
        ("layer_norm_epsilon", 1e-6),
        ("model_type", "mamba"),
        ("hidden_act", "relu"),
    ],
)
def test_settings_without_a_place_here_are_refused(
    setting: str, value: object, folder: Callable[..., Path]
) -> None:
    path = folder("mamba2")
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**settings, setting: value}))
    with pytest.raises(ModelError, match=f"has {setting} {value}, where only"):
        started("mamba2", path)


def test_weights_without_a_place_here_are_refused(folder: Callable[..., Path]) -> None:
    path = folder("mamba2")
    weights = load_file(path / "model.safetensors")
    first = "layers.0.mixer.D"
    for changed, why in (
        ({**weights, "layers.0.mixer.extra": torch.ones(1)}, "'blocks.0.mixer.extra'"),
        ({**weights, "adapter.weight": torch.ones(1)}, "has 'adapter.weight', which has no place"),
        ({n: v for n, v in weights.items() if n != first}, "has nothing for 'blocks.0.mixer.D'"),
        ({n: v for n, v in weights.items() if "A_log" not in n}, "lacks what would be 'blocks.0"),
        ({**weights, first: torch.ones(5)}, r"has \(5,\) for 'blocks.0.mixer.D', which is \(4,\)"),
        ({"embeddings.weight": torch.ones(2, 2)}, "has no blocks of a mamba2 model"),
    ):
        save_file(changed, path / "model.safetensors")
        with pytest.raises(ModelError, match=why):
            started("mamba2", path)


def test_files_that_are_missing_or_damaged_are_named(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    def refused(path: Path, why: str) -> None:
        with pytest.raises(InputError) as caught:
            started("mamba2", path)
        assert "\n" not in str(caught.value)
        caught.match(why)

    refused(tmp_path / "nowhere", r"init: .*nowhere is not a folder$")
    path = folder("mamba2")
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(data[:-100])
    refused(path, r"model.safetensors is truncated or damaged: ")
    (path / "model.safetensors").write_bytes(b"")
    refused(path, r"model.safetensors is truncated or damaged: ")
    (path / "model.safetensors").unlink()
    refused(path, "has neither model.safetensors nor pytorch_model.bin$")
    for content in (b"", b"no pickle", data):
        (path / "pytorch_model.bin").write_bytes(content)
        refused(path, "pytorch_model.bin cannot be loaded as tensors: ")
    torch.save({"step": 3}, path / "pytorch_model.bin")
    refused(path, "holds other things than tensors by name$")
    torch.save(nn.Linear(2, 2), path / "pytorch_model.bin")
    refused(path, "cannot be loaded as tensors: ")
    (path / "config.json").write_text("{")
    torch.save({"a": torch.ones(1)}, path / "pytorch_model.bin")
    refused(path, "config.json cannot be read as JSON: ")
    (path / "config.json").unlink()
    refused(path, "has no config.json$")

    sharded = folder("mamba2", kind="sharded")
    index = sharded / "model.safetensors.index.json"
    part = sorted(sharded.glob("model-*.safetensors"))[1]
    part.unlink()
    refused(sharded, f"has no {part.name}, which {index.name} names$")
    for names in ({}, {"a": "../elsewhere.safetensors"}, {"a": 3}):
        index.write_text(json.dumps({"weight_map": names}))
        refused(sharded, "names no files beside it$")


def test_who_has_published_blocks() -> None:
    found = [name for name in registry.names() if registry.get(name).published]
    assert sorted(found) == sorted(PUBLISHED)


def test_an_architecture_without_published_blocks_says_so(folder: Callable[..., Path]) -> None:
    config, _ = ours("mamba2")
    lstm = registry.get("lstm")
    with pytest.raises(ModelError, match="lstm starts from no published weights: leave it out"):
        initial.weights_sha256(lstm, lstm.configure({}), str(folder("mamba2")))
    with pytest.raises(ModelError, match="are not those that the run was planned with"):
        initial.start(
            registry.get("mamba2"), config, str(folder("mamba2")), "00", ours("mamba2")[1]
        )
