"""Hyena's long filters: functions of a position, not numbers kept for each.

    h_t = window(t) network(encoding(t))        (Poli et al. 2023, arXiv 2302.10866, section 3.3)

A position is a share of a fixed length, never of the sequence's own, so that the filter of a
shorter sequence is the start of that of a longer one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lvmdb.errors import ModelError

FREQUENCY = 14.0
"""What the sines' frequencies start at (appendix A; high ones let a filter change quickly)."""

HIDDEN = 3  # layers with a sine; a linear one follows

TARGET, FASTEST, SLOWEST, SHIFT = 1e-2, 0.3, 1.5, 0.05
"""Windows fall to the target at these shares of `filter_len`, by channel; and never below shift."""


class Sine(nn.Module):
    """`sin(frequency x)` with a learnt frequency for each number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.full((width,), FREQUENCY))

    def forward(self, x: Tensor) -> Tensor:
        """`(..., width) -> (..., width)`."""
        return torch.sin(self.frequency * x)


class HyenaFilter(nn.Module):
    """The long filters of one operator.

    Args:
        channels: each has filters of its own.
        order: filters of a channel.
        length: the longest sequence.
        width: of the network.
        bands: K; a position t is seen as t / length and cos, sin of 2 pi k t / length, k = 1 .. K.
    """

    def __init__(self, channels: int, order: int, length: int, width: int, bands: int) -> None:
        super().__init__()
        self.channels, self.order, self.length, self.bands = channels, order, length, bands
        layers: list[nn.Module] = []
        for given in (1 + 2 * bands, *[width] * (HIDDEN - 1)):
            layers += [nn.Linear(given, width), Sine(width)]
        last = nn.Linear(width, order * channels, bias=False)
        self.network = nn.Sequential(*layers, last)
        # What each position adds to itself: part of the filter's first number.
        self.bias = nn.Parameter(torch.randn(order, channels))
        # Over its whole length, a filter's squares sum to one at the start (a sine's mean square is
        # a half): what passes through one after the other neither grows nor fades. With torch's own
        # initial values they sum to 14 (at 1024 positions), and models learn more slowly.
        energy = self.window(torch.arange(length) / length).square().sum(-1)  # (channels,)
        deviation = (energy * width / 2).rsqrt().repeat(order).unsqueeze(-1)
        with torch.no_grad():
            last.weight.copy_(torch.randn(order * channels, width) * deviation)

    @property
    def trained_gently(self) -> tuple[str, ...]:
        """All of it: see `gentle`."""
        return tuple(name for name, _ in self.named_parameters())

    def forward(self, time: int) -> Tensor:
        """The filters `(order, channels, time)`, the present first.

        Raises:
            ModelError: the sequence is longer than the filters.
        """
        if time > self.length:
            raise ModelError(
                f"the model's filters reach over {self.length} concepts, not {time}: "
                f"set filter_len to {time} or more, or give shorter sequences"
            )
        share = torch.arange(time, device=self.bias.device).to(self.bias) / self.length  # (time,)
        free = self.network(self.encoding(share))  # (time, order * channels)
        filters: Tensor = free.t().unflatten(0, (self.order, -1)) * self.window(share)
        present = filters[..., :1] + self.bias.unsqueeze(-1)
        return torch.cat([present, filters[..., 1:]], -1)

    def encoding(self, share: Tensor) -> Tensor:
        """Positions as the network sees them, `(time,) -> (time, 1 + 2 bands)`."""
        k = torch.arange(1, self.bands + 1, device=share.device)
        angle = 2 * math.pi * share.unsqueeze(-1) * k
        return torch.cat([share.unsqueeze(-1), angle.cos(), angle.sin()], -1)

    def window(self, share: Tensor) -> Tensor:
        """What fades a filter out, `(time,) -> (channels, time)`; by channel from slow to fast."""
        slow, fast = (-math.log(TARGET) / at for at in (SLOWEST, FASTEST))
        rates = torch.linspace(slow, fast, self.channels, device=share.device, dtype=share.dtype)
        return torch.exp(-rates.unsqueeze(-1) * share) + SHIFT
