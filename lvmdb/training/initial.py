"""Starting from published weights: a folder in Hugging Face's layout, `--set init=FOLDER`.

The folder holds `config.json` and the weights: `model.safetensors`, or the files that its index
names, or `pytorch_model.bin`, of which nothing but tensors is loaded. Their SHA-256 is kept when a
run is planned, and must be the same when it begins.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lvmdb.errors import InputError, ModelError
from lvmdb.models.architecture import Architecture
from lvmdb.models.base import LatentModel
from lvmdb.models.config import ModelConfig
from lvmdb.models.published import Published, Reader, core, fresh

WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def weights_sha256(architecture: Architecture, config: ModelConfig, folder: str) -> str:
    """The hash of a folder's weights, in hexadecimal digits, if a model can start from them.

    Of several files it is the hash of their hashes, in the order of their names.

    Raises:
        InputError: the folder or a file of it is missing or damaged.
        ModelError: its blocks are not those of the architecture with these options.
    """
    files = _files(Path(folder))
    with torch.device("meta"):
        model = cast("LatentModel", architecture.build(config))
    _checked(architecture, config, Path(folder), files, model)
    return _sha256(files)


def start(
    architecture: Architecture,
    config: ModelConfig,
    folder: str,
    sha256: str | None,
    model: LatentModel,
) -> None:
    """Give a fresh model the blocks of a folder.

    Args:
        architecture, config: of the model.
        folder: as when the run was planned.
        sha256: of its weights, then.
        model: changed in place.

    Raises:
        InputError: the folder or a file of it is missing or damaged.
        ModelError: its weights are others now.
    """
    files = _files(Path(folder))
    if (now := _sha256(files)) != sha256:
        raise ModelError(
            f"init: the weights in {folder} are not those that the run was planned with (SHA-256 "
            f"{now[:16]}, then {(sha256 or 'none')[:16]}): plan a new run"
        )
    found = _checked(architecture, config, Path(folder), files, model)
    core(model).load_state_dict(dict(found.weights), strict=False)


def _checked(
    architecture: Architecture,
    config: ModelConfig,
    folder: Path,
    files: list[Path],
    model: LatentModel,
) -> Published:
    """The folder's blocks, if they are those of the model, shape by shape."""
    if architecture.published is None:
        raise ModelError(
            f"init: {architecture.name} starts from no published weights: leave it out"
        )
    module, _, attribute = architecture.published.partition(":")
    read = cast("Reader", getattr(import_module(module), attribute))
    settings = _settings(folder / "config.json")
    weights: dict[str, Tensor] = {}
    for file in files:
        weights |= _tensors(file)
    try:
        found = read(settings, weights)
    except ModelError as error:
        raise ModelError(f"init: {folder} {error}") from error
    others = {
        name: value for name, value in found.options.items() if getattr(config, name) != value
    }
    if others:
        told = ", ".join(f"{name} {value}" for name, value in others.items())
        given = " ".join(f"--set {name}={value}" for name, value in others.items())
        raise ModelError(f"init: the blocks in {folder} have {told}: give {given}")
    expected = {n: v.shape for n, v in core(model).state_dict().items() if not fresh(n)}
    for name in sorted(expected.keys() | found.weights.keys()):
        there, here = found.weights.get(name), expected.get(name)
        if there is None or here is None or there.shape != here:
            shape = "nothing" if there is None else tuple(there.shape)
            wanted = "nothing" if here is None else tuple(here)
            raise ModelError(f"init: {folder} has {shape} for '{name}', which is {wanted} here")
    return found


def _files(folder: Path) -> list[Path]:
    """The files that hold the weights, in the order of their names."""
    if not folder.is_dir():
        raise InputError(f"init: {folder} is not a folder")
    if not (folder / "config.json").is_file():
        raise InputError(f"init: {folder} has no config.json")
    for name in WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            listed = _settings(index).get("weight_map")
            parts = set(listed.values()) if isinstance(listed, dict) else set()
            if not parts or any(not isinstance(p, str) or Path(p).name != p for p in parts):
                raise InputError(f"init: {index} names no files beside it")
            for part in sorted(parts):
                if not (folder / part).is_file():
                    raise InputError(f"init: {folder} has no {part}, which {index.name} names")
            return [folder / part for part in sorted(parts)]
    raise InputError(f"init: {folder} has neither {' nor '.join(WEIGHTS)}")


def _settings(path: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"init: {path} cannot be read as JSON: {_line(error)}") from error
    if not isinstance(settings, dict):
        raise InputError(f"init: {path} holds no JSON object")
    return settings


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise InputError(f"init: {path} is truncated or damaged: {_line(error)}") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise InputError(f"init: {path} cannot be loaded as tensors: {_line(error)}") from error
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise InputError(f"init: {path} holds other things than tensors by name")
    return loaded


def _sha256(files: list[Path]) -> str:
    hashes = []
    for file in files:
        with file.open("rb") as stream:
            hashes.append(hashlib.file_digest(stream, "sha256"))
    if len(hashes) == 1:
        return hashes[0].hexdigest()
    return hashlib.sha256(b"".join(found.digest() for found in hashes)).hexdigest()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
