"""Weights to safetensors and back, with a golden pair that proves what was loaded.

A checkpoint holds an input and the output that the weights gave for it. Loading computes that
output again: a class whose parameter names happen to match, or a changed forward pass, is
refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from lvmdb.errors import ModelError
from lvmdb.models.config import ModelConfig

GOLDEN_BATCH = 4
TOLERANCE_CPU, TOLERANCE = 1e-5, 1e-3
"""Largest difference allowed, as a share of the largest output: between two CPUs, and where one
was a GPU, whose kernels round differently."""

_MODEL, _OPTIMIZER, _GOLDEN = "model.", "optimizer.", "golden."


class HasState(Protocol):
    """An optimiser, as far as checkpoints see it."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def pack(model: nn.Module, config: ModelConfig, optimizer: HasState | None = None) -> bytes:
    """A model as bytes; with an optimiser also all that is needed to go on bit for bit."""
    tensors = {_MODEL + name: value for name, value in model.state_dict().items()}
    tensors |= {_GOLDEN + name: value for name, value in _golden(model, config).items()}
    if optimizer is not None:
        for index, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"{_OPTIMIZER}{index}.{name}"] = torch.as_tensor(value)
    data: bytes = to_bytes({name: v.detach().cpu().contiguous() for name, v in tensors.items()})
    return data


def unpack(
    data: bytes, model: nn.Module, config: ModelConfig, optimizer: HasState | None = None
) -> None:
    """Load what `pack` gave; with an optimiser also its state.

    Raises:
        ModelError: the weights do not fit the model, or do not give the golden output.
    """
    tensors = _tensors(data)
    try:
        model.load_state_dict(_part(tensors, _MODEL))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"the checkpoint does not fit the architecture: {reason}") from error
    _check_golden(model, config, _part(tensors, _GOLDEN))
    if optimizer is not None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, _OPTIMIZER).items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def pack_state(state: Mapping[str, Tensor]) -> bytes:
    """What a baseline learnt, as bytes."""
    data: bytes = to_bytes({_MODEL + name: value.contiguous() for name, value in state.items()})
    return data


def unpack_state(data: bytes) -> dict[str, Tensor]:
    """What `pack_state` was given.

    Raises:
        ModelError: the bytes are not of that kind.
    """
    return _part(_tensors(data), _MODEL)


def _tensors(data: bytes) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = from_bytes(data)
    except SafetensorError as error:
        raise ModelError(f"the checkpoint is not safetensors: {error}") from error
    return tensors


def _golden(model: nn.Module, config: ModelConfig) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (GOLDEN_BATCH, config.context_len, config.input_dim)
    context = torch.nn.functional.normalize(torch.randn(shape, generator=generator), dim=-1)
    return {
        "context": context,
        "output": _output(model, context),
        "on_cpu": torch.tensor(_on_cpu(model)),
    }


def _check_golden(model: nn.Module, config: ModelConfig, golden: Mapping[str, Tensor]) -> None:
    if not {"context", "output"} <= golden.keys():
        raise ModelError("the checkpoint has no golden pair, so that it cannot be trusted")
    expected = golden["output"]
    output = _output(model, golden["context"])
    on_cpu = _on_cpu(model) and bool(golden.get("on_cpu", False))
    tolerance = TOLERANCE_CPU if on_cpu else TOLERANCE
    scale = expected.abs().max().clamp(min=1e-6)
    # A NaN is within no tolerance.
    if output.shape != expected.shape or not bool(
        ((output - expected).abs().max() / scale) <= tolerance
    ):
        raise ModelError(
            "the checkpoint's weights do not give the output that was stored with them: the "
            "code of the architecture is not the one that it was trained with"
        )


def _on_cpu(model: nn.Module) -> bool:
    return next(model.parameters()).device.type == "cpu"


def _output(model: nn.Module, context: Tensor) -> Tensor:
    """What the model gives in evaluation, leaving it in the mode that it was in."""
    device = next(model.parameters()).device
    mask = torch.ones(context.shape[:2], dtype=torch.bool, device=device)
    training = model.training
    model.eval()
    with torch.no_grad():
        output: Tensor = model(context.to(device), mask)
    model.train(training)
    return output.cpu()


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
