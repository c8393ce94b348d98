"""Mamba-2: selective state spaces with a scalar decay per head.

Dao & Gu 2024, "Transformers are SSMs", arXiv 2405.21060; the block is its figure 6. Names, shapes
and initial values of the mixer's parameters are those of `mamba_ssm.Mamba2` (one group, gated norm,
no biases in the projections), so that state dicts move between the two.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmdb.models.backbone import NORM_EPS, Backbone
from lvmdb.models.causal_conv import causal_conv
from lvmdb.models.configs.mamba2 import Mamba2Config
from lvmdb.models.mamba2_kernels import cuda_scan, fused_block, resolve_kernel
from lvmdb.models.ssd import ssd

# Upstream's ranges: the decay rate -A, and the step size dt that softplus(dt_bias) starts at.
DECAY_RANGE = (1.0, 16.0)
STEP_RANGE = (1e-3, 1e-1)
STEP_FLOOR = 1e-4


class GatedRMSNorm(nn.Module):
    """`RMSNorm(x * silu(z))`, over the last dimension, in float32 or wider."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """`(..., width), (..., width) -> (..., width)`."""
        wide = torch.promote_types(gate.dtype, torch.float32)
        gated = x.to(wide) * F.silu(gate.to(wide))
        normed = F.rms_norm(gated, self.weight.shape, self.weight.to(wide), NORM_EPS)
        return normed.to(gate.dtype)


class Mamba2Mixer(nn.Module):
    """One Mamba-2 mixer, `(batch, time, d_model) -> (batch, time, d_model)`.

    Args:
        d_model: width of the residual stream.
        d_state: numbers of state per channel.
        d_conv: width of the causal convolution.
        expand: inner width as a multiple of `d_model`.
        headdim: channels per head.
        chunk_size: positions handled by one matrix product.
        kernel: `auto`, `torch` or `mamba_ssm`; see `resolve_kernel`.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        d_conv: int = 4,
        expand: int = 2,
        headdim: int = 64,
        chunk_size: int = 64,
        kernel: str = "auto",
    ) -> None:
        super().__init__()
        self.d_inner = expand * d_model
        self.d_state = d_state
        self.headdim = headdim
        self.heads = self.d_inner // headdim
        self.chunk_size = chunk_size
        self.requested = kernel
        channels = self.d_inner + 2 * d_state  # x, B and C pass through the convolution

        self.in_proj = nn.Linear(d_model, self.d_inner + channels + self.heads, bias=False)
        # Holds the convolution's parameters under upstream's names; it is computed elsewhere.
        self.conv1d = nn.Conv1d(channels, channels, d_conv, groups=channels, padding=d_conv - 1)
        low, high = math.log(STEP_RANGE[0]), math.log(STEP_RANGE[1])
        step = torch.exp(torch.rand(self.heads) * (high - low) + low).clamp(min=STEP_FLOOR)
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # inverse softplus
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(*DECAY_RANGE).log())
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = GatedRMSNorm(self.d_inner)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(self, u: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix along time.

        Args:
            u: `(batch, time, d_model)`.
            mask: `(batch, time)` bool, False at padding on the left; None if there is none.

        Returns:
            `(batch, time, d_model)`.
        """
        kernel = resolve_kernel(self.requested, u.device)
        if mask is not None:
            u = u * mask.unsqueeze(-1)
        zxbcdt: Tensor = self.in_proj(u)  # (batch, time, d_inner + channels + heads)
        if kernel == "mamba_ssm" and mask is None:
            fused = fused_block(zxbcdt, self)
            if fused is not None:
                return fused

        channels = self.d_inner + 2 * self.d_state
        z, xbc, dt = torch.split(zxbcdt, [self.d_inner, channels, self.heads], dim=-1)
        xbc = F.silu(causal_conv(xbc, self.conv1d.weight, self.conv1d.bias))
        if mask is not None:
            # The convolution's bias makes padding look like an input; blank, it leaves no state.
            xbc = xbc * mask.unsqueeze(-1)
        y = self._scan(xbc, dt, kernel)  # (batch, time, d_inner)
        mixed: Tensor = self.out_proj(self.norm(y, z))
        return mixed

    def _scan(self, xbc: Tensor, dt: Tensor, kernel: str) -> Tensor:
        """The state space itself: `(batch, time, channels) -> (batch, time, d_inner)`."""
        x, b, c = torch.split(xbc, [self.d_inner, self.d_state, self.d_state], dim=-1)
        x = x.reshape(*x.shape[:2], self.heads, self.headdim)  # (batch, time, heads, headdim)
        if kernel == "mamba_ssm":
            return cuda_scan(x, dt, b, c, self).flatten(2)
        # Sums of logarithms of decays need float32 even where the rest runs in half precision.
        wide = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            step = F.softplus(dt.to(wide) + self.dt_bias)
            decay_rate = -torch.exp(self.A_log)
            y = ssd(x.to(wide), step, decay_rate, b.to(wide), c.to(wide), self.D, self.chunk_size)
        return y.flatten(2)


def mamba2_mixer(config: Mamba2Config) -> Mamba2Mixer:
    """A fresh mixer of those options."""
    return Mamba2Mixer(
        config.d_model,
        config.d_state,
        config.d_conv,
        config.expand,
        config.headdim,
        config.chunk_size,
        config.kernel,
    )


class Mamba2(Backbone):
    """The residual backbone with Mamba-2 mixers.

    `(batch, time, 768) -> (batch, 768)`, or `(batch, time, 768)` by `every`.
    """

    def __init__(self, config: Mamba2Config) -> None:
        mixers = [mamba2_mixer(config) for _ in range(config.layers)]
        super().__init__(
            config.input_dim, config.output_dim, config.d_model, mixers, config.dropout
        )
        self.requested = config.kernel
        # Upstream's rescaling: the residual stream's variance does not grow with depth.
        with torch.no_grad():
            for mixer in mixers:
                mixer.out_proj.weight /= math.sqrt(config.layers)

    @property
    def kernel(self) -> str:
        """`torch` or `mamba_ssm`: what runs on the device where the parameters are now."""
        return resolve_kernel(self.requested, self.output_projection.weight.device)
