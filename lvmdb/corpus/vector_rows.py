"""Rows of vectors from NPZ, NPY and Parquet files, read once from top to bottom."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvmdb.db.types import DIMENSION
from lvmdb.errors import InputError, MissingDependencyError

SUFFIXES = (".npz", ".npy", ".parquet")
_COLUMNS = ("vector", "embedding", "concept_vec")
_BLOCK = 4096


class VectorRows:
    """The rows of one file.

    Attributes:
        path: the file.
        count: how many rows it has.
    """

    def __init__(
        self,
        path: Path,
        count: int,
        blocks: Iterator[NDArray[Any]],
        indices: dict[str, NDArray[Any]] | None = None,
    ) -> None:
        self.path = path
        self.count = count
        self._blocks = blocks
        self._rest: NDArray[Any] = np.empty((0, DIMENSION), dtype=np.float32)
        self._indices = indices or {}

    def take(self, n: int) -> NDArray[Any]:
        """The next `n` rows, `(n, 768)`, in the file's float type.

        Raises:
            InputError: the file ends, or a row does not have 768 numbers.
        """
        parts = [self._rest[:n]]
        self._rest = self._rest[n:]
        missing = n - len(parts[0])
        while missing:
            block = next(self._blocks, None)
            if block is None:
                raise InputError(f"{self.path}: the file ends early: copy it again")
            parts.append(block[:missing])
            self._rest = block[missing:]
            missing -= len(parts[-1])
        return np.concatenate([p for p in parts if len(p)])

    def check_indices(self, where: str, row: int, article_index: int, chunk_index: int) -> None:
        """Compares a text's indices with those in the file of the vectors, if it has them.

        Raises:
            InputError: they differ.
        """
        for name, stored in self._indices.items():
            told = article_index if name == "article_index" else chunk_index
            if stored.item(row) != told:
                raise InputError(
                    f"{where}: {name} is {told}, but {stored.item(row)} in"
                    f" {self.path}, row {row + 1}"
                )


@contextmanager
def open_vectors(path: Path) -> Iterator[VectorRows]:
    """Opens a file of vectors.

    Raises:
        InputError: it is missing, truncated, of an unknown kind, or holds no vectors of 768 floats.
        MissingDependencyError: it is a Parquet file, and pyarrow is not installed.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: unknown kind of file; known: {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix == ".parquet":
        with _open_parquet(path) as rows:
            yield rows
        return
    yield _open_npz(path) if path.suffix == ".npz" else _open_npy(path)


def _open_npy(path: Path) -> VectorRows:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(path, error) from None
    return _array_rows(path, array)


def _open_npz(path: Path) -> VectorRows:
    try:
        # opened here, because numpy leaves a file open that turns out to be none of its own
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = archive.files
            small = {n: archive[n] for n in ("article_index", "chunk_index") if n in names}
            if "vectors" in names:
                array = archive["vectors"]
            else:
                arrays = [a for a in (archive[n] for n in names if n not in small) if a.ndim == 2]
                if len(arrays) != 1:
                    raise InputError(
                        f"{path}: no array called 'vectors', and {len(arrays)} arrays of two"
                        f" dimensions; it holds: {', '.join(names) or 'nothing'}"
                    )
                array = arrays[0]
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from None
    for name, values in small.items():
        if values.shape != array.shape[:1] or values.dtype.kind not in "iu":
            raise InputError(
                f"{path}: '{name}' is not one whole number for each vector, but"
                f" {values.dtype} {values.shape}"
            )
    return _array_rows(path, array, small)


def _array_rows(
    path: Path, array: NDArray[Any], indices: dict[str, NDArray[Any]] | None = None
) -> VectorRows:
    if array.ndim != 2 or array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise InputError(
            f"{path}: not a table of float16, float32 or float64 but {array.dtype} {array.shape}"
        )
    if array.shape[1] != DIMENSION:
        raise InputError(f"{path}: vectors of {array.shape[1]} numbers, not {DIMENSION}")
    starts = range(0, len(array), _BLOCK)
    return VectorRows(path, len(array), (array[s : s + _BLOCK] for s in starts), indices)


@contextmanager
def _open_parquet(path: Path) -> Iterator[VectorRows]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingDependencyError("pyarrow", "parquet", "reading Parquet files") from None
    try:
        file = parquet.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None
    with file:
        column = _vector_column(path, file.schema_arrow, pa.types)

        def blocks() -> Iterator[NDArray[Any]]:
            row = 0
            try:
                for batch in file.iter_batches(batch_size=_BLOCK, columns=[column]):
                    values = batch.column(0)
                    yield _parquet_block(path, row, values, pa)
                    row += len(values)
            except (OSError, pa.ArrowException) as error:
                raise _unreadable(path, error) from None

        yield VectorRows(path, file.metadata.num_rows, blocks())


def _vector_column(path: Path, schema: Any, types: Any) -> str:
    def holds_floats(kind: Any) -> bool:
        is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return bool(is_list and types.is_floating(kind.value_type))

    found = [f.name for f in schema if holds_floats(f.type)]
    named = [name for name in _COLUMNS if name in found]
    if len(named) == 1 or (not named and len(found) == 1):
        return str((named or found)[0])
    raise InputError(
        f"{path}: {len(named) or len(found)} columns could hold the vectors; it takes one list of"
        f" floats called {', '.join(_COLUMNS[:-1])} or {_COLUMNS[-1]}, or only one in all; it"
        f" holds: {', '.join(schema.names)}"
    )


def _parquet_block(path: Path, first_row: int, values: Any, pa: Any) -> NDArray[Any]:
    """A column's values as `(n, 768)`, of which each row's length was checked."""
    if pa.types.is_fixed_size_list(values.type):
        lengths = np.full(len(values), values.type.list_size)
        lengths[np.asarray(values.is_null())] = 0
    else:
        lengths = np.asarray(values.value_lengths().fill_null(0))
    wrong = lengths != DIMENSION
    if wrong.any():
        k = int(wrong.argmax())
        raise InputError(
            f"{path}: row {first_row + k + 1}: a vector of {lengths[k]} numbers, not {DIMENSION}"
        )
    flat = values.flatten().to_numpy(zero_copy_only=False)  # a number that is null becomes NaN
    return np.asarray(flat).reshape(len(values), DIMENSION)


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InputError(f"{path}: truncated, or not a {path.suffix[1:]} file: {reason}")
