"""S4's convolution kernels, from the parameters of a linear state space for each channel.

    x'(t) = A x(t) + B u(t),  y(t) = C x(t)         made discrete with the channel's step size dt:
    x_l = A' x_{l-1} + B' u_l,  y_l = C x_l         so that y = K * u with K_l = C A'^l B'

States are complex and come in conjugate pairs, of which one half is kept and counts twice, less its
imaginary part. What is learnt belongs to no length: a kernel can be had for any number of
positions, and a shorter one is the start of a longer one.

Kernels are computed in float64. They have no batch, so that it costs little, and a phase may be
many turns, of which float32 forgets the fraction.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lvmdb.models import hippo
from lvmdb.models.power_series import divide, impulse_response, multiply


class S4Kernel(nn.Module):
    """What both kernels have: step sizes, a diagonal and output weights; complex numbers in pairs.

    Args:
        channels: each has a state space of its own.
        eigenvalues: initial diagonal of A, `(state / 2,)`, with negative real parts.
        dt_min, dt_max: step sizes start in between, their logarithms uniformly.
    """

    trained_gently: ClassVar[tuple[str, ...]] = ("log_dt", "log_A_real", "A_imag")

    def __init__(
        self, channels: int, eigenvalues: hippo.Complex, dt_min: float, dt_max: float
    ) -> None:
        super().__init__()
        low, high = math.log(dt_min), math.log(dt_max)
        self.log_dt = nn.Parameter(torch.rand(channels) * (high - low) + low)
        # The real part is -exp(...): negative whatever is learnt, so that the state fades.
        self.log_A_real = _repeated(np.log(-eigenvalues.real), channels)  # (channels, state / 2)
        self.A_imag = _repeated(eigenvalues.imag, channels)
        # Of variance one, as complex numbers: (channels, state / 2, 2)
        self.C = nn.Parameter(torch.randn(channels, len(eigenvalues), 2) * math.sqrt(0.5))

    @abstractmethod
    def forward(self, time: int) -> Tensor:
        """The kernel `(channels, time)`, the present first."""

    def _exact(self, parameter: Tensor) -> Tensor:
        """In float64; on the CPU where a device has none."""
        device = "cpu" if parameter.device.type == "mps" else parameter.device
        return parameter.to(device, torch.float64)

    def _complex(self, parameter: Tensor) -> Tensor:
        """Pairs `(..., 2)` as complex numbers `(...)`."""
        return torch.view_as_complex(self._exact(parameter))

    def _diagonal(self) -> Tensor:
        """The diagonal of A, `(channels, state / 2)`."""
        real = -self._exact(self.log_A_real).exp()
        return torch.complex(real, self._exact(self.A_imag))

    def _step(self) -> Tensor:
        """dt, `(channels, 1)`."""
        return self._exact(self.log_dt).exp().unsqueeze(-1)


class S4DKernel(S4Kernel):
    """S4D: A is diagonal (Gu et al. 2022, arXiv 2206.11893; zero-order hold).

        A' = exp(dt A)        B' = (exp(dt A) - 1) / A        K_l = 2 Re sum_n C_n B'_n A'_n^l

    B is one: all that matters is its product with C, which is C.
    """

    def forward(self, time: int) -> Tensor:
        a = self._diagonal()
        discrete = (a * self._step()).exp()
        weight = self._complex(self.C) * (discrete - 1) / a
        kernel = impulse_response(weight.unsqueeze(1), discrete, time)[:, 0]
        return kernel.to(self.C)


class DPLRKernel(S4Kernel):
    """S4: A is a diagonal less a matrix of rank one, `diag(lambda) - P P*`; bilinear transform.

    Gu, Goel & Re 2022, arXiv 2111.00396; with P = Q, so that no learnt A grows (Goel et al. 2022,
    arXiv 2202.09729). In the kernel's generating function only the inverse of a diagonal is left,
    by Woodbury's identity for what is of rank one (appendix C.3 there):

        sum_l K_l w^l = C (1 - w A')^-1 B' = dt (g_CB - (1 + w) g_CP g_PB / (1 + (1 + w) g_PP))
        g_UV = sum_n U_n V_n / ((1 - a_n) - w (1 + a_n))

    with a = dt lambda / 2, and P times sqrt(dt / 2). (The paper's k_UV, a Cauchy sum, is
    (1 + w) g_UV in another unit.) The paper evaluates this at L roots of unity, where the kernel's
    end comes round to its start; to cut it off before, it has `C (1 - A'^L)` in the place of C,
    which is learnt for one L and wants a power of A' for each other. Here C itself is learnt, and
    the functions are power series in w: the coefficients of each g are those of a diagonal state
    space, the first L of them give the first L of K, and nothing comes round.

    The real part of (1 + w) g_PP is positive in the unit disc, so that the quotient is tame.
    """

    trained_gently: ClassVar[tuple[str, ...]] = (*S4Kernel.trained_gently, "P", "B")

    def __init__(self, channels: int, state: int, dt_min: float, dt_max: float) -> None:
        initial = hippo.legs(state)
        super().__init__(channels, initial.eigenvalues, dt_min, dt_max)
        self.P = _repeated(_pairs(initial.low_rank), channels)  # (channels, state / 2, 2)
        self.B = _repeated(_pairs(initial.inputs), channels)

    def forward(self, time: int) -> Tensor:
        dt = self._step()
        a = self._diagonal() * dt / 2
        b, c = self._complex(self.B), self._complex(self.C)
        p = self._complex(self.P) * (dt / 2).sqrt()
        products = torch.stack([c * b, c * p, p.conj() * b, p.conj() * p], 1)
        weight = products / (1 - a).unsqueeze(1)  # (channels, 4, state / 2)
        cb, cp, pb, pp = impulse_response(weight, (1 + a) / (1 - a), time).unbind(1)

        one = F.pad(torch.ones_like(dt), (0, time - 1))
        correction = divide(multiply(_plus_shifted(cp), pb), one + _plus_shifted(pp))
        return (dt * (cb - correction)).to(self.C)


def _plus_shifted(series: Tensor) -> Tensor:
    """`(1 + w) series`, `(channels, time)`."""
    return series + F.pad(series, (1, -1))


def _repeated(values: NDArray[np.float64], channels: int) -> nn.Parameter:
    """The same for each channel, `(channels, ...)`."""
    copies = np.repeat(values[np.newaxis], channels, 0)
    return nn.Parameter(torch.tensor(copies, dtype=torch.get_default_dtype()))


def _pairs(values: hippo.Complex) -> NDArray[np.float64]:
    """Complex numbers as pairs of real ones, `(..., 2)`."""
    return np.stack([values.real, values.imag], -1)
