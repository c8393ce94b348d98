"""How a machine is shared out, on cores and GPUs."""

from __future__ import annotations

import os

import pytest

from lvmdb.errors import UsageError
from lvmdb.scheduling import slots as sharing
from lvmdb.scheduling.slots import Slot, gpu_names, slots, slots_here


@pytest.mark.parametrize(
    ("concurrency", "threads", "found"),
    [
        (None, None, [8]),
        (2, None, [4, 4]),
        (3, None, [2, 2, 2]),
        (10, None, [1] * 10),
        (2, 5, [5, 5]),
    ],
)
def test_cores_are_shared_out(
    concurrency: int | None, threads: int | None, found: list[int]
) -> None:
    made = slots("cpu", concurrency, threads, cores=8, gpus=[])
    assert made == [Slot("cpu", n) for n in found]


def test_a_gpu_takes_one_run() -> None:
    made = slots("cuda", None, None, cores=16, gpus=["0", "1"])
    assert made == [Slot("cuda", 8, "0"), Slot("cuda", 8, "1")]
    assert slots("cuda", 1, None, cores=16, gpus=["4", "5"]) == [Slot("cuda", 16, "4")]
    with pytest.raises(UsageError, match="--concurrency 3: a GPU takes one run; GPUs here: 2"):
        slots("cuda", 3, None, cores=16, gpus=["0", "1"])
    assert slots("mps", None, None, cores=8, gpus=[]) == [Slot("mps", 8)]
    with pytest.raises(UsageError, match="--concurrency 2"):
        slots("mps", 2, None, cores=8, gpus=[])


def test_gpus_that_are_hidden_stay_so() -> None:
    assert gpu_names(None, 3) == ["0", "1", "2"]
    assert gpu_names(["2", "GPU-8932f937"], 2) == ["2", "GPU-8932f937"]
    # A name that is not there hides those after it.
    assert gpu_names(["0", "9", "1"], 1) == ["0"]
    assert gpu_names([], 0) == []


def test_a_process_is_told_its_threads_and_its_gpu() -> None:
    told = Slot("cpu", 3).environment
    assert told == {
        "OMP_NUM_THREADS": "3",
        "MKL_NUM_THREADS": "3",
        "OPENBLAS_NUM_THREADS": "3",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    assert Slot("cuda", 3, "1").environment == {**told, "CUDA_VISIBLE_DEVICES": "1"}


def test_this_machines_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5, 7}, raising=False)
    assert slots_here("cpu", 2, None) == [Slot("cpu", 2)] * 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert slots_here("cpu", None, None) == [Slot("cpu", 1)]


def test_this_machines_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(sharing, "_cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6, 7")
    assert slots_here("auto", None, None) == [Slot("cuda", 4, "6"), Slot("cuda", 4, "7")]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [slot.gpu for slot in slots_here("cuda", None, None)] == ["0", "1"]
