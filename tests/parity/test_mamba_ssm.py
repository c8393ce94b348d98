"""Mamba-2 on the real `mamba_ssm` kernels against plain torch, where mamba_ssm is installed.

Without a GPU the Triton kernels run in Triton's interpreter, which has to be chosen before Triton
is first imported: hence a process of its own, this file run as a program.
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

TIME = 19  # more than one chunk, and no multiple of it


@pytest.mark.skipif(
    importlib.util.find_spec("mamba_ssm") is None or importlib.util.find_spec("triton") is None,
    reason="mamba_ssm is not installed",
)
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
