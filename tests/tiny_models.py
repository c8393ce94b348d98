"""The smallest configuration of each architecture that has all its parts, for tests."""

from __future__ import annotations

import torch
from torch import nn

from lvmdb.models import registry
from lvmdb.models.architecture import Architecture

TINY: dict[str, dict[str, object]] = {
    "lstm": {"hidden": 8, "layers": 2},
    "gru": {"hidden": 8, "layers": 2, "stack_residual": True},
    "mamba2": {"d_model": 16, "layers": 2, "d_state": 4, "headdim": 8, "chunk_size": 3},
    "rwkv": {"d_model": 12, "layers": 2, "expand": 2},
    "retnet": {"d_model": 16, "layers": 2, "heads": 2, "chunk_size": 3},
    "hybrid": {
        **{"d_model": 16, "layers": 3, "d_state": 4, "headdim": 8, "chunk_size": 3},
        **{"attention_every": 3, "heads": 2},
    },
    "s4": {"d_model": 8, "layers": 2, "d_state": 4},
    "s4 dplr": {"variant": "dplr", "d_model": 8, "layers": 1, "d_state": 4},
    "hyena": {"d_model": 8, "layers": 1, "filter_len": 16, "filter_width": 4, "filter_bands": 2},
    "gpt2": {"d_model": 16, "layers": 2, "heads": 4},
    "linformer": {"d_model": 16, "layers": 2, "heads": 4, "rank": 7},
    "performer": {"d_model": 16, "layers": 2, "heads": 4, "features": 6, "chunk_size": 3},
    "lcm": {"d_model": 16, "layers": 2, "heads": 2},
    "lcm one_tower": {
        **{"variant": "one_tower", "d_model": 16, "layers": 2, "heads": 2},
        **{"diffusion_steps": 20, "sampling_steps": 2, "guidance": 1.5},
    },
    "lcm two_tower": {
        **{"variant": "two_tower", "d_model": 16, "layers": 1, "heads": 2},
        **{"diffusion_steps": 20, "sampling_steps": 2, "guidance": 1.5},
    },
}
"""Options by architecture; widths of input and output are the test's.

An architecture with several variants has a label for each: its name and a word behind it.
"""


def architecture_of(label: str) -> Architecture:
    """The architecture of a label of `TINY`."""
    return registry.get(label.split()[0])


def awake(model: nn.Module) -> None:
    """Give values to matrices that start at zero: a part that adds nothing passes any test."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2 and not parameter.any():
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
