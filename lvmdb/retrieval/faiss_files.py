"""FAISS indexes on disk: the file that FAISS reads, and beside it what its numbers mean.

`FILE` is FAISS's own format, for any program that reads it. `FILE.ids.npz` holds the `cpe_id` of
each position, the fingerprint of the corpus that the index was built from, and the SHA-256 of
`FILE`: an index over other vectors than the database has now, or beside other ids, is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np
from numpy.typing import NDArray

from lvmdb.db.types import DIMENSION
from lvmdb.errors import CorpusError, InputError
from lvmdb.retrieval.corpus import Corpus

_FORMAT = 1


@dataclass(frozen=True)
class Stored:
    """An index that was read.

    Attributes:
        index: FAISS's.
        ids: `(n, 16)` uint8, the bytes of the `cpe_id` at each position.
        dataset: whose vectors it holds.
        fingerprint: of the corpus.
        kind: `flat`, `ivfflat` or `hnsw`.
        parameters: that it was built with.
    """

    index: Any
    ids: NDArray[np.uint8]
    dataset: str
    fingerprint: bytes
    kind: str
    parameters: dict[str, Any]


def ids_path(path: Path) -> Path:
    """The file beside an index."""
    return path.with_name(f"{path.name}.ids.npz")


def write(
    path: Path, index: Any, corpus: Corpus, *, kind: str, parameters: Mapping[str, Any]
) -> int:
    """Write an index over all of a corpus, in its order; each file appears when it is whole.

    An interruption between the two leaves files that do not belong together, which `read` refuses.

    Returns:
        Bytes of the index's own file.

    Raises:
        CorpusError: the index holds another number of vectors than the corpus.
        InputError: a file cannot be written.
    """
    if index.ntotal != len(corpus):
        raise CorpusError(f"the index holds {index.ntotal} vectors, the corpus {len(corpus)}")
    _replace(path, lambda name, _: faiss.write_index(index, name))
    told = {
        "format": _FORMAT,
        "dataset": corpus.dataset,
        "fingerprint": corpus.fingerprint.hex(),
        "kind": kind,
        "parameters": dict(parameters),
        "sha256": _sha256(path),
    }
    _replace(
        ids_path(path),
        lambda _, file: np.savez(file, ids=corpus.ids, about=np.array(json.dumps(told))),
    )
    return path.stat().st_size


def read(path: Path, fingerprint: Callable[[str], bytes]) -> Stored:
    """Read an index whose corpus is still the same.

    Args:
        path: of the index.
        fingerprint: of a dataset as it is now, by name: `partial(corpus.fingerprint, db)`.

    Raises:
        InputError: a file is missing or damaged, or the two do not belong together.
        CorpusError: the dataset has other vectors now.
    """
    beside = ids_path(path)
    for needed in (path, beside):
        if not needed.is_file():
            raise InputError(
                f"{needed}: no such file; 'lvmdb index build --engine faiss' writes it"
            )
    try:
        with beside.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            ids, told = archive["ids"], json.loads(str(archive["about"]))
        version, digest, dataset = told["format"], told["sha256"], str(told["dataset"])
        made_from = bytes.fromhex(told["fingerprint"])
        kind, parameters = str(told["kind"]), dict(told["parameters"])
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{beside}: truncated, or not the ids of an index ({error})") from None
    if version != _FORMAT:
        raise InputError(f"{beside}: written by another release of lvmdb: build the index again")
    if digest != _sha256(path):
        raise InputError(f"{path}: not the index that {beside.name} belongs to: build it again")
    if fingerprint(dataset) != made_from:
        raise CorpusError(
            f"{path}: stale: dataset '{dataset}' has other vectors than when it was built: run "
            f"'lvmdb index build --engine faiss --dataset {dataset} --output {path}'"
        )
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        raise InputError(f"{path}: FAISS cannot read it: {reason}") from None
    if index.ntotal != len(ids) or index.d != DIMENSION:
        raise InputError(f"{path}: {index.ntotal} vectors of {index.d}, but {len(ids)} ids")
    return Stored(index, ids, dataset, made_from, kind, parameters)


def _replace(path: Path, write_to: Callable[[str, BinaryIO], object]) -> None:
    """Write beside a file, then rename. `write_to` gets the draft's name, and the draft open."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    draft = Path(name)
    try:
        with os.fdopen(handle, "r+b") as file:
            write_to(name, file)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp's files are closed to others; an index is an ordinary file.
        umask = os.umask(0)
        os.umask(umask)
        draft.chmod(0o666 & ~umask)
        draft.replace(path)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[-1]
        raise InputError(f"cannot write {path}: {reason}") from None
    finally:
        draft.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
