"""GPT-2 against transformers' own, with the same weights, in float64."""

from __future__ import annotations

import importlib
import re
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lvmdb.errors import ModelError
from lvmdb.models.configs.gpt2 import GPT2Config
from lvmdb.models.gpt2 import GPT2

WIDTH, LAYERS, HEADS, POSITIONS = 24, 3, 4, 12


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever importing transformers says about itself
        library: Any = importlib.import_module("transformers.models.gpt2")
        config = library.GPT2Config(
            vocab_size=1,
            n_positions=POSITIONS,
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            attn_implementation="eager",
        )
        model: nn.Module = library.GPT2Model(config)
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


def renamed(name: str) -> str:
    """The place of one of their parameters in ours."""
    if block := re.fullmatch(r"h\.(\d+)\.(ln_1|attn|ln_2|mlp)\.(.+)", name):
        number, part, rest = int(block[1]), block[2], block[3]
        second = part in ("ln_2", "mlp")
        return f"blocks.{2 * number + second}.{'norm' if 'ln' in part else 'mixer'}.{rest}"
    return name.replace("wpe.", "positions.").replace("ln_f.", "norm.")


def theirs_as_ours(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    linear = re.compile(r"\.c_(attn|proj|fc)\.weight$")
    return {
        renamed(name): tensor.t() if linear.search(name) else tensor
        for name, tensor in tensors.items()
        if name != "wte.weight"
    }


@pytest.fixture
def ours(theirs: nn.Module) -> GPT2:
    """With its own projections left as they start; the stream is compared behind the first."""
    torch.manual_seed(1)
    config = GPT2Config(
        input_dim=7,
        output_dim=5,
        d_model=WIDTH,
        layers=LAYERS,
        heads=HEADS,
        max_positions=POSITIONS,
    )
    model = GPT2(config).double()
    missing, unexpected = model.load_state_dict(theirs_as_ours(dict(theirs.state_dict())), False)
    assert not unexpected
    assert all("put_projection" in name for name in missing)
    return model


@pytest.mark.parametrize("lengths", [(9, 9, 9), (9, 4, 1), (POSITIONS, POSITIONS, 3)])
def test_output_and_gradients(theirs: nn.Module, ours: GPT2, lengths: tuple[int, ...]) -> None:
    time = max(lengths)
    mask = torch.arange(time) >= time - torch.tensor(lengths).unsqueeze(1)
    context = torch.randn(3, time, 7, dtype=torch.float64)
    upstream = torch.randn(int(mask.sum()), WIDTH, dtype=torch.float64)

    embedded = ours.input_projection(context).detach().requires_grad_()
    position = (mask.cumsum(1) - 1).clamp(min=0)
    answer: Any = theirs(
        inputs_embeds=embedded, attention_mask=mask.long(), position_ids=position, use_cache=False
    )
    expected = answer.last_hidden_state[mask]
    found = ours.states(context, mask)[mask]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)

    given = {name: p for name, p in theirs.named_parameters() if name != "wte.weight"}
    gradients = torch.autograd.grad(expected, [*given.values(), embedded], upstream)
    wanted = theirs_as_ours(dict(zip(given, gradients[:-1], strict=True)))
    # Behind the input projection stands the embedding, so its gradient follows from theirs.
    blank = context * mask.unsqueeze(-1)
    wanted["input_projection.weight"] = torch.einsum("btw,bti->wi", gradients[-1], blank)
    wanted["input_projection.bias"] = gradients[-1].sum((0, 1))
    parameters = dict(ours.named_parameters())
    for name in ("output_projection.weight", "output_projection.bias"):
        del parameters[name]
    got = torch.autograd.grad(found, list(parameters.values()), upstream)
    assert parameters.keys() == wanted.keys()
    for name, gradient in zip(parameters, got, strict=True):
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-8, atol=1e-8, msg=name)


def test_more_concepts_than_positions(ours: GPT2) -> None:
    time = POSITIONS + 2
    context, mask = torch.randn(2, time, 7, dtype=torch.float64), torch.ones(2, time).bool()
    with pytest.raises(ModelError, match=r"for 12 concepts, not for 14: .*max_positions=14"):
        ours.every(context, mask)
    mask[:, 0] = False
    with pytest.raises(ModelError, match="not for 13"):
        ours(context, mask)
    mask[:, :3] = False  # Padding takes no position.
    alone = ours(context[:, 3:], mask[:, 3:])
    torch.testing.assert_close(ours(context, mask), alone, rtol=1e-10, atol=1e-10)


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ModelError, match=r"heads must divide d_model \(768\), which 7 does not"):
        GPT2Config(heads=7)
    with pytest.raises(ModelError, match="max_positions must be at least 5, not 4"):
        GPT2Config(max_positions=4)
