"""S4: linear state spaces along time, one for each channel, mixed by a gated linear layer.

    y = W GELU(K * u + D u)  through a GLU

Gu, Goel & Re 2022, "Efficiently Modeling Long Sequences with Structured State Spaces", arXiv
2111.00396; the diagonal variant is Gu et al. 2022, arXiv 2206.11893. The kernels are in
`s4_kernels`; where there is one, the sequence is convolved with it (`long_conv`), never stepped
through.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmdb.models import hippo
from lvmdb.models.backbone import Backbone
from lvmdb.models.configs.s4 import S4Config
from lvmdb.models.long_conv import long_conv
from lvmdb.models.s4_kernels import DPLRKernel, S4DKernel, S4Kernel


class S4Mixer(nn.Module):
    """One S4 layer, `(batch, time, d_model) -> (batch, time, d_model)`.

    Args:
        d_model: width of the residual stream.
        kernel: called with a number of positions, gives `(d_model, time)`.
    """

    def __init__(self, d_model: int, kernel: S4Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        self.D = nn.Parameter(torch.randn(d_model))
        self.output_linear = nn.Linear(d_model, 2 * d_model)

    def forward(self, u: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix along time.

        Args:
            u: `(batch, time, d_model)`.
            mask: `(batch, time)` bool, False at padding on the left; None if there is none.

        Returns:
            `(batch, time, d_model)`.
        """
        if mask is not None:
            u = u * mask.unsqueeze(-1)
        with torch.autocast(u.device.type, enabled=False):
            kernel: Tensor = self.kernel(u.shape[1])
        # D is what the present adds to itself: part of the kernel's first number.
        kernel = torch.cat([kernel[:, :1] + self.D.unsqueeze(-1), kernel[:, 1:]], -1)
        y = F.gelu(long_conv(u, kernel))
        mixed: Tensor = F.glu(self.output_linear(y), -1)
        return mixed


class S4(Backbone):
    """The residual backbone with S4 layers.

    `(batch, time, 768) -> (batch, 768)`, or `(batch, time, 768)` by `every`.
    """

    def __init__(self, config: S4Config) -> None:
        mixers = [S4Mixer(config.d_model, _kernel(config)) for _ in range(config.layers)]
        super().__init__(
            config.input_dim, config.output_dim, config.d_model, mixers, config.dropout
        )


def _kernel(config: S4Config) -> S4Kernel:
    if config.variant == "dplr":
        return DPLRKernel(config.d_model, config.d_state, config.dt_min, config.dt_max)
    eigenvalues = hippo.diagonal(config.start, config.d_state)
    return S4DKernel(config.d_model, eigenvalues, config.dt_min, config.dt_max)
