"""S4's kernels and layers against the papers' recurrences and matrices, written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmdb.models import hippo
from lvmdb.models.s4 import S4Mixer
from lvmdb.models.s4_kernels import DPLRKernel, S4DKernel, S4Kernel

CHANNELS, STATE = 3, 6
DT = (0.05, 0.9)
VARIANTS = ("s4d", "dplr")


def kernel(variant: str, state: int = STATE, dt: tuple[float, float] = DT) -> S4Kernel:
    if variant == "dplr":
        return DPLRKernel(CHANNELS, state, *dt)
    return S4DKernel(CHANNELS, hippo.diagonal("lin", state), *dt)


def trained(variant: str) -> S4Kernel:
    """As after training: every number has gone its own way."""
    torch.manual_seed(0)
    built = kernel(variant).double()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return built


def both(half: Tensor) -> Tensor:
    """A half of the states and their conjugates."""
    return torch.cat([half, half.conj()], -1)


def dense(given: S4Kernel) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A, B, C of every channel as complex matrices, and dt; nothing is made discrete yet."""
    diagonal = both(torch.complex(-given.log_A_real.exp(), given.A_imag))
    a = torch.diag_embed(diagonal)
    b = torch.ones_like(diagonal)
    if isinstance(given, DPLRKernel):
        p = both(torch.view_as_complex(given.P))
        a = a - p.unsqueeze(-1) * p.conj().unsqueeze(-2)
        b = both(torch.view_as_complex(given.B))
    c = both(torch.view_as_complex(given.C))
    return a, b.unsqueeze(-1), c.unsqueeze(-2), given.log_dt.exp().view(-1, 1, 1)


def discrete(given: S4Kernel) -> tuple[Tensor, Tensor, Tensor]:
    """A', B', C: by zero-order hold for S4D, by the bilinear transform for S4."""
    a, b, c, dt = dense(given)
    one = torch.eye(a.shape[-1], dtype=a.dtype)
    if isinstance(given, DPLRKernel):
        before = torch.linalg.inv(one - dt / 2 * a)
        return before @ (one + dt / 2 * a), before @ (dt * b), c
    held = torch.matrix_exp(dt * a)
    return held, torch.linalg.inv(a) @ (held - one) @ b, c


def stepped(given: S4Kernel, u: Tensor) -> Tensor:
    """The recurrence, step by step, `(batch, time, channels) -> (batch, time, channels)`."""
    a, b, c = discrete(given)
    x = torch.zeros(u.shape[0], *b.shape, dtype=b.dtype)  # (batch, channels, state, 1)
    said = []
    for t in range(u.shape[1]):
        x = a @ x + b * u[:, t, :, None, None]
        y = (c @ x).flatten(1)  # (batch, channels)
        assert float(y.imag.detach().abs().max()) < 1e-10
        said.append(y.real)
    return torch.stack(said, 1)


@pytest.mark.parametrize("time", [1, 2, 5, 12, 13, 40])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_convolution_is_the_recurrence(variant: str, time: int) -> None:
    """A whole layer, output and the gradient of each parameter; directly and by FFT."""
    torch.manual_seed(time)
    mixer = S4Mixer(CHANNELS, trained(variant)).double()
    u = torch.randn(2, time, CHANNELS, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn_like(u)
    linear = mixer.output_linear
    y = F.gelu(stepped(mixer.kernel, u) + mixer.D * u)
    signal, gate = (y @ linear.weight.t() + linear.bias).chunk(2, -1)
    expected = signal * torch.sigmoid(gate)
    found = mixer(u)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)
    names = ["u", *dict(mixer.named_parameters())]
    wanted, got = (
        torch.autograd.grad(of, [u, *mixer.parameters()], upstream) for of in (expected, found)
    )
    assert len(names) == (10 if variant == "dplr" else 8)
    for name, gradient, right in zip(names, got, wanted, strict=True):
        torch.testing.assert_close(
            gradient, right, rtol=1e-9, atol=1e-10, msg=f"{name}: {{}}".format
        )


@pytest.mark.parametrize("time", [2, 8, 31])
def test_dplr_is_the_papers_generating_function_at_roots_of_unity(time: int) -> None:
    """Algorithm 1 of arXiv 2111.00396, with C cut off at L by a power of A'."""
    given = trained("dplr")
    assert isinstance(given, DPLRKernel)
    with torch.no_grad():
        a, _, c = discrete(given)
        one = torch.eye(STATE, dtype=a.dtype)
        cut = (c @ (one - torch.linalg.matrix_power(a, time))).squeeze(1)  # (channels, state)
        diagonal = both(torch.complex(-given.log_A_real.exp(), given.A_imag))
        p, b = (both(torch.view_as_complex(v)) for v in (given.P, given.B))
        dt = given.log_dt.exp()
        w = torch.exp(-2j * math.pi * torch.arange(time, dtype=torch.float64) / time)
        if time % 2 == 0:
            w[time // 2] *= 1 + 1e-9  # the pole of 2 / (1 + w), which the formula steps beside
        z = 2 / dt.unsqueeze(-1) * (1 - w) / (1 + w)  # (channels, time)

        def cauchy(left: Tensor, right: Tensor) -> Tensor:
            return ((left * right).unsqueeze(1) / (z.unsqueeze(-1) - diagonal.unsqueeze(1))).sum(-1)

        at_roots = (2 / (1 + w)) * (
            cauchy(cut, b) - cauchy(cut, p) * cauchy(p.conj(), b) / (1 + cauchy(p.conj(), p))
        )
        expected = torch.fft.ifft(at_roots).real
        torch.testing.assert_close(given(time), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("state", [2, 8])
def test_dplr_starts_at_hippo_legs(state: int) -> None:
    """The real, dense matrix of the paper's eq. 2, made discrete, has the same kernel."""
    torch.manual_seed(1)
    given = kernel("dplr", state).double()
    assert isinstance(given, DPLRKernel)
    n = np.arange(state)
    a = np.array(
        [
            [
                -math.sqrt((2 * i + 1) * (2 * k + 1)) if i > k else -(i + 1.0) * (i == k)
                for k in range(state)
            ]
            for i in range(state)
        ]
    )
    b, p = np.sqrt(2 * n + 1.0), np.sqrt(n + 0.5)
    # A basis in which A is what the kernel says: eigenvectors of the normal part.
    values, vectors = np.linalg.eig(a + np.outer(p, p))
    keep = np.argsort(np.where(values.imag > 0, values.imag, np.inf))[: state // 2]
    values, vectors = values[keep], vectors[:, keep]
    vectors = vectors * np.exp(1j * np.angle(vectors.conj().T @ b))
    diagonal = torch.complex(-given.log_A_real.exp(), given.A_imag).detach().numpy()
    np.testing.assert_allclose(diagonal, np.tile(values, (CHANNELS, 1)), rtol=1e-6)
    np.testing.assert_allclose(
        torch.view_as_complex(given.P.detach())[0].numpy(), vectors.conj().T @ p, atol=1e-6
    )
    np.testing.assert_allclose(
        torch.view_as_complex(given.B.detach())[0].numpy(), vectors.conj().T @ b, atol=1e-6
    )
    found = given(20).detach().numpy()
    for channel in range(CHANNELS):
        dt = math.exp(float(given.log_dt.detach()[channel]))
        half = torch.view_as_complex(given.C.detach())[channel].numpy()
        c = 2 * (half @ vectors.conj().T).real
        before = np.linalg.inv(np.eye(state) - dt / 2 * a)
        x = before @ b * dt
        for step in range(20):
            assert found[channel, step] == pytest.approx(float(c @ x), rel=1e-5, abs=1e-6)
            x = before @ (np.eye(state) + dt / 2 * a) @ x


def test_hippo_legs_is_normal_and_of_low_rank() -> None:
    a, b = hippo.legs_matrices(8)
    assert a[:2, :2].tolist() == [[-1, 0], [-math.sqrt(3), -2]]
    assert b[:2].tolist() == [1, math.sqrt(3)]
    half = hippo.legs(8)
    values, p = (np.concatenate([v, v.conj()]) for v in (half.eigenvalues, half.low_rank))
    found = np.linalg.eigvals(np.diag(values) - np.outer(p, p.conj()))
    np.testing.assert_allclose(np.sort(found.real), -np.arange(8, 0, -1), atol=1e-9)
    np.testing.assert_allclose(half.inputs, math.sqrt(2) * half.low_rank, atol=1e-12)


def test_s4d_starts_where_its_paper_says() -> None:
    """S4D-Lin and S4D-Inv of arXiv 2206.11893, for a state of 8."""
    lin, inv = hippo.diagonal("lin", 8), hippo.diagonal("inv", 8)
    for n in range(4):
        assert lin[n] == pytest.approx(complex(-0.5, math.pi * n))
        assert inv[n] == pytest.approx(complex(-0.5, 8 / math.pi * (8 / (2 * n + 1) - 1)))
    legs = hippo.diagonal("legs", 64)
    assert legs.real == pytest.approx(-0.5)
    # What S4D-Inv is for: LegS' own eigenvalues, nearly, in closed form.
    assert np.sort(legs.imag)[-1] == pytest.approx(np.max(hippo.diagonal("inv", 64).imag), rel=0.02)


@pytest.mark.parametrize("variant", VARIANTS)
def test_initial_steps_and_weights(variant: str) -> None:
    torch.manual_seed(0)
    built = (
        DPLRKernel(400, 8, 0.001, 0.1)
        if variant == "dplr"
        else S4DKernel(400, hippo.diagonal("legs", 8), 0.001, 0.1)
    )
    assert bool((built.log_A_real.exp() - 0.5).abs().max() < 1e-6)
    share = (built.log_dt.detach() - math.log(0.001)) / math.log(100)  # uniform from 0 to 1
    assert float(share.min()) >= 0
    assert float(share.max()) <= 1
    assert float(share.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(share.std()) == pytest.approx(12**-0.5, abs=0.03)
    assert float(built.C.detach().square().sum(-1).mean()) == pytest.approx(1, abs=0.1)
    assert float(built.C.detach().mean()) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_shorter_kernel_is_the_start_of_a_longer_one(variant: str) -> None:
    given = trained(variant)
    longest = given(300)
    for time in (1, 2, 3, 5, 16, 64, 257):
        torch.testing.assert_close(given(time), longest[:, :time], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_float32_forgets_nothing_over_a_thousand_positions(variant: str) -> None:
    """Phases of hundreds of turns: as exact as the parameters."""
    torch.manual_seed(2)
    narrow = kernel(variant, 16, (0.05, 0.1))
    wide = kernel(variant, 16, (0.05, 0.1)).double()
    wide.load_state_dict(narrow.state_dict())
    found, expected = narrow(1024).detach(), wide(1024).detach()
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max()) < 1e-6 * float(expected.abs().max())


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_on_the_left(variant: str) -> None:
    mixer = S4Mixer(CHANNELS, trained(variant)).double()
    u = torch.randn(2, 20, CHANNELS, dtype=torch.float64)
    mask = torch.arange(20) >= torch.tensor([[4], [17]])
    found = mixer(u, mask)
    for row, start in ((0, 4), (1, 17)):
        alone = mixer(u[row : row + 1, start:])
        torch.testing.assert_close(found[row, start:], alone[0], rtol=1e-9, atol=1e-10)


def test_parameters_are_real_and_gentle_where_they_set_the_state() -> None:
    given: nn.Module = kernel("dplr")
    assert all(parameter.dtype == torch.float32 for parameter in given.parameters())
    gentle = set(getattr(given, "trained_gently"))  # noqa: B009
    assert gentle == {name for name, _ in given.named_parameters()} - {"C"}
