"""Where a run runs."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator

import pytest
import torch

from lvmdb.errors import ModelError
from lvmdb.training import environment


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    environment.code_version.cache_clear()
    yield
    environment.code_version.cache_clear()


@pytest.mark.parametrize(("status", "dirty"), [("", False), (" M lvmdb/errors.py", True)])
def test_in_a_checkout_the_version_is_the_commit(
    monkeypatch: pytest.MonkeyPatch, status: str, dirty: bool
) -> None:
    said = {"ls-files": "environment.py", "rev-parse": "4f2c", "status": status}
    monkeypatch.setattr(environment, "_git", lambda folder, command, *rest: said[command])
    assert environment.code_version() == ("4f2c", dirty)


@pytest.mark.parametrize("error", [OSError("no git"), subprocess.CalledProcessError(128, "git")])
def test_elsewhere_it_is_the_release(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fails(*_: object) -> str:
        raise error

    monkeypatch.setattr(environment, "_git", fails)
    assert environment.code_version() == (environment._version("lvmdb"), None)


def test_the_description_is_json_and_names_what_changes_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = json.loads(json.dumps(environment.describe()))
    assert found["python"] == platform.python_version()
    assert found["packages"]["torch"] == torch.__version__
    assert found["variables"]["OMP_NUM_THREADS"] == "3"
    assert found["torch_threads"] == torch.get_num_threads()
    assert found["processor"]


def test_a_gpu_is_named_where_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """To name it takes memory of it, and a process that was forked may not ask."""
    asked: list[object] = []

    def name(device: object = None) -> str:
        asked.append(device)
        return "a card"

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", name)
    assert "gpu" not in environment.describe(device=torch.device("cpu"))
    assert asked == []
    second = torch.device("cuda", 1)
    assert environment.describe(device=second)["gpu"] == "a card"
    assert environment.describe()["gpu"] == "a card"
    assert asked == [second, None]


def test_a_device_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert environment.resolve_device("auto") == environment.resolve_device("cpu")
    with pytest.raises(ModelError, match="--device cuda: no CUDA device is there"):
        environment.resolve_device("cuda")
    with pytest.raises(ModelError, match="--device mps: there is no Apple GPU"):
        environment.resolve_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert environment.resolve_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert environment.resolve_device("auto").type == "cuda"
    assert environment.resolve_device("cpu").type == "cpu"
