"""The Mamba-2 mixer against transformers' own, with the same weights."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lvmdb.models.mamba2 import Mamba2Mixer

D_MODEL, D_STATE, HEADDIM, CHUNK = 32, 12, 8, 8


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever importing transformers says about itself
        library: Any = importlib.import_module("transformers.models.mamba2")
        config = library.Mamba2Config(
            hidden_size=D_MODEL,
            num_heads=2 * D_MODEL // HEADDIM,
            head_dim=HEADDIM,
            state_size=D_STATE,
            n_groups=1,
            chunk_size=CHUNK,
            num_hidden_layers=1,
        )
        mixer: nn.Module = library.modeling_mamba2.Mamba2Mixer(config, layer_idx=0)
    torch.manual_seed(0)
    for name, parameter in mixer.named_parameters():
        if name not in ("A_log", "dt_bias"):
            nn.init.normal_(parameter, std=0.5)
    return mixer.double()


@pytest.fixture
def ours(theirs: nn.Module) -> Mamba2Mixer:
    mixer = Mamba2Mixer(D_MODEL, D_STATE, headdim=HEADDIM, chunk_size=CHUNK, kernel="torch")
    mixer.double().load_state_dict(theirs.state_dict())
    return mixer


@pytest.fixture(autouse=True)
def in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers works in float32 inside, whatever it is given; here it stays in float64."""
    real_to = Tensor.to

    def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.dtype == torch.float64 and args == (torch.float32,):
            return self
        return real_to(self, *args, **kwargs)

    monkeypatch.setattr(Tensor, "float", lambda self: self)
    monkeypatch.setattr(Tensor, "to", to)


@pytest.mark.filterwarnings("ignore::UserWarning:transformers.*")
@pytest.mark.parametrize("time", [1, 3, 5, 8, 13, 16, 29])
def test_output_and_gradients(theirs: nn.Module, ours: Mamba2Mixer, time: int) -> None:
    generator = torch.Generator().manual_seed(time)
    u = torch.randn(3, time, D_MODEL, generator=generator, dtype=torch.float64)
    upstream = torch.randn(3, time, D_MODEL, generator=generator, dtype=torch.float64)
    results = []
    for mixer in (theirs, ours):
        given = u.clone().requires_grad_()
        parameters = dict(mixer.named_parameters())
        output = mixer(given)
        gradients = torch.autograd.grad(output, [given, *parameters.values()], upstream)
        results.append((output, dict(zip(["u", *parameters], gradients, strict=True))))
    (expected, wanted), (found, got) = results
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert got.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(
            got[name], gradient, rtol=1e-8, atol=1e-8, msg=f"{name}: {{}}".format
        )


@pytest.mark.filterwarnings("ignore::UserWarning:transformers.*")
def test_padding_on_the_left(theirs: nn.Module, ours: Mamba2Mixer) -> None:
    u = torch.randn(2, 11, D_MODEL, dtype=torch.float64)
    mask = torch.arange(11) >= torch.tensor([[4], [9]])
    expected = theirs(u, attention_mask=mask.double())
    found = ours(u, mask)
    torch.testing.assert_close(found[mask], expected[mask], rtol=1e-9, atol=1e-9)
    for row, start in ((0, 4), (1, 9)):
        alone = ours(u[row : row + 1, start:])
        torch.testing.assert_close(found[row, start:], alone[0], rtol=1e-9, atol=1e-9)
