"""The shifted multiply-adds against torch's own convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lvmdb.models.causal_conv import causal_conv


@pytest.mark.parametrize("time", [1, 2, 3, 4, 5, 11])
@pytest.mark.parametrize("width", [1, 4])
def test_it_is_conv1d(time: int, width: int) -> None:
    torch.manual_seed(time)
    x = torch.randn(2, time, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 1, width, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(6, dtype=torch.float64, requires_grad=True)
    padded = F.pad(x.transpose(1, 2), (width - 1, 0))
    expected = F.conv1d(padded, weight, bias, groups=6).transpose(1, 2)
    torch.testing.assert_close(causal_conv(x, weight, bias), expected)
    assert torch.autograd.gradcheck(causal_conv, (x, weight, bias))


def test_without_a_bias() -> None:
    x, weight = torch.randn(2, 5, 3), torch.randn(3, 1, 4)
    assert torch.equal(causal_conv(x, weight), causal_conv(x, weight, torch.zeros(3)))


def test_under_autocast() -> None:
    x, weight = torch.randn(2, 5, 3, dtype=torch.bfloat16), torch.randn(3, 1, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert causal_conv(x, weight, torch.zeros(3)).dtype == torch.bfloat16
