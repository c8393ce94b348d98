"""Retention's three forms against the paper's sums, written out, in float64."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lvmdb.models import retnet
from lvmdb.models.configs.retnet import RetNetConfig
from lvmdb.models.retention import chunkwise, log_decays, parallel, recurrent, rotate
from lvmdb.models.retnet import FFN, MultiScaleRetention, RetNet

HEADS, KEYS, VALUES = 3, 4, 5

Form = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

FORMS: dict[str, Form] = {"parallel": parallel, "recurrent": recurrent}


def in_chunks(chunk_size: int) -> Form:
    return lambda q, k, v, log_decay: chunkwise(q, k, v, log_decay, chunk_size)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def as_complex(x: Tensor) -> Tensor:
    """Neighbouring numbers as real and imaginary part."""
    return torch.complex(x[..., 0::2], x[..., 1::2])


def turns(width: int, position: int) -> Tensor:
    """`e^(i n theta)` of a position n, for each pair of numbers."""
    pairs = width // 2
    theta = [10_000.0 ** -(pair / max(1, pairs - 1)) for pair in range(pairs)]
    return torch.tensor([cmath.exp(1j * position * t) for t in theta], dtype=torch.complex128)


def written_out(q: Tensor, k: Tensor, v: Tensor, gammas: list[float]) -> list[list[Tensor]]:
    """Scores `gamma^(n-m) (q_n e^(i n theta)) (k_m e^(i m theta))^*`, eq. 3 and 4.

    Returns:
        By head and n, `(n + 1, batch)`; the first dimension is m.
    """
    scores = []
    for head, gamma in enumerate(gammas):
        rows = []
        for n in range(q.shape[2]):
            row = []
            for m in range(n + 1):
                turned = as_complex(q[:, head, n]) * turns(q.shape[-1], n)
                other = as_complex(k[:, head, m]) * turns(k.shape[-1], m)
                row.append(gamma ** (n - m) * (turned * other.conj()).sum(-1).real)
            rows.append(torch.stack(row))  # (m, batch)
        scores.append(rows)
    return scores


def gammas_of(heads: int) -> list[float]:
    return [1 - 2.0 ** (-5 - head) for head in range(heads)]


def gradients(y: Tensor, given: list[Tensor], direction: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(y, given, direction)


@pytest.mark.parametrize("time", [1, 2, 6, 9])
@pytest.mark.parametrize(
    "form", [parallel, recurrent, in_chunks(1), in_chunks(3), in_chunks(4), in_chunks(20)]
)
def test_each_form_is_the_sum_of_the_paper(form: Form, time: int) -> None:
    torch.manual_seed(time)
    given = [normal(2, HEADS, time, KEYS), normal(2, HEADS, time, KEYS)]
    given.append(normal(2, HEADS, time, VALUES))
    for tensor in given:
        tensor.requires_grad_()
    q, k, v = given
    scores = written_out(q, k, v, gammas_of(HEADS))
    heads = []
    for head in range(HEADS):
        rows = [
            (scores[head][n].unsqueeze(-1) * v[:, head, : n + 1].transpose(0, 1)).sum(0)
            for n in range(time)
        ]
        heads.append(torch.stack(rows, 1))
    expected = torch.stack(heads, 1)  # (batch, heads, time, VALUES)
    found = form(rotate(q), rotate(k), v, log_decays(HEADS, q))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)
    direction = normal(*expected.shape)
    wanted = gradients(expected, given, direction)
    for left, right in zip(gradients(found, given, direction), wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("time", [40, 129])
def test_the_forms_agree_on_long_sequences(time: int) -> None:
    given = [normal(1, 2, time, KEYS), normal(1, 2, time, KEYS), normal(1, 2, time, VALUES)]
    for tensor in given:
        tensor.requires_grad_()
    decay = log_decays(2, given[0]).requires_grad_()
    direction = normal(1, 2, time, VALUES)
    results = []
    for form in (parallel, recurrent, in_chunks(16), in_chunks(64)):
        y = form(given[0], given[1], given[2], decay)
        results.append((y, *gradients(y, [*given, decay], direction)))
    for other in results[1:]:
        for left, right in zip(other, results[0], strict=True):
            torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


def mixer_written_out(mixer: MultiScaleRetention, x: Tensor) -> Tensor:
    """`(swish(x W_G) * GroupNorm(heads)) W_O` with the three divisions of section 2.2."""
    batch, time, _ = x.shape

    def heads(linear: nn.Linear) -> Tensor:
        return (x @ linear.weight.t()).reshape(batch, time, mixer.heads, -1).transpose(1, 2)

    q, k, v = heads(mixer.q_proj), heads(mixer.k_proj), heads(mixer.v_proj)
    scores = written_out(q, k, v, gammas_of(mixer.heads))
    rows = []
    for n in range(time):
        parts = []
        for head, gamma in enumerate(gammas_of(mixer.heads)):
            row = scores[head][n] / math.sqrt(q.shape[-1])  # (m, batch)
            row = row / math.sqrt(sum(gamma**m for m in range(n + 1)))
            row = row / row.sum(0).abs().clamp(min=1)
            y = (row.t().unsqueeze(-1) * v[:, head, : n + 1]).sum(1)  # (batch, value_dim)
            mean = y.mean(-1, keepdim=True)
            spread = ((y - mean) ** 2).mean(-1, keepdim=True)
            parts.append((y - mean) / (spread + 1e-6).sqrt())
        rows.append(torch.cat(parts, -1))
    normed = torch.stack(rows, 1) * mixer.group_norm.weight + mixer.group_norm.bias
    gate = x @ mixer.g_proj.weight.t()
    return (gate * torch.sigmoid(gate) * normed) @ mixer.out_proj.weight.t()


@pytest.fixture
def mixer() -> MultiScaleRetention:
    torch.manual_seed(0)
    made = MultiScaleRetention(12, heads=HEADS, chunk_size=3)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.7)  # sums of scores on both sides of one
    return made.double()


@pytest.mark.parametrize("time", [1, 3, 8])
@pytest.mark.parametrize("form", ["parallel", "recurrent", "chunkwise"])
def test_the_mixer_in_each_form(
    mixer: MultiScaleRetention, monkeypatch: pytest.MonkeyPatch, form: str, time: int
) -> None:
    if form != "chunkwise":
        mixer.chunk_size = 100
        monkeypatch.setattr(retnet, "parallel", FORMS[form])
    x = normal(2, time, 12).requires_grad_()
    expected, found = mixer_written_out(mixer, x), mixer(x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    direction = normal(2, time, 12)
    names = [name for name, _ in mixer.named_parameters()]
    given = [x, *mixer.parameters()]
    wanted = gradients(expected, given, direction)
    got = gradients(found, given, direction)
    for name, left, right in zip(["x", *names], got, wanted, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-7, atol=1e-9, msg=f"{name}: {{}}".format)


def test_sums_of_scores_are_on_both_sides_of_one(mixer: MultiScaleRetention) -> None:
    """So that what the other tests compare has both."""
    x = normal(2, 8, 12)
    q, k = (
        layer(x).reshape(2, 8, HEADS, 4).transpose(1, 2) for layer in (mixer.q_proj, mixer.k_proj)
    )
    ones = torch.ones(2, HEADS, 8, 1, dtype=torch.float64)
    sums = parallel(rotate(q), rotate(k) / 2, ones, log_decays(HEADS, x)).abs()
    assert bool((sums > 3).any())
    assert bool((sums < 0.3).any())


@pytest.mark.parametrize("chunk_size", [3, 64])
def test_padding_shifts_nothing(mixer: MultiScaleRetention, chunk_size: int) -> None:
    mixer.chunk_size = chunk_size
    x = normal(2, 11, 12)
    mask = torch.arange(11) >= torch.tensor([[4], [9]])
    together = mixer(x, mask)
    for row, start in ((0, 4), (1, 9)):
        alone = mixer(x[row : row + 1, start:])
        torch.testing.assert_close(together[row, start:], alone[0], rtol=1e-9, atol=1e-10)


def test_only_distances_count() -> None:
    """A product of rotated queries and keys is the same further on."""
    q, k = normal(1, 1, 30, 8), normal(1, 1, 30, 8)
    moved_q, moved_k = (torch.cat([normal(1, 1, 13, 8), x], 2) for x in (q, k))
    expected = rotate(q) @ rotate(k).transpose(-1, -2)
    found = rotate(moved_q) @ rotate(moved_k).transpose(-1, -2)
    torch.testing.assert_close(found[..., 13:, 13:], expected, rtol=1e-10, atol=1e-10)


def test_a_factor_of_a_head_vanishes_in_the_norm() -> None:
    """Why the paper may divide as it does: exact but for epsilon."""
    torch.manual_seed(0)
    mixer = MultiScaleRetention(12, heads=HEADS).double()
    mixer.group_norm.eps = 0.0
    x = normal(1, 7, 12)
    expected = mixer(x)
    mixer.scale *= 5
    torch.testing.assert_close(mixer(x), expected, rtol=1e-9, atol=1e-10)


def test_the_block_is_retention_then_a_feed_forward_part() -> None:
    config = RetNetConfig(d_model=12, layers=2, heads=3, input_dim=6, output_dim=6)
    kinds = [type(block.get_submodule("mixer")) for block in RetNet(config).blocks]
    assert kinds == [MultiScaleRetention, FFN] * 2
    ffn, x = FFN(12).double(), normal(2, 3, 12)
    inner = x @ ffn.fc1.weight.t()
    inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    torch.testing.assert_close(ffn(x), inner @ ffn.fc2.weight.t())
