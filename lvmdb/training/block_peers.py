"""The same parts in another library: what `lvmdb bench blocks` stands beside.

Each is made as large as ours and takes over our numbers, so that both say the same: that is looked
at before either is timed. The library is transformers; where its own CUDA kernels are installed,
it finds them by itself.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from lvmdb.errors import MissingDependencyError, ModelError
from lvmdb.models.attention import CausalAttention
from lvmdb.models.mamba2 import Mamba2Mixer
from lvmdb.models.rwkv import TimeMixing

PACKAGE = "transformers"

_TOLERANCE = 1e-2
"""How far two outputs may be apart, relative to their length: both are of float32."""


@dataclass(frozen=True)
class Peer:
    """A part of another library.

    Attributes:
        name: as in the results.
        make: builds it from ours, with our numbers.
    """

    name: str
    make: Callable[[Any], nn.Module]


def peer_of(mixer: nn.Module) -> Peer | None:
    """The peer of one of our parts; None where no library that is compared has one."""
    return _PEERS.get(type(mixer))


def build(peer: Peer, mixer: nn.Module, d_model: int) -> nn.Module:
    """The peer of `mixer`, on its device.

    Raises:
        MissingDependencyError: transformers is not installed.
        ModelError: it says something else than ours.
    """
    device = next(mixer.parameters()).device
    with _quiet():
        made = peer.make(mixer).to(device)
        x = torch.randn(2, 7, d_model, device=device)
        with torch.no_grad():
            ours, theirs = said(mixer(x, None)), said(made(x))
    if not torch.linalg.vector_norm(ours - theirs) <= _TOLERANCE * torch.linalg.vector_norm(ours):
        raise ModelError(f"{peer.name} says something else than ours: this version cannot be timed")
    return made


def said(output: Any) -> Tensor:
    """What a part says, `(batch, time, d_model)`, without the states that some give beside it."""
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


def _mamba2(ours: Mamba2Mixer) -> nn.Module:
    config = _library("transformers.models.mamba2").Mamba2Config(
        hidden_size=ours.out_proj.out_features,
        num_heads=ours.heads,
        head_dim=ours.headdim,
        state_size=ours.d_state,
        conv_kernel=ours.conv1d.kernel_size[0],
        expand=ours.d_inner // ours.out_proj.out_features,
        n_groups=1,
        chunk_size=ours.chunk_size,
        num_hidden_layers=1,
    )
    module = _library("transformers.models.mamba2.modeling_mamba2")
    return _loaded(module.Mamba2Mixer(config, layer_idx=0), ours.state_dict())


def _rwkv(ours: TimeMixing) -> nn.Module:
    config = _library("transformers.models.rwkv").RwkvConfig(
        hidden_size=ours.output.out_features, num_hidden_layers=1
    )
    module = _library("transformers.models.rwkv.modeling_rwkv")
    return _loaded(module.RwkvSelfAttention(config, layer_id=0), ours.state_dict())


def _gpt2(ours: CausalAttention) -> nn.Module:
    config = _library("transformers.models.gpt2").GPT2Config(
        n_embd=ours.c_proj.out_features,
        n_head=ours.heads,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        attn_implementation="sdpa",
    )
    module = _library("transformers.models.gpt2.modeling_gpt2")
    # Its linear layers keep their matrices transposed.
    turned = {name: t.t() if t.dim() == 2 else t for name, t in ours.state_dict().items()}
    return _loaded(module.GPT2Attention(config, layer_idx=0), turned)


_PEERS: dict[type[nn.Module], Peer] = {
    Mamba2Mixer: Peer("transformers' Mamba2Mixer", _mamba2),
    TimeMixing: Peer("transformers' RwkvSelfAttention", _rwkv),
    CausalAttention: Peer("transformers' GPT2Attention", _gpt2),
}


def _loaded(module: nn.Module, numbers: dict[str, Tensor]) -> nn.Module:
    module.load_state_dict(numbers)
    return module


def _library(module: str) -> Any:
    """A module of transformers.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependencyError(PACKAGE, "encoders", "this contender") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what transformers notes about kernels that it does not find."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _library("transformers.utils.logging")  # the first import sets its logger's level
    logger = logging.getLogger(PACKAGE)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
