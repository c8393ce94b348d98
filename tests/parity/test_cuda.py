"""Every architecture on a GPU against itself on a CPU, forward and gradient, in double precision.

What has an implementation for CUDA alone is in `test_mamba_ssm`.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tiny_models import TINY, architecture_of, awake
from torch import Tensor

from lvmdb.models.base import LatentModel
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.training.losses import get
from lvmdb.training.objective import answer

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    # PyTorch's, of the first backward pass of a process.
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS, but there was no current CUDA"),
]

LAGS = 4
same = partial(torch.testing.assert_close, rtol=1e-8, atol=1e-10)


def tiny(name: str) -> LatentModel:
    torch.manual_seed(0)
    kernel = {"kernel": "torch"} if name in ("mamba2", "hybrid") else {}
    options = {**TINY[name], **kernel, "input_dim": 10, "output_dim": 6, "dropout": 0.0}
    built = architecture_of(name).build(architecture_of(name).configure(options))
    assert isinstance(built, LatentModel)
    awake(built)
    # Training: cuDNN has no gradient of a recurrent net otherwise.
    return built.double().train()


def batch(objective: str) -> SequenceBatch:
    """Three sequences, the first of them with padding."""
    generator = torch.Generator().manual_seed(1)
    normal = partial(torch.randn, generator=generator, dtype=torch.float64)
    mask = torch.ones(3, LAGS, dtype=torch.bool)
    mask[0, :2] = False
    shape = (3, LAGS, 6) if objective == "every" else (3, 6)
    target = normal(*shape)
    if objective == "every":
        target = target * mask.unsqueeze(-1)
    return SequenceBatch(
        normal(3, LAGS, 10) * mask.unsqueeze(-1),
        mask,
        target,
        torch.arange(3),
        torch.full((3,), LAGS),
    )


CASES = [
    (name, objective)
    for name in TINY
    for objective in architecture_of(name).objectives
    # What is trained by diffusion draws other noise on each device.
    if not architecture_of(name).configure(TINY[name]).generates
]


@pytest.mark.parametrize(("name", "objective"), CASES)
def test_a_gpu_says_and_learns_what_a_cpu_does(name: str, objective: str) -> None:
    found: dict[str, tuple[Tensor, list[Tensor]]] = {}
    for place in ("cpu", "cuda"):
        model = tiny(name).to(place)
        asked = batch(objective).to(torch.device(place))
        answered = answer(model, asked, LAGS, with_context=True)
        total = get("mse+cosine+infonce")(answered).total
        wanted = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(total, wanted, materialize_grads=True)
        found[place] = (answered.prediction.cpu(), [g.cpu() for g in gradients])
    same(found["cuda"][0], found["cpu"][0])
    for on_gpu, on_cpu in zip(found["cuda"][1], found["cpu"][1], strict=True):
        same(on_gpu, on_cpu)
    assert any(gradient.abs().max() > 0 for gradient in found["cuda"][1])


@pytest.mark.parametrize("name", ["lcm one_tower", "lcm two_tower"])
def test_diffusion_draws_the_same_prediction_on_a_gpu(name: str) -> None:
    asked = batch("last")
    on_cpu = tiny(name)(asked.context, asked.mask)
    model = tiny(name).cuda()
    on_gpu = model(asked.context.cuda(), asked.mask.cuda())
    same(on_gpu.cpu(), on_cpu)
