"""Which implementation of Mamba-2 runs, and the calls into the CUDA one.

`mamba_ssm` (Triton) and `causal_conv1d` (CUDA) are optional and imported on first use on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lvmdb.errors import MissingDependencyError, ModelError
from lvmdb.models.backbone import NORM_EPS
from lvmdb.models.config import one_of
from lvmdb.models.configs.mamba2 import KERNELS

if TYPE_CHECKING:
    from lvmdb.models.mamba2 import Mamba2Mixer

SSD_MODULE = "mamba_ssm.ops.triton.ssd_combined"


def resolve_kernel(requested: str, device: torch.device | str) -> str:
    """Name of the implementation that runs.

    Args:
        requested: `torch`; `mamba_ssm`; or `auto`, which is `mamba_ssm` on CUDA where it can be
            imported, and `torch` elsewhere. Callers record the answer: it is never guessed later.
        device: where the model's input is.

    Raises:
        ModelError: `mamba_ssm` was asked for on a device that it does not run on.
        MissingDependencyError: `mamba_ssm` was asked for and cannot be imported.
    """
    one_of("kernel", requested, KERNELS)
    if requested == "torch":
        return "torch"
    on_cuda = torch.device(device).type == "cuda"
    if requested == "auto":
        return "mamba_ssm" if on_cuda and _imported(SSD_MODULE) is not None else "torch"
    if not on_cuda:
        raise ModelError(
            f"kernel mamba_ssm runs on CUDA only, not on '{torch.device(device).type}': "
            "set kernel to auto or torch, or train with --device cuda"
        )
    if _imported(SSD_MODULE) is None:
        raise MissingDependencyError("mamba-ssm", "cuda", "kernel mamba_ssm")
    return "mamba_ssm"


def cuda_scan(x: Tensor, dt: Tensor, b: Tensor, c: Tensor, mixer: Mamba2Mixer) -> Tensor:
    """mamba_ssm's chunked scan behind a convolution computed elsewhere.

    Args:
        x: `(batch, time, heads, headdim)`.
        dt: step sizes before bias and softplus, `(batch, time, heads)`.
        b, c: `(batch, time, d_state)`.

    Returns:
        `(batch, time, heads, headdim)`.
    """
    scan = _function(SSD_MODULE, "mamba_chunk_scan_combined")
    y: Tensor = scan(
        x,
        dt,
        -torch.exp(mixer.A_log.float()),
        b.unsqueeze(2),
        c.unsqueeze(2),
        mixer.chunk_size,
        D=mixer.D,
        dt_bias=mixer.dt_bias,
        dt_softplus=True,
    )
    return y


def fused_block(zxbcdt: Tensor, mixer: Mamba2Mixer) -> Tensor | None:
    """mamba_ssm's fused convolution, scan, gated norm and output projection.

    Args:
        zxbcdt: the input projection, `(batch, time, 2 * d_inner + 2 * d_state + heads)`.

    Returns:
        `(batch, time, d_model)`; None without `causal_conv1d`, which the fused path calls.
    """
    if _imported("causal_conv1d") is None:
        return None
    fused = _function(SSD_MODULE, "mamba_split_conv1d_scan_combined")
    out: Tensor = fused(
        zxbcdt,
        mixer.conv1d.weight.squeeze(1),
        mixer.conv1d.bias,
        mixer.dt_bias,
        -torch.exp(mixer.A_log.float()),
        D=mixer.D,
        chunk_size=mixer.chunk_size,
        activation="silu",
        rmsnorm_weight=mixer.norm.weight,
        rmsnorm_eps=NORM_EPS,
        outproj_weight=mixer.out_proj.weight,
        outproj_bias=mixer.out_proj.bias,
        headdim=mixer.headdim,
        ngroups=1,
        norm_before_gate=False,
    )
    return out


@cache
def _imported(module: str) -> Any:
    """The module, or None where it is absent or was built without CUDA."""
    try:
        return import_module(module)
    except ImportError:
        return None


def _function(module: str, name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(_imported(module), name)
    return function
