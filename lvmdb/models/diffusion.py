"""Diffusion in discrete time with x0-prediction: schedule, noising, sampling, guidance.

Pure functions; what denoises is a model's own business. With a_t the share of signal at time t
(alphas_cumprod, the product of 1 - beta up to t):

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e,    e ~ N(0, I),    t = 0 .. steps - 1

`x_0` is of unit order, number by number: a vector of length one is scaled before it comes here. A
model sees x_t and t and says what x_0 was; at the last t there is nothing left of it (zero terminal
SNR), so that sampling from noise alone is what training has seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

COSINE_OFFSET = 0.008
"""s of the cosine schedule: the first steps add some noise, too."""

LARGEST_BETA = 0.999
"""No single step takes more of the signal away."""


def cosine_alphas_cumprod(steps: int) -> Tensor:
    """The cosine schedule, `(steps,)` float64 (Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 17).

        f(u) = cos((u + s) / (1 + s) * pi / 2)^2,    beta_t = 1 - f((t + 1) / steps) / f(t / steps)

    Args:
        steps: of the schedule.
    """
    u = torch.arange(steps + 1, dtype=torch.float64, device="cpu") / steps
    f = torch.cos((u + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2).square()
    betas = (1 - f[1:] / f[:-1]).clamp(max=LARGEST_BETA)
    return torch.cumprod(1 - betas, 0)


def zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """The schedule moved so that nothing is left of the signal at its end, `(steps,)`.

    sqrt(a) is shifted to end at zero and scaled to begin where it began (Lin et al. 2023,
    arXiv 2305.08891, algorithm 1).
    """
    root = alphas_cumprod.sqrt()
    first, last = root[0], root[-1]
    return ((root - last) * first / (first - last)).square()


def schedule(steps: int) -> Tensor:
    """a_t for t = 0 .. steps - 1, `(steps,)` float64: cosine, with zero terminal SNR."""
    return zero_terminal_snr(cosine_alphas_cumprod(steps))


def trailing_timesteps(steps: int, sampling: int) -> list[int]:
    """The times at which sampling asks the model, from the last of the schedule down.

        round(steps - i steps / sampling) - 1,    i = 0 .. sampling - 1

    ("trailing", arXiv 2305.08891, table 2), in whole numbers: exactly as many as asked for, whether
    or not they divide the schedule, and none twice.

    Args:
        steps: of the schedule.
        sampling: how many of them; at most `steps`.
    """
    return [(2 * steps * (sampling - i) + sampling) // (2 * sampling) - 1 for i in range(sampling)]


def noised(clean: Tensor, noise: Tensor, share: Tensor) -> Tensor:
    """x_t, `(..., width)`: what is left of the signal, and noise.

    Args:
        clean, noise: x_0 and e, `(..., width)`.
        share: a_t, `(..., 1)`.
    """
    return share.sqrt() * clean + (1 - share).sqrt() * noise


def ddim_step(x: Tensor, clean: Tensor, share: float, share_before: float) -> Tensor:
    """One step of sampling without fresh noise (Song et al. 2021, arXiv 2010.02502, eq. 12).

        e = (x_t - sqrt(a_t) x_0) / sqrt(1 - a_t);    x_s = sqrt(a_s) x_0 + sqrt(1 - a_s) e

    Args:
        x: x_t, `(..., width)`.
        clean: what the model says x_0 is, of the same shape.
        share: a_t, below 1.
        share_before: a_s at the time s < t; 1 after the last step.
    """
    noise = (x - math.sqrt(share) * clean) / math.sqrt(1 - share)
    return math.sqrt(share_before) * clean + math.sqrt(1 - share_before) * noise


def guided(with_context: Tensor, without: Tensor, guidance: float, rescale: float) -> Tensor:
    """Classifier-free guidance: further away from what is said without the context.

        g = u + guidance (c - u)                                     (arXiv 2207.12598, eq. 6)
        rescale g std(c) / std(g) + (1 - rescale) g                  (arXiv 2305.08891, eq. 15, 16)

    Deviations are over the numbers of a vector. A guidance of 1 is `with_context` itself, one of 0
    `without` (rescaled).

    Args:
        with_context, without: c and u, `(..., width)`.
        guidance: the weight of the context.
        rescale: 0 leaves g as long as it is, 1 gives it the deviation of c.
    """
    further = without + guidance * (with_context - without)
    wanted = with_context.std(-1, correction=0, keepdim=True)
    found = further.std(-1, correction=0, keepdim=True)
    # Where both say nothing at all, nothing is rescaled.
    found = found.clamp(min=torch.finfo(found.dtype).tiny)
    return further * (rescale * wanted / found + (1 - rescale))


def sample(
    denoise: Callable[[Tensor, int], Tensor], start: Tensor, alphas_cumprod: Tensor, sampling: int
) -> Tensor:
    """Denoise a start step by step, `(..., width)`; the same start gives the same sample.

    Args:
        denoise: from x_t and t to what x_0 is taken for; asked `sampling` times.
        start: x at the last time of the schedule, `(..., width)`: noise.
        alphas_cumprod: a_t, `(steps,)`.
        sampling: steps of sampling.
    """
    shares: list[float] = alphas_cumprod.tolist()
    times = trailing_timesteps(len(shares), sampling)
    x = start
    for time, before in zip(times, [*(shares[t] for t in times[1:]), 1.0], strict=True):
        x = ddim_step(x, denoise(x, time), shares[time], before)
    return x
