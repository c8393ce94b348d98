"""The LSTM against a literal transcription of its equations, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from lvmdb.models.configs.lstm import LSTMConfig
from lvmdb.models.lstm import LSTM


def literal(model: LSTM, context: Tensor) -> Tensor:
    """One sequence `(time, input_dim)`, layer by layer, step by step."""
    weights = dict(model.lstm.named_parameters())
    steps = [model.input_projection(x) for x in context]
    for layer in range(model.lstm.num_layers):
        w, u = weights[f"weight_ih_l{layer}"], weights[f"weight_hh_l{layer}"]
        bias = weights[f"bias_ih_l{layer}"] + weights[f"bias_hh_l{layer}"]
        h = c = torch.zeros(model.lstm.hidden_size, dtype=torch.float64)
        outputs = []
        for x in steps:
            i, f, g, o = (w @ x + u @ h + bias).chunk(4)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        steps = outputs
    predicted: Tensor = model.output_projection(steps[-1])
    return predicted


def test_the_equations_with_and_without_padding() -> None:
    torch.manual_seed(0)
    config = LSTMConfig(input_dim=7, output_dim=5, hidden=6, layers=3)
    model = LSTM(config).double()
    context = torch.randn(6, 5, 7, dtype=torch.float64)
    full = torch.ones(6, 5, dtype=torch.bool)
    padded = torch.arange(5) >= torch.tensor([[0], [1], [2], [3], [4], [0]])
    for mask in (full, padded):
        expected = torch.stack([literal(model, x[m]) for x, m in zip(context, mask, strict=True)])
        found = model(context, mask)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        parameters = list(model.parameters())
        wanted = torch.autograd.grad(expected.square().sum(), parameters)
        got = torch.autograd.grad(found.square().sum(), parameters)
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)
