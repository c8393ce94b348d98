"""Parts of models beside the same of another library. What they measure, no test asserts."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from lvmdb.db.benchmarks import POSITIONS
from lvmdb.errors import ModelError, UnknownNameError, UsageError
from lvmdb.models import registry
from lvmdb.models.attention import CausalAttention
from lvmdb.models.mamba2 import Mamba2Mixer
from lvmdb.models.rwkv import TimeMixing
from lvmdb.training import bench_blocks as module
from lvmdb.training import block_peers
from lvmdb.training.bench_blocks import bench_blocks, time_mixer

SMALL: dict[str, Any] = {"d_model": 32, "steps": 2, "repetitions": 2, "device": "cpu"}
MAMBA, RWKV, GPT2 = (
    f"transformers' {name}" for name in ("Mamba2Mixer", "RwkvSelfAttention", "GPT2Attention")
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:transformers.*")


def test_each_part_stands_beside_its_peer() -> None:
    said: list[str] = []
    measured = bench_blocks(
        ["mamba2", "rwkv", "hybrid", "lstm", "rwkv"], [(2, 3), (1, 2)], **SMALL, warn=said.append
    )
    expected: list[tuple[str, str | None]] = []
    for shape in ("2x3", "1x2"):
        for ours, peer in (("mamba2", MAMBA), ("rwkv", RWKV), ("hybrid", GPT2)):
            expected += [(f"{name}, {shape}", f"{peer}, {shape}") for name in (ours, peer)]
        expected.append((f"lstm, {shape}", None))  # torch's own
    assert [(m.contender, m.peer) for m in measured] == expected
    assert not said
    for one in measured:
        assert (one.unit, len(one.samples)) == (POSITIONS, 2)
        assert all(sample > 0 for sample in one.samples)
        assert one.parameters["positions"] == {"2x3": 6, "1x2": 2}[one.parameters["shape"]]
    by_name = {m.contender: m.parameters for m in measured}
    for ours, peer in (("mamba2", MAMBA), ("rwkv", RWKV), ("hybrid", GPT2)):
        mine, other = by_name[f"{ours}, 2x3"], by_name[f"{peer}, 2x3"]
        assert mine["parameters"] == other["parameters"] > 3000
        assert (mine["kind"], other["kind"]) == ("lvmdb", "library")
        assert other["library"].startswith("transformers 5")
    assert by_name["mamba2, 2x3"]["model"]["d_state"] == 128
    assert by_name["lstm, 2x3"]["kind"] == "library"


def test_a_pass_is_forward_and_backward_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []

    class Counting(nn.Linear):
        def forward(self, x: torch.Tensor, mask: None = None) -> torch.Tensor:
            calls.append(tuple(x.shape))
            return super().forward(x)

    counting = Counting(32, 32)
    config = registry.get("rwkv").configure()
    monkeypatch.setattr(module, "time_mixer", lambda name, d_model, time: (counting, config))
    bench_blocks(["rwkv"], [(4, 7)], **SMALL)
    assert calls == [(1, 7, 32)] + [(4, 7, 32)] * 6  # one try, a round that warms up, two measured
    assert counting.weight.grad is not None


@pytest.mark.parametrize("name", registry.names(trained=True))
def test_each_architecture_has_a_part_or_says_so(name: str) -> None:
    said: list[str] = []
    measured = bench_blocks([name], [(1, 2)], **{**SMALL, "repetitions": 1}, warn=said.append)
    if not measured:
        assert said == [f"{name}, 1x2 is left out: it has no part by itself that mixes along time"]


def test_the_parts_are_those_that_they_are_said_to_be() -> None:
    kinds = {name: type(time_mixer(name, 64, 5)[0]) for name in ("mamba2", "rwkv", "hybrid")}
    assert kinds == {"mamba2": Mamba2Mixer, "rwkv": TimeMixing, "hybrid": CausalAttention}
    part, _ = time_mixer("hybrid", 512, 5)
    assert part.heads == 8
    assert isinstance(time_mixer("lstm", 64, 5)[0], nn.LSTM)


def test_without_the_library_ours_is_timed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    said: list[str] = []
    measured = bench_blocks(["mamba2"], [(1, 2)], **SMALL, warn=said.append)
    assert [m.contender for m in measured] == ["mamba2, 1x2"]
    assert said == [
        f"{MAMBA}, 1x2 is left out: this contender needs the package 'transformers': "
        "pip install 'lvmdb[encoders]'"
    ]


def test_a_peer_that_says_something_else_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(ours: TimeMixing) -> nn.Module:
        made = peer.make(ours)
        with torch.no_grad():
            made.get_parameter("value.weight")[0] += 1
        return made

    peer = block_peers._PEERS[TimeMixing]
    monkeypatch.setitem(block_peers._PEERS, TimeMixing, replace(peer, make=other))
    said: list[str] = []
    measured = bench_blocks(["rwkv"], [(1, 2)], **SMALL, warn=said.append)
    assert [m.contender for m in measured] == ["rwkv, 1x2"]
    assert said == [
        f"{RWKV}, 1x2 is left out: {RWKV} says something else than ours: "
        "this version cannot be timed"
    ]


def test_what_cannot_be_timed_is_refused_or_said() -> None:
    with pytest.raises(UsageError, match="--architectures: ridge is a baseline and has no block"):
        bench_blocks(["ridge"])
    with pytest.raises(UnknownNameError, match="unknown architecture 'rwkw'"):
        bench_blocks(["lstm", "rwkw"])
    said: list[str] = []
    assert bench_blocks(["mamba2"], [(1, 2)], d_model=33, device="cpu", warn=said.append) == []
    assert said == [
        "mamba2, 1x2 is left out: headdim must divide expand * d_model (66), which 64 does not"
    ]
    with pytest.raises(ModelError, match="headdim must divide"):
        time_mixer("mamba2", 33, 2)
