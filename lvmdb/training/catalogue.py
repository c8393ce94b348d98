"""What can be trained, as rows: architectures, their options, their sizes, their kernels."""

from __future__ import annotations

from dataclasses import fields

import torch

from lvmdb.models import registry
from lvmdb.models.architecture import Architecture
from lvmdb.models.base import LatentModel
from lvmdb.training.environment import resolve_device
from lvmdb.training.options import FROM_SEQUENCES, TrainingOptions


def overview() -> list[dict[str, object]]:
    """One row an architecture: size by default and by preset, kernel that would run here."""
    rows: list[dict[str, object]] = []
    for name in registry.names():
        architecture = registry.get(name)
        sizes: dict[str, object] = {
            preset: parameters(architecture, preset) if architecture.trained else None
            for preset in architecture.presets
        }
        rows.append(
            {
                "name": name,
                "kind": "model" if architecture.trained else "baseline",
                "summary": architecture.summary,
                "parameters": parameters(architecture, None) if architecture.trained else None,
                **sizes,
                "objectives": ", ".join(architecture.objectives),
                "kernel": _kernel(architecture),
                "reference": architecture.reference,
            }
        )
    return rows


def options_of(architecture: Architecture) -> list[dict[str, object]]:
    """One row an option: default, value in each preset, and whether of model or training."""
    rows: list[dict[str, object]] = []
    default = architecture.configure()
    for option in fields(architecture.config):
        if option.name in FROM_SEQUENCES:
            continue
        value = getattr(default, option.name)
        presets = {n: p.get(option.name, value) for n, p in architecture.presets.items()}
        rows.append({"option": option.name, "default": value, **presets, "of": "model"})
    if architecture.trained:
        for option in fields(TrainingOptions):
            if option.name in FROM_SEQUENCES or (
                option.name == "init" and architecture.published is None
            ):
                continue
            presets = dict.fromkeys(architecture.presets, option.default)
            rows.append(
                {"option": option.name, "default": option.default, **presets, "of": "training"}
            )
    return rows


def parameters(architecture: Architecture, preset: str | None) -> int:
    """Trainable numbers, counted without giving them memory."""
    with torch.device("meta"):
        return registry.count_parameters(architecture.build(architecture.configure({}, preset)))


def _kernel(architecture: Architecture) -> str:
    if not architecture.trained:
        return "torch"
    config = architecture.configure({}, "toy")
    built = architecture.build(config)
    assert isinstance(built, LatentModel)
    return built.to(resolve_device("auto")).kernel
