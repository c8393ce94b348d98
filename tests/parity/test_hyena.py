"""Hyena against its paper's recurrence, position by position."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lvmdb.errors import ModelError
from lvmdb.models.hyena import HyenaMixer
from lvmdb.models.hyena_filter import HyenaFilter

WIDTH, LENGTH, BANDS = 4, 24, 2


def built(order: int) -> HyenaMixer:
    torch.manual_seed(order)
    mixer = HyenaMixer(WIDTH, order, 3, LENGTH, filter_width=5, filter_bands=BANDS)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return mixer.double()


def filter_at(given: HyenaFilter, t: int) -> Tensor:
    """`(order, channels)`: window times network, by the paper's section 3.3 and appendix A."""
    share = t / LENGTH
    angles = [2 * math.pi * k * share for k in range(1, BANDS + 1)]
    seen = [share, *(math.cos(x) for x in angles), *(math.sin(x) for x in angles)]
    x = torch.tensor(seen, dtype=torch.float64)
    parameters = dict(given.network.named_parameters())
    for layer in (0, 2, 4):
        x = parameters[f"{layer}.weight"] @ x + parameters[f"{layer}.bias"]
        x = torch.sin(parameters[f"{layer + 1}.frequency"] * x)
    x = parameters["6.weight"] @ x
    window = []
    for channel in range(WIDTH):
        slow, fast = math.log(100) / 1.5, math.log(100) / 0.3
        rate = slow + (fast - slow) * channel / (WIDTH - 1)
        window.append(math.exp(-rate * share) + 0.05)
    return x.view(-1, WIDTH) * torch.tensor(window, dtype=torch.float64)


def written_out(mixer: HyenaMixer, u: Tensor) -> Tensor:
    """Definition 3.1 for one sequence, `(time, width) -> (time, width)`; convolutions as sums."""
    time, order = u.shape[0], mixer.filter.order
    projected = u @ mixer.in_proj.weight.t() + mixer.in_proj.bias
    taps = mixer.short_conv.weight.squeeze(1)  # (channels, 3)
    assert mixer.short_conv.bias is not None
    short = []
    for t in range(time):
        total = mixer.short_conv.bias
        for back in range(min(3, t + 1)):
            total = total + taps[:, 2 - back] * projected[t - back]
        short.append(total)
    parts = torch.stack(short).view(time, order + 1, WIDTH)
    filters = [filter_at(mixer.filter, t) for t in range(time)]
    z = [parts[t, order] for t in range(time)]  # v
    for n in range(order):
        following = []
        for t in range(time):
            convolved = mixer.filter.bias[n] * z[t]
            for s in range(t + 1):
                convolved = convolved + filters[t - s][n] * z[s]
            following.append(parts[t, n] * convolved)
        z = following
    return torch.stack(z) @ mixer.out_proj.weight.t() + mixer.out_proj.bias


@pytest.mark.parametrize("time", [1, 5, 17])
@pytest.mark.parametrize("order", [2, 3])
def test_output_and_gradients(order: int, time: int) -> None:
    mixer = built(order)
    u = torch.randn(2, time, WIDTH, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn_like(u)
    expected = torch.stack([written_out(mixer, row) for row in u])
    found = mixer(u)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)
    names = ["u", *dict(mixer.named_parameters())]
    wanted, got = (
        torch.autograd.grad(of, [u, *mixer.parameters()], upstream) for of in (expected, found)
    )
    for name, gradient, right in zip(names, got, wanted, strict=True):
        torch.testing.assert_close(
            gradient, right, rtol=1e-9, atol=1e-10, msg=f"{name}: {{}}".format
        )


def test_padding_on_the_left() -> None:
    mixer = built(2)
    u = torch.randn(2, 20, WIDTH, dtype=torch.float64)
    mask = torch.arange(20) >= torch.tensor([[4], [17]])
    found = mixer(u, mask)
    for row, start in ((0, 4), (1, 17)):
        alone = mixer(u[row : row + 1, start:])
        torch.testing.assert_close(found[row, start:], alone[0], rtol=1e-9, atol=1e-10)


def test_a_shorter_filter_is_the_start_of_a_longer_one() -> None:
    given = built(3).filter
    longest = given(LENGTH)
    assert longest.shape == (3, WIDTH, LENGTH)
    for time in (1, 5, LENGTH - 1):
        torch.testing.assert_close(given(time), longest[..., :time], rtol=1e-12, atol=1e-12)


def test_beyond_its_length_it_says_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"^[^\n]*over 24 concepts, not 25: set filter_len to 25"):
        built(2)(torch.randn(1, 25, WIDTH, dtype=torch.float64))


@pytest.mark.parametrize("length", [16, 256])
def test_filters_start_with_unit_energy(length: int) -> None:
    torch.manual_seed(0)
    given = HyenaFilter(64, 2, length, 32, 8)
    with torch.no_grad():
        given.bias.zero_()
        energy = given(length).square().sum(-1)  # (order, channels)
    assert float(energy.mean()) == pytest.approx(1, abs=0.3)


def test_all_of_a_filter_is_trained_gently() -> None:
    given = built(2).filter
    assert set(given.trained_gently) == {name for name, _ in given.named_parameters()}
