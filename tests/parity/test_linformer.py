"""The Linformer's attention against the `linformer` package's, in float64."""

from __future__ import annotations

import pytest
import torch
from linformer.linformer import LinformerSelfAttention
from torch import Tensor, nn

from lvmdb.errors import ModelError
from lvmdb.models.configs.linformer import LinformerConfig
from lvmdb.models.linformer import Linformer, LinformerAttention

WIDTH, HEADS, TIME = 12, 3, 6


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def pair(rank: int) -> tuple[nn.Module, LinformerAttention]:
    """Theirs and ours with the same weights; theirs has no biases of queries, keys and values."""
    torch.manual_seed(rank)
    theirs: nn.Module = LinformerSelfAttention(WIDTH, TIME, k=rank, heads=HEADS).double()
    ours = LinformerAttention(WIDTH, HEADS, rank, TIME).double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            nn.init.normal_(parameter)
        fused = tuple(theirs.get_parameter(f"to_{part}.weight") for part in "qkv")
        ours.c_attn.weight.copy_(torch.cat(fused))
        ours.c_attn.bias.zero_()
        ours.c_proj.load_state_dict(theirs.get_submodule("to_out").state_dict())
        ours.key_projection.copy_(theirs.get_parameter("proj_k").t())
        ours.value_projection.copy_(theirs.get_parameter("proj_v").t())
    return theirs, ours


@pytest.mark.parametrize("rank", [1, 4, TIME, 64])
def test_output_and_gradients(rank: int) -> None:
    """The largest rank is multiplied in another order, as is any in a short context."""
    theirs, ours = pair(rank)
    x, upstream = normal(2, TIME, WIDTH).requires_grad_(), normal(2, TIME, WIDTH)
    expected, found = theirs(x), ours(x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)

    names = dict(theirs.named_parameters())
    gradients = torch.autograd.grad(expected, [x, *names.values()], upstream)
    given = dict(zip(["x", *names], gradients, strict=True))
    wanted = [
        given["x"],
        torch.cat([given[f"to_{part}.weight"] for part in "qkv"]),
        given["to_out.weight"],
        given["to_out.bias"],
        given["proj_k"].t(),
        given["proj_v"].t(),
    ]
    parameters = [
        *(x, ours.c_attn.weight, ours.c_proj.weight, ours.c_proj.bias),
        *(ours.key_projection, ours.value_projection),
    ]
    got = torch.autograd.grad(found, parameters, upstream)
    torch.testing.assert_close(list(got), wanted, rtol=1e-9, atol=1e-9)


def test_a_shorter_context_uses_the_last_columns() -> None:
    """So it is the same as a padded one; the biases, which make padding an input, included."""
    theirs, ours = pair(4)
    x = normal(2, TIME, WIDTH)
    with torch.no_grad():
        theirs.get_parameter("proj_k").copy_(ours.key_projection.t().roll(-2, 0))
        theirs.get_parameter("proj_v").copy_(ours.value_projection.t().roll(-2, 0))
    # They use the first rows of what they are given: here, those of the last positions.
    torch.testing.assert_close(ours(x[:, 2:]), theirs(x[:, 2:]), rtol=1e-10, atol=1e-10)

    nn.init.normal_(ours.c_attn.bias)
    mask = torch.arange(TIME) >= torch.tensor([[2], [5]])
    padded = ours(x, mask)
    assert bool(padded.isfinite().all())
    for row, start in ((0, 2), (1, 5)):
        alone = ours(x[row : row + 1, start:])
        torch.testing.assert_close(padded[row, start:], alone[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rank", [64, 128, 256])
def test_a_rank_beyond_the_context(rank: int) -> None:
    config = LinformerConfig(input_dim=8, output_dim=8, d_model=8, layers=1, heads=2, rank=rank)
    model = Linformer(config)
    predicted = model(torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
    predicted.square().sum().backward()
    assert model.blocks[0].get_parameter("mixer.key_projection").shape == (rank, 5)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name


def test_it_looks_ahead_and_reads_no_more_than_its_context() -> None:
    torch.manual_seed(0)
    _, ours = pair(4)
    x = normal(1, TIME, WIDTH)
    other = torch.cat([x[:, :-1], normal(1, 1, WIDTH)], 1)
    assert not torch.allclose(ours(other)[:, 0], ours(x)[:, 0])
    model = Linformer(LinformerConfig(input_dim=4, output_dim=4, d_model=4, layers=1, heads=1))
    with pytest.raises(ModelError, match="made for contexts of 5 concepts, not of 6"):
        model(torch.randn(1, 6, 4), torch.ones(1, 6, dtype=torch.bool))
