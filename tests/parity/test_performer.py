"""FAVOR+ against a literal transcription of its equations, and against what it estimates."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lvmdb.models.favor import favor, orthogonal_features
from lvmdb.models.performer import PerformerAttention

BATCH, HEADS, HEAD_DIM, FEATURES = 2, 2, 3, 7


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def feature(w: Tensor, x: Tensor) -> Tensor:
    """phi(x), `(features,)`, the paper's positive features of the softmax kernel."""
    x = x / HEAD_DIM**0.25
    return torch.exp(w @ x - x.dot(x) / 2) / math.sqrt(len(w))


def literal(q: Tensor, k: Tensor, v: Tensor, w: Tensor, mask: Tensor) -> Tensor:
    """Position by position, key by key; zeros where there is no key."""
    result = torch.zeros_like(v)
    for b, h, t in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        past = [s for s in range(t + 1) if mask[b, s]]
        weights = [feature(w, q[b, h, t]).dot(feature(w, k[b, h, s])) for s in past]
        for s, weight in zip(past, weights, strict=True):
            result[b, h, t] = result[b, h, t] + weight / sum(weights) * v[b, h, s]
    return result


@pytest.mark.parametrize("starts", [(0, 0), (2, 7)])
def test_chunks_say_what_a_loop_says(starts: tuple[int, int]) -> None:
    torch.manual_seed(0)
    time = 10
    w = orthogonal_features(FEATURES, HEAD_DIM).double()
    q, k, v = (2 * normal(BATCH, HEADS, time, HEAD_DIM) for _ in range(3))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    mask = torch.arange(time) >= torch.tensor(starts).unsqueeze(1)
    there = mask[:, None, :, None]
    expected = literal(q, k, v, w, mask) * there
    wanted = torch.autograd.grad(expected.square().sum(), inputs)
    for chunk_size in (1, 4, 16):
        found = favor(q, k, v, w, mask if any(starts) else None, chunk_size) * there
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        got = torch.autograd.grad(found.square().sum(), inputs)
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)


def test_it_approaches_exact_attention_as_features_grow() -> None:
    """The error falls as one over the root of their number: 16 times as many, a quarter of it."""
    torch.manual_seed(0)
    q, k, v = 0.4 * normal(2, 2, 9, 8), 0.4 * normal(2, 2, 9, 8), normal(2, 2, 9, 8)
    exact = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    errors = []
    for count in (16, 256, 4096):
        draws = [favor(q, k, v, orthogonal_features(count, 8), None, 4) for _ in range(3)]
        errors.append(torch.stack([(draw - exact).square().mean() for draw in draws]).mean().sqrt())
    assert errors[0] / errors[1] > 2.5
    assert errors[1] / errors[2] > 2.5
    assert errors[2] < 0.02 * exact.square().mean().sqrt()


def test_features_are_gaussian_vectors_orthogonal_to_each_other() -> None:
    torch.manual_seed(0)
    w = orthogonal_features(40, 16).double()
    for block in (w[:16], w[16:32], w[32:]):
        products = block @ block.t()
        torch.testing.assert_close(products, torch.diag(products.diag()), rtol=0, atol=1e-5)
    lengths = orthogonal_features(2000, 16).square().sum(-1)
    assert lengths.mean().item() == pytest.approx(16, rel=0.05)  # chi squared of 16 dimensions
    assert lengths.var().item() == pytest.approx(32, rel=0.2)


@pytest.mark.parametrize("size", [0.0, 1.0, 8.0, 60.0])
def test_single_precision_is_safe_at_any_length_and_size(size: float) -> None:
    torch.manual_seed(0)
    shape = (1, 2, 1024, 32)
    q, k, v = size * torch.randn(shape), size * torch.randn(shape), torch.randn(shape)
    w = orthogonal_features(32, 32)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    found = favor(q, k, v, w, None, 64)
    assert bool(found.isfinite().all())
    assert bool((found.abs() <= v.abs().amax() * 1.001).all())  # a weighted mean
    for gradient in torch.autograd.grad(found.square().sum(), inputs):
        assert bool(gradient.isfinite().all())
    if size <= 1:
        exact = favor(q.double(), k.double(), v.double(), w, None, 1024)
        torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-4)


def test_a_large_key_changes_nothing_before_it() -> None:
    """Not by rounding either: at its scale, the keys before it are nothing in float32."""
    torch.manual_seed(0)
    w = 6 * orthogonal_features(8, 4)
    q, k, v = (torch.randn(1, 1, 9, 4) for _ in range(3))
    before = favor(q, k, v, w, None, 4)
    longest = w[w.norm(dim=-1).argmax()]
    assert longest.square().sum() / 2 > 100  # its largest exponent, where it is that feature
    k[0, 0, 6] = 4**0.25 * longest
    after = favor(q, k, v, w, None, 4)
    torch.testing.assert_close(after[:, :, :6], before[:, :, :6], rtol=0, atol=0)
    torch.testing.assert_close(after[:, :, 6:8], v[:, :, 6:7].expand(1, 1, 2, 4))


def test_the_state_dict_holds_the_features() -> None:
    torch.manual_seed(0)
    ours, other = (PerformerAttention(8, 2, 5, 4) for _ in range(2))
    x = torch.randn(1, 6, 8)
    assert not torch.equal(ours.features, other.features)
    other.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x), other(x))
    assert "features" not in dict(ours.named_parameters())
