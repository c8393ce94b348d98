"""Where a run runs: code version, packages, processor, device."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from lvmdb.errors import ModelError
from lvmdb.settings import thread_counts

_PACKAGES = ("lvmdb", "torch", "numpy", "psycopg", "pgvector", "mamba-ssm", "causal-conv1d")


@cache
def code_version() -> tuple[str, bool | None]:
    """The commit that runs and whether it has changes; outside a checkout the release and None."""
    folder = Path(__file__).resolve().parent
    try:
        inside = _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
        if inside:
            return _git(folder, "rev-parse", "HEAD"), bool(_git(folder, "status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):
        pass
    return _version("lvmdb") or "unknown", None


def describe(world_size: int = 1, device: torch.device | None = None) -> dict[str, Any]:
    """Versions, processor, GPU, threads and number of processes, as JSON can hold them.

    Args:
        world_size: processes that train together.
        device: where the run computes, if it is known. To name a GPU takes memory of it, and a
            forked process may not: what computes on a CPU leaves it alone.
    """
    on_gpu = torch.cuda.is_available() and (device is None or device.type == "cuda")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "world_size": world_size,
        "variables": thread_counts(),
        # PyTorch's own version names its build, too: 2.11.0+cu130.
        "packages": {name: found for name in _PACKAGES if (found := _version(name))}
        | {"torch": torch.__version__},
        **({"gpu": torch.cuda.get_device_name(device)} if on_gpu else {}),
    }


def resolve_device(name: str) -> torch.device:
    """The device of that name; `auto` is the best that is there.

    Raises:
        ModelError: it is not there.
    """
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("--device cuda: no CUDA device is there; use --device cpu, or auto")
    if name == "mps" and not mps:
        raise ModelError("--device mps: there is no Apple GPU here; use --device cpu, or auto")
    return torch.device(name)


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
