"""The hybrid is the tested blocks, one after the other; where they stand, and what each adds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lvmdb.errors import ModelError
from lvmdb.models import hybrid
from lvmdb.models.attention import CausalAttention
from lvmdb.models.configs.hybrid import HybridConfig
from lvmdb.models.feed_forward import FeedForward
from lvmdb.models.hybrid import Hybrid
from lvmdb.models.mamba2 import Mamba2Mixer
from lvmdb.models.options import from_options

SMALL: dict[str, int] = {
    "d_model": 8,
    "headdim": 4,
    "d_state": 3,
    "heads": 2,
    "input_dim": 6,
    "output_dim": 5,
}


def build(**options: int) -> Hybrid:
    torch.manual_seed(0)
    return Hybrid(from_options(HybridConfig, {**SMALL, **options})).double()


def kinds(layers: int, attention_every: int) -> str:
    """Mamba-2, attention and feed-forward mixers as M, A and F."""
    letters = {Mamba2Mixer: "M", CausalAttention: "A", FeedForward: "F"}
    model = build(layers=layers, attention_every=attention_every)
    return "".join(letters[type(block.get_submodule("mixer"))] for block in model.blocks)


def test_one_of_every_few_blocks_is_attention() -> None:
    assert kinds(12, 4) == "MMAFM" * 3
    assert kinds(12, 6) == "MMMAFMM" + "MMMAFMM"
    for layers, every, expected in ((18, 6, 3), (18, 4, 4), (32, 8, 4)):  # Jamba's one to seven
        config = HybridConfig(layers=layers, attention_every=every)
        assert sum(map(config.is_attention, range(layers))) == expected
    assert kinds(2, 1) == "AFAF"
    with pytest.raises(ModelError, match="attention_every 6 puts no attention into 3 layers"):
        HybridConfig(layers=3, attention_every=6)
    with pytest.raises(ModelError, match=r"heads must divide d_model \(256\), which 3 does not"):
        HybridConfig(heads=3)


def test_it_is_the_composition_of_its_blocks() -> None:
    """Values and gradients, by the mixers alone; padding included."""
    model = build(layers=3, attention_every=3, chunk_size=4)
    x = torch.randn(2, 9, 6, dtype=torch.float64)
    mask = torch.arange(9) >= torch.tensor([[0], [4]])
    x = x * mask.unsqueeze(-1)

    def normed(stream: Tensor, norm: nn.Module) -> Tensor:
        size = stream.square().mean(-1, keepdim=True) + 1e-5
        return stream / size.sqrt() * norm.get_parameter("weight")

    given = [*model.parameters()]
    stream = x @ model.input_projection.weight.t() + model.input_projection.bias
    for block in model.blocks:
        mixer = block.get_submodule("mixer")
        stream = stream + mixer(normed(stream, block.get_submodule("norm")), mask)
    stream = normed(stream, model.norm)
    expected = stream @ model.output_projection.weight.t() + model.output_projection.bias
    found = model.every(x, mask)
    torch.testing.assert_close(found[mask], expected[mask], rtol=1e-10, atol=1e-11)
    direction = torch.randn_like(expected[mask])
    wanted = torch.autograd.grad(expected[mask], given, direction)
    for left, right in zip(torch.autograd.grad(found[mask], given, direction), wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-8, atol=1e-10)


def test_its_kernel_is_that_of_its_mamba_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build(layers=3, attention_every=3).kernel == "torch"
    config = HybridConfig(kernel="mamba_ssm", layers=3, attention_every=3)
    with pytest.raises(ModelError, match="set kernel to auto or torch"):
        _ = Hybrid(config).kernel
    monkeypatch.setattr(hybrid, "resolve_kernel", "{} on {}".format)
    assert build(layers=3, attention_every=3).kernel == "auto on cpu"


def test_what_writes_to_the_stream_starts_smaller_the_deeper_the_model() -> None:
    def deviation(layers: int) -> float:
        model = build(layers=layers, attention_every=3, d_model=64, headdim=16)
        return float(model.get_parameter("blocks.1.mixer.c_proj.weight").detach().std())

    # 3 blocks are 4 mixers, 12 are 16.
    assert math.isclose(deviation(12), deviation(3) / 2, rel_tol=0.05)
