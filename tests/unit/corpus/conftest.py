"""What the tests of the corpus share: the tiny encoder, built once a session."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

Build = Callable[..., Path]


@pytest.fixture(scope="session")
def build_encoder() -> Build:
    """`build(folder, seed=0)` of `tests/tiny_encoder.py`."""
    file = Path(__file__).parents[2] / "tiny_encoder.py"
    spec = importlib.util.spec_from_file_location("tiny_encoder", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    build: Build = module.build
    return build


@pytest.fixture(scope="session")
def encoder_folder(build_encoder: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny encoder."""
    return build_encoder(tmp_path_factory.mktemp("encoder") / "tiny")
