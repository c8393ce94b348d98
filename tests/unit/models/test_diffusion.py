"""The schedule, steps and guidance of diffusion: by hand, and where the answer is known."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lvmdb.models import diffusion


def betas_of(alpha_bar: list[float]) -> list[float]:
    """The share of signal that each step takes away, from what is left after it."""
    return [1 - after / before for before, after in zip([1.0, *alpha_bar], alpha_bar, strict=False)]


def cosine_by_hand(steps: int) -> list[float]:
    """Equation 17 of arXiv 2102.09672 and the clipping below it, step by step."""

    def f(t: float) -> float:
        return math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2

    left, alpha_bar = 1.0, []
    for t in range(1, steps + 1):
        beta = min(1 - (f(t) / f(0)) / (f(t - 1) / f(0)), 0.999)
        left *= 1 - beta
        alpha_bar.append(left)
    return alpha_bar


def rescaled_by_hand(betas: list[float]) -> list[float]:
    """Algorithm 1 of arXiv 2305.08891: from betas to betas."""
    alphas_bar_sqrt = [
        math.sqrt(math.prod(1 - b for b in betas[: t + 1])) for t in range(len(betas))
    ]
    first, last = alphas_bar_sqrt[0], alphas_bar_sqrt[-1]
    shifted = [value - last for value in alphas_bar_sqrt]
    scaled = [value * first / (first - last) for value in shifted]
    alphas_bar = [value**2 for value in scaled]
    return betas_of(alphas_bar)


@pytest.mark.parametrize("steps", [2, 7, 100, 1000])
def test_the_cosine_schedule(steps: int) -> None:
    found = diffusion.cosine_alphas_cumprod(steps)
    assert found.shape == (steps,)
    assert found.dtype == torch.float64
    wanted = torch.tensor(cosine_by_hand(steps), dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("steps", [2, 7, 100])
def test_nothing_of_the_signal_is_left_at_the_end(steps: int) -> None:
    found = diffusion.schedule(steps)
    assert found[-1].item() == 0.0
    assert found[0].item() == pytest.approx(diffusion.cosine_alphas_cumprod(steps)[0].item())
    assert bool((found.diff() < 0).all())
    betas = rescaled_by_hand(betas_of(cosine_by_hand(steps)))
    assert betas[-1] == 1.0
    left = [math.prod(1 - b for b in betas[: t + 1]) for t in range(steps)]
    torch.testing.assert_close(found, torch.tensor(left).double(), rtol=1e-6, atol=1e-12)


def test_trailing_timesteps_by_hand() -> None:
    assert diffusion.trailing_timesteps(1000, 10) == list(range(999, 0, -100))
    assert diffusion.trailing_timesteps(5, 5) == [4, 3, 2, 1, 0]
    assert diffusion.trailing_timesteps(100, 1) == [99]
    forty = diffusion.trailing_timesteps(100, 40)
    assert len(forty) == 40
    assert forty[:5] == [99, 97, 94, 92, 89]
    assert forty[-3:] == [7, 4, 2]


@given(data=st.data(), steps=st.integers(1, 1500))
def test_exactly_as_many_timesteps_as_asked_for(data: st.DataObject, steps: int) -> None:
    sampling = data.draw(st.integers(1, steps))
    found = diffusion.trailing_timesteps(steps, sampling)
    assert len(found) == len(set(found)) == sampling
    assert found[0] == steps - 1
    assert found[-1] >= 0
    assert found == sorted(found, reverse=True)
    spaced = [Fraction(steps * (sampling - i), sampling) - 1 for i in range(sampling)]
    assert all(abs(t - exact) <= Fraction(1, 2) for t, exact in zip(found, spaced, strict=True))


@given(
    share=st.floats(0, 0.999), before=st.floats(0, 1), clean=st.floats(-5, 5), e=st.floats(-5, 5)
)
def test_a_step_with_the_truth_lands_where_noising_would(
    share: float, before: float, clean: float, e: float
) -> None:
    x0, noise = torch.tensor([[clean], [e]], dtype=torch.float64)

    def at(value: float) -> Tensor:
        return diffusion.noised(x0, noise, torch.full_like(x0, value))

    expected = math.sqrt(before) * clean + math.sqrt(1 - before) * e
    assert at(before).item() == pytest.approx(expected, abs=1e-9)
    found = diffusion.ddim_step(at(share), x0, share, before)
    torch.testing.assert_close(found, at(before), rtol=1e-7, atol=1e-7)


def test_guidance_by_hand() -> None:
    said = torch.tensor([[1.0, 3.0], [0.0, 4.0]])  # deviations of 1 and 2
    without = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    further = torch.tensor([[3.0, 7.0], [-2.0, 10.0]])  # deviations of 2 and 6
    torch.testing.assert_close(diffusion.guided(said, without, 3.0, 0.0), further)
    whole = diffusion.guided(said, without, 3.0, 1.0)
    torch.testing.assert_close(whole, further / torch.tensor([[2.0], [3.0]]))
    torch.testing.assert_close(whole.std(-1), said.std(-1))
    part = diffusion.guided(said, without, 3.0, 0.7)
    torch.testing.assert_close(part, 0.7 * whole + 0.3 * further)
    for rescale in (0.0, 0.7, 1.0):
        torch.testing.assert_close(diffusion.guided(said, without, 1.0, rescale), said)
    silent = torch.zeros(2, 2)
    assert torch.equal(diffusion.guided(silent, silent, 3.0, 0.7), silent)


def test_sampling_asks_at_the_trailing_times_and_ends_with_what_was_said_last() -> None:
    asked = []

    def denoise(x: Tensor, time: int) -> Tensor:
        asked.append(time)
        return torch.full_like(x, float(time))

    found = diffusion.sample(denoise, torch.randn(3, 2), diffusion.schedule(100), 40)
    assert asked == diffusion.trailing_timesteps(100, 40)
    assert torch.equal(found, torch.full((3, 2), 2.0))


MEAN = torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64)
COVARIANCE = torch.tensor(
    [[1.2, 0.6, 0.0], [0.6, 0.8, -0.2], [0.0, -0.2, 0.3]], dtype=torch.float64
)


def sampled_gaussian(steps: int, sampling: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of samples, exactly, when the best denoiser of a Gaussian is asked.

    With x_0 ~ N(m, S) it is E[x_0 | x_t] = m + sqrt(a) S (a S + (1 - a) I)^-1 (x_t - sqrt(a) m).
    It is affine, and so is a sample in its start: `A start + b` has mean b and covariance A A'.
    """
    shares = diffusion.schedule(steps)
    identity = torch.eye(3, dtype=torch.float64)

    def posterior_mean(x: Tensor, time: int) -> Tensor:
        a = shares[time]
        gain = a.sqrt() * COVARIANCE @ torch.linalg.inv(a * COVARIANCE + (1 - a) * identity)
        said: Tensor = MEAN + (x - a.sqrt() * MEAN) @ gain.T
        return said

    starts = torch.cat([torch.zeros(1, 3, dtype=torch.float64), identity])
    ends = diffusion.sample(posterior_mean, starts, shares, sampling)
    linear = (ends[1:] - ends[0]).T
    return ends[0], linear @ linear.T


def test_sampling_recovers_a_known_gaussian() -> None:
    errors = []
    for steps, sampling in ((100, 40), (1000, 100), (1000, 1000)):
        mean, covariance = sampled_gaussian(steps, sampling)
        torch.testing.assert_close(mean, MEAN, rtol=0, atol=1e-9)
        errors.append(float((covariance - COVARIANCE).norm() / COVARIANCE.norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 0.1
    assert errors[-1] < 0.01
