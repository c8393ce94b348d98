"""The recurrent networks against a literal transcription of their equations, in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

from lvmdb.models import registry
from lvmdb.models.configs.gru import GRUConfig
from lvmdb.models.configs.lstm import LSTMConfig
from lvmdb.models.gru import GRU
from lvmdb.models.lstm import LSTM
from lvmdb.models.recurrent import Recurrent

HIDDEN, LAYERS = 6, 3

Layer = Callable[[Mapping[str, Tensor], str, list[Tensor]], list[Tensor]]


def lstm_layer(weights: Mapping[str, Tensor], layer: str, steps: list[Tensor]) -> list[Tensor]:
    w, u = weights[f"weight_ih_{layer}"], weights[f"weight_hh_{layer}"]
    bias = weights[f"bias_ih_{layer}"] + weights[f"bias_hh_{layer}"]
    h = c = torch.zeros(HIDDEN, dtype=torch.float64)
    outputs = []
    for x in steps:
        i, f, g, o = (w @ x + u @ h + bias).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return outputs


def gru_layer(weights: Mapping[str, Tensor], layer: str, steps: list[Tensor]) -> list[Tensor]:
    w_r, w_z, w_n = weights[f"weight_ih_{layer}"].chunk(3)
    u_r, u_z, u_n = weights[f"weight_hh_{layer}"].chunk(3)
    b_r, b_z, b_n = weights[f"bias_ih_{layer}"].chunk(3)
    c_r, c_z, c_n = weights[f"bias_hh_{layer}"].chunk(3)
    h = torch.zeros(HIDDEN, dtype=torch.float64)
    outputs = []
    for x in steps:
        r = torch.sigmoid(w_r @ x + b_r + u_r @ h + c_r)
        z = torch.sigmoid(w_z @ x + b_z + u_z @ h + c_z)
        n = torch.tanh(w_n @ x + b_n + r * (u_n @ h + c_n))
        h = (1 - z) * n + z * h
        outputs.append(h)
    return outputs


def build(name: str, residual: bool, dropout: float = 0.0) -> Recurrent:
    torch.manual_seed(0)
    architecture = registry.get(name)
    shape: dict[str, object] = {"input_dim": 7, "output_dim": 5, "hidden": HIDDEN, "layers": LAYERS}
    options = {**shape, "stack_residual": residual, "dropout": dropout, "residual": False}
    model = architecture.build(architecture.configure(options))
    assert isinstance(model, Recurrent)
    return model.double()


def literal(model: Recurrent, layer: Layer, residual: bool, context: Tensor) -> Tensor:
    """One sequence `(time, input_dim)`, layer by layer, step by step: `(time, output_dim)`."""
    (stack,) = (child for name, child in model.named_children() if name in ("lstm", "gru"))
    weights = dict(stack.named_parameters())
    steps = [model.input_projection(x) for x in context]
    for depth in range(LAYERS):
        if residual:
            alone = {n.removeprefix(f"layers.{depth}."): w for n, w in weights.items()}
            said = layer(alone, "l0", steps)
            steps = [x + y for x, y in zip(steps, said, strict=True)]
        else:
            steps = layer(weights, f"l{depth}", steps)
    return torch.stack([model.output_projection(x) for x in steps])


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_the_equations_with_and_without_padding(name: str, residual: bool) -> None:
    model, layer = build(name, residual), {"lstm": lstm_layer, "gru": gru_layer}[name]
    context = torch.randn(6, 5, 7, dtype=torch.float64)
    full = torch.ones(6, 5, dtype=torch.bool)
    padded = torch.arange(5) >= torch.tensor([[0], [1], [2], [3], [4], [0]])
    parameters = list(model.parameters())
    for mask in (full, padded):
        expected = torch.cat(
            [literal(model, layer, residual, x[m]) for x, m in zip(context, mask, strict=True)]
        )
        found = model.every(context, mask)[mask]
        ends = mask.sum(1).cumsum(0) - 1  # where each sequence's last prediction stands
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(model(context, mask), expected[ends], rtol=1e-10, atol=1e-12)
        wanted = torch.autograd.grad(expected.square().sum(), parameters)
        got = torch.autograd.grad(found.square().sum(), parameters)
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)


def test_without_residual_the_stack_is_torchs_own() -> None:
    """With its names, which checkpoints hold."""
    for model, kind in ((LSTM(LSTMConfig()), nn.LSTM), (GRU(GRUConfig()), nn.GRU)):
        name = kind.__name__.lower()
        theirs = {f"{name}.{key}" for key in kind(4, 4, 2).state_dict()}
        projections = ("input_projection", "output_projection")
        ends = {f"{end}.{part}" for end in projections for part in ("weight", "bias")}
        assert set(model.state_dict()) == theirs | ends


def test_dropout_falls_between_the_layers_and_behind_the_last() -> None:
    """Never on what the residual carries: with all but nothing dropped, that alone arrives."""
    model = build("gru", residual=True, dropout=0.999_999)
    model.dropout.p = 0.0
    context, mask = torch.randn(2, 4, 7, dtype=torch.float64), torch.ones(2, 4, dtype=torch.bool)
    state = model.states(context, mask)
    # A layer that reads zeros says the same to any context; the first one reads all there is.
    stack = model.get_submodule("gru")
    first = model.input_projection(context)
    layers = list(stack.get_submodule("layers").children())
    expected = first + layers[0](first)[0]
    expected = expected + sum(layer(torch.zeros_like(first))[0] for layer in layers[1:])
    torch.testing.assert_close(state, expected)
