"""Mamba-2 on the real `mamba_ssm` kernels against plain torch, where mamba_ssm is installed.

Without a GPU the Triton kernels run in Triton's interpreter, which has to be chosen before Triton
is first imported: hence a process of its own, this file run as a program. On a GPU they run as they
are, alone and, where causal_conv1d is installed as well, fused with the convolution.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import types
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from lvmdb.models import mamba2
from lvmdb.models.mamba2_kernels import resolve_kernel

TIME = 19  # more than one chunk, and no multiple of it


@pytest.mark.skipif(
    importlib.util.find_spec("mamba_ssm") is None or importlib.util.find_spec("triton") is None,
    reason="mamba_ssm is not installed",
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU the kernels run as they are")
def test_the_kernels_agree_with_torch() -> None:
    done = subprocess.run(
        [sys.executable, __file__],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
    )
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout.splitlines()[-1])
    assert errors.pop("output") < 1e-5
    assert set(errors) >= {"u", "in_proj.weight", "conv1d.weight", "dt_bias", "A_log", "D"}
    assert max(errors.values()) < 1e-3, errors


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS, but there was no current CUDA")
@pytest.mark.timeout(600)  # the kernels are compiled for each of many configurations first
@pytest.mark.parametrize("masked", [False, True])
def test_the_kernels_agree_with_torch_on_a_gpu(masked: bool) -> None:
    """The kernels multiply in TF32, with 10 bits of mantissa: torch in float64 is the reference."""
    if resolve_kernel("auto", "cuda") != "mamba_ssm":
        pytest.skip("mamba_ssm is not installed with its CUDA extension")
    torch.manual_seed(0)
    exact = mamba2.Mamba2Mixer(64, d_state=32, headdim=32, kernel="torch").cuda().double()
    fast = mamba2.Mamba2Mixer(64, d_state=32, headdim=32, kernel="mamba_ssm").cuda()
    fast.load_state_dict({name: value.float() for name, value in exact.state_dict().items()})
    u, upstream = torch.randn(2, 6, 150, 64, device="cuda")
    mask = None
    if masked:
        mask = torch.ones(6, 150, dtype=torch.bool, device="cuda")
        mask[:3, :70] = False
        upstream = upstream * mask.unsqueeze(-1)
    results = []
    for mixer, given in ((exact, u.double()), (fast, u.clone())):
        given.requires_grad_()
        output = mixer(given, mask)
        if mask is not None:
            output = output * mask.unsqueeze(-1)
        parameters = dict(mixer.named_parameters())
        gradients = torch.autograd.grad(
            output, [given, *parameters.values()], upstream.to(given.dtype)
        )
        results.append({"output": output, **dict(zip(["u", *parameters], gradients, strict=True))})
    expected, found = results
    for name, value in expected.items():
        error = ((found[name] - value).norm() / value.norm()).item()
        assert error < 3e-3, (name, error)


def interpret() -> None:
    """Let mamba_ssm's Triton kernels be imported and run without CUDA."""
    found = importlib.util.find_spec("mamba_ssm")
    assert found is not None
    assert found.origin is not None
    # Its __init__ imports a compiled CUDA extension; an empty package in its place does not.
    package = types.ModuleType("mamba_ssm")
    package.__path__ = [str(Path(found.origin).parent)]
    sys.modules["mamba_ssm"] = package

    runtime: Any = importlib.import_module("triton.runtime.autotuner")
    device: Any = torch.cuda
    device.device = lambda index: nullcontext()
    device.get_device_properties = lambda index: types.SimpleNamespace(multi_processor_count=4)

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Take one configuration instead of timing all of them."""
        config = self.best_config = self.configs[0]
        self.nargs = dict(zip(self.arg_names, args, strict=False))
        if config.pre_hook is not None:
            config.pre_hook({**self.nargs, **kwargs, **config.all_kwargs()})
        self.pre_hook({**self.nargs, **kwargs})
        return self.fn.run(*args, **kwargs, **config.all_kwargs())

    runtime.Autotuner.run = run


def compare() -> dict[str, float]:
    """The largest differences of output and gradients, relative to the largest number."""
    from lvmdb.models import mamba2

    torch.manual_seed(0)
    mixer = mamba2.Mamba2Mixer(32, d_state=16, headdim=16, chunk_size=16, kernel="torch")
    u, upstream = torch.randn(2, 1, TIME, 32)
    results = []
    resolve: Any = mamba2
    for kernel in ("torch", "mamba_ssm"):
        resolve.resolve_kernel = lambda requested, device, kernel=kernel: kernel
        given = u.clone().requires_grad_()
        output = mixer(given)
        parameters = dict(mixer.named_parameters())
        gradients = torch.autograd.grad(output, [given, *parameters.values()], upstream)
        results.append({"output": output, **dict(zip(["u", *parameters], gradients, strict=True))})
    expected, found = results
    return {
        name: ((found[name] - value).abs().max() / value.abs().max()).item()
        for name, value in expected.items()
    }


if __name__ == "__main__":
    interpret()
    sys.stdout.write(json.dumps(compare()) + "\n")
