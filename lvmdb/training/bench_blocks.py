"""`lvmdb bench blocks`: what mixing along time costs, one part of each architecture.

A pass is a few times forward and backward, the gradient of the input included, as within a stack.
All parts are equally wide and read the same number of positions; where a library has the same part,
it takes its turns beside ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from importlib.metadata import version
from typing import Any, TypeAlias, cast

import torch
from torch import nn

from lvmdb.db.benchmarks import POSITIONS, Measured
from lvmdb.errors import LvmdbError, ModelError, UsageError
from lvmdb.models import registry
from lvmdb.models.backbone import Backbone
from lvmdb.models.config import ModelConfig
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences.turns import Contender, take_turns
from lvmdb.training import block_peers
from lvmdb.training.environment import resolve_device

Shape: TypeAlias = tuple[int, int]
"""Sequences, and positions of each."""

D_MODEL = 512
SHAPES: tuple[Shape, ...] = ((64, 5), (32, 64), (8, 256), (4, 1024))
"""As a window is trained on, as whole articles are, and longer."""

HEAD_WIDTH = 64
"""Where a part has heads, they are about so wide."""

PARTS: dict[str, dict[str, object]] = {
    "hybrid": {"attention_every": 1},  # its attention; the other blocks are those of mamba2
    "mamba2": {"d_state": 128},  # the authors' own default
}
"""Options of a model of one block, where the default will not do."""

Warn: TypeAlias = Callable[[str], None]


def bench_blocks(
    architectures: Sequence[str] | None = None,
    shapes: Sequence[Shape] = SHAPES,
    *,
    d_model: int = D_MODEL,
    steps: int = 3,
    repetitions: int = 5,
    device: str = "auto",
    progress: Progress = SILENT,
    warn: Warn = lambda _: None,
) -> list[Measured]:
    """Time a part of each architecture, and of its peer, for each shape.

    Args:
        architectures: by name; None for all that are trained.
        shapes: what they read.
        d_model: width of the stream.
        steps: forward and backward passes that are timed as one.
        repetitions: how often.
        device: as for training.
        progress: told of every pass.
        warn: told of each contender that is left out, and why.

    Returns:
        Positions a second, by shape, then by architecture.

    Raises:
        UsageError: an architecture is a baseline.
        UnknownNameError: there is no such architecture.
    """
    names = list(dict.fromkeys(architectures or registry.names(trained=True)))
    for name in names:
        if not registry.get(name).trained:
            raise UsageError(f"--architectures: {name} is a baseline and has no block")
    place = resolve_device(device)
    contenders: dict[str, Contender] = {}
    for shape in dict.fromkeys(shapes):
        for name in names:
            for one in _contenders(name, shape, d_model, steps, place, warn):
                # Two architectures may have the same peer.
                contenders.setdefault(one.name, one)
    return take_turns(list(contenders.values()), repetitions, progress=progress)


def time_mixer(name: str, d_model: int, time: int) -> tuple[nn.Module, ModelConfig]:
    """A fresh part of an architecture that mixes along time, and the options that it has.

    Args:
        name: of the architecture.
        d_model: width of the stream.
        time: positions that it must be able to read.

    Raises:
        ModelError: the architecture has no such part by itself, or not of that width.
    """
    architecture = registry.get(name)
    known = {field.name for field in fields(architecture.config)}
    width = "d_model" if "d_model" in known else "hidden"
    if {width, "layers"} <= known:
        chosen = {width: d_model, "layers": 1, "residual": False, "context_len": time}
        if "heads" in known:
            chosen["heads"] = max(1, d_model // HEAD_WIDTH)
        config = architecture.configure({**chosen, **PARTS.get(name, {})})
        model = cast("nn.Module", architecture.build(config))
        if isinstance(model, Backbone):
            return model.blocks[0].get_submodule("mixer"), config
        for part in model.modules():
            if isinstance(part, nn.RNNBase):
                return part, config
    raise ModelError("it has no part by itself that mixes along time")


def _contenders(
    name: str, shape: Shape, d_model: int, steps: int, place: torch.device, warn: Warn
) -> Iterator[Contender]:
    """A part and its peer, each if it can."""
    batch, time = shape
    try:
        mixer, config = time_mixer(name, d_model, time)
        _awaken(mixer)
        mixer.to(place)
        mixer(torch.zeros(1, time, d_model, device=place), None)
    except LvmdbError as error:
        warn(f"{_named(name, shape)} is left out: {error}")
        return
    given: dict[str, Any] = {"shape": f"{batch}x{time}", "positions": batch * time}
    peer = block_peers.peer_of(mixer)
    beside: str | None = None
    made: nn.Module | None = None
    if peer is not None:
        beside = _named(peer.name, shape)
        try:
            made = block_peers.build(peer, mixer, d_model)
        except LvmdbError as error:
            warn(f"{beside} is left out: {error}")
    pass_of = partial(_ready, shape=shape, d_model=d_model, steps=steps, place=place)
    kind = "library" if isinstance(mixer, nn.RNNBase) else "lvmdb"
    own = {**given, "kind": kind, "architecture": name, "model": asdict(config)}
    # Ours is called as the backbone calls it: with no mask, because nothing is padded.
    yield _contender(_named(name, shape), partial(pass_of, rest=(None,)), mixer, own, beside)
    if made is not None and beside is not None:
        package = block_peers.PACKAGE
        other = {**given, "kind": "library", "library": f"{package} {version(package)}"}
        yield _contender(beside, pass_of, made, other, beside)


def _contender(
    name: str,
    pass_of: Callable[[nn.Module], Callable[[], int]],
    module: nn.Module,
    parameters: Mapping[str, Any],
    peer: str | None,
) -> Contender:
    count = sum(p.numel() for p in module.parameters())
    given = {**parameters, "parameters": count}
    return Contender(name, POSITIONS, partial(pass_of, module), peer, parameters=given)


def _named(name: str, shape: Shape) -> str:
    return f"{name}, {shape[0]}x{shape[1]}"


def _awaken(mixer: nn.Module) -> None:
    """Give values to matrices that start at zero: what says nothing cannot be compared."""
    with torch.no_grad():
        for parameter in mixer.parameters():
            if parameter.dim() > 1 and not parameter.any():
                parameter.normal_(std=parameter.shape[-1] ** -0.5)


def _ready(
    module: nn.Module,
    *,
    shape: Shape,
    d_model: int,
    steps: int,
    place: torch.device,
    rest: tuple[None, ...] = (),
) -> Callable[[], int]:
    """A pass; the module is called with the input and `rest`."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, d_model, generator=generator).to(place).requires_grad_()
    direction = torch.randn(*shape, d_model, generator=generator).to(place)

    def work() -> int:
        for _ in range(steps):
            module.zero_grad(set_to_none=True)
            x.grad = None
            torch.autograd.backward(block_peers.said(module(x, *rest)), direction)
        if place.type == "cuda":
            torch.cuda.synchronize()
        return steps * shape[0] * shape[1]

    return work
