"""How a worker shares its machine out: on CPUs cores, on GPUs one run a device."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from lvmdb.errors import UsageError
from lvmdb.settings import visible_gpus

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables by which libraries are told how many threads to use."""


@dataclass(frozen=True)
class Slot:
    """Where one run at a time runs.

    Attributes:
        device: what it is told by `--device`.
        threads: of its process.
        gpu: the one GPU that it sees, as `CUDA_VISIBLE_DEVICES` names it; None: not on a GPU.
    """

    device: str
    threads: int
    gpu: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What its process is told by variables."""
        # Threads that wait must not spin while another run needs the cores.
        told = {name: str(self.threads) for name in THREADS} | {"OMP_WAIT_POLICY": "PASSIVE"}
        return told if self.gpu is None else told | {"CUDA_VISIBLE_DEVICES": self.gpu}


def slots(
    device: str,
    concurrency: int | None,
    threads: int | None,
    *,
    cores: int,
    gpus: Sequence[str],
) -> list[Slot]:
    """The places of a worker.

    Args:
        device: `cpu`, `cuda` or `mps`.
        concurrency: how many; by default one on a CPU, and as many as there are GPUs.
        threads: of each; by default the cores are shared out.
        cores: that this process may use.
        gpus: as `CUDA_VISIBLE_DEVICES` names them.

    Raises:
        UsageError: more than one run would be on a GPU.
    """
    if device == "cuda":
        count = concurrency or len(gpus)
        if count > len(gpus):
            raise UsageError(f"--concurrency {count}: a GPU takes one run; GPUs here: {len(gpus)}")
        names: list[str | None] = list(gpus[:count])
    else:
        count = concurrency or 1
        if device == "mps" and count > 1:
            raise UsageError(f"--concurrency {count}: a GPU takes one run, and there is one")
        names = [None] * count
    each = threads or max(1, cores // count)
    return [Slot(device, each, name) for name in names]


def slots_here(device: str, concurrency: int | None, threads: int | None) -> list[Slot]:
    """The places of a worker on this machine; `auto` takes the best device that is there.

    Raises:
        ModelError: the device is not there.
        UsageError: more than one run would be on a GPU.
    """
    gpus: list[str] = []
    if device != "cpu":
        # Only a GPU is worth the seconds that PyTorch takes to load.
        import torch

        from lvmdb.training.environment import resolve_device

        device = resolve_device(device).type
        gpus = gpu_names(visible_gpus(), torch.cuda.device_count())
    return slots(device, concurrency, threads, cores=_cores(), gpus=gpus)


def gpu_names(visible: Sequence[str] | None, count: int) -> list[str]:
    """What `CUDA_VISIBLE_DEVICES` calls the GPUs, of which PyTorch finds `count`.

    Args:
        visible: what it holds for this process; None: it is not set.
        count: a name that is not there hides those after it.
    """
    return [str(n) for n in range(count)] if visible is None else list(visible[:count])


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
