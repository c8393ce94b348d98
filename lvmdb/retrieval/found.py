"""What a search takes and gives: directions in, concepts with their cosines out."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvmdb.corpus.tmd import SIZES, PartialCode
from lvmdb.db.types import DIMENSION
from lvmdb.errors import CorpusError, UsageError

MOST = 999
"""The largest k: pgvector's ef_search ends at 1000, and a concept's own row is one of them."""


@dataclass(frozen=True)
class Found:
    """The nearest concepts of a vector, best first.

    Attributes:
        cpe_ids: of the concepts.
        cosines: of the full vectors, whatever the index stores.
        exact: whether every concept was compared.
        why: where that was not asked for, what led to it.
    """

    cpe_ids: tuple[uuid.UUID, ...]
    cosines: tuple[float, ...]
    exact: bool
    why: str | None = None


@dataclass(frozen=True)
class Hit:
    """A concept that was found; `cosine` is of the full vectors, whatever the index stores."""

    cpe_id: uuid.UUID
    title: str
    article_id: int
    seq: int
    concept_text: str
    cosine: float


def check_k(k: int) -> None:
    """Refuse a number of concepts that no index can give.

    Raises:
        UsageError: it is not from 1 to 999.
    """
    if not 1 <= k <= MOST:
        raise UsageError(f"-k is from 1 to {MOST}, not {k}")


def parse_tmd(pattern: str) -> PartialCode:
    """A pattern of TMD codes as numbers: `7.*.*` is (7, None, None).

    Raises:
        UsageError: it is no such pattern.
    """
    parts = pattern.split(".")
    good = len(parts) == 3 and all(
        part == "*" or (part.isascii() and part.isdecimal() and int(part) < most)
        for part, most in zip(parts, SIZES, strict=True)
    )
    if not good:
        raise UsageError(
            f"--tmd is domain.task.modifier with * for any, as in '7.*.*', not '{pattern}'; "
            f"domains are below {SIZES[0]}, tasks below {SIZES[1]}, modifiers below {SIZES[2]}"
        )
    domain, task, modifier = (None if part == "*" else int(part) for part in parts)
    return domain, task, modifier


def direction(vector: NDArray[np.floating[Any]] | Sequence[float]) -> NDArray[np.float32]:
    """A vector `(768,)` at unit length: as `directions`, for one, where microseconds count.

    Raises:
        CorpusError: it is of another shape, or zero or not finite.
    """
    numbers = np.asarray(vector, dtype=np.float32)
    if numbers.shape != (DIMENSION,):
        raise _shape(numbers)
    square = float(numbers @ numbers)
    if not 0 < square < math.inf:
        # Numbers may be too small or too large to be squared, and have a direction.
        return np.asarray(directions(numbers[None].astype(np.float64))[0])
    return numbers * np.float32(1 / math.sqrt(square))


def directions(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Vectors `(n, 768)` at unit length.

    Raises:
        CorpusError: they are of another shape, or one is zero or not finite.
    """
    if vectors.ndim != 2 or vectors.shape[1] != DIMENSION:
        raise _shape(vectors)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise CorpusError("a vector to search for has no direction: it is zero or not finite")
    return np.asarray(vectors / norms, dtype=np.float32)


def _shape(vectors: NDArray[np.floating[Any]]) -> CorpusError:
    return CorpusError(f"vectors to search for have {DIMENSION} numbers each, not {vectors.shape}")


def found_of(rows: list[tuple[uuid.UUID, float]], *, exact: bool, why: str | None = None) -> Found:
    """What a statement gave, ids and cosines in any order."""
    # Beside the k-th there may be others as near; among those found, equals stand by id.
    rows.sort(key=lambda row: (-row[1], row[0]))
    return Found(tuple(row[0] for row in rows), tuple(row[1] for row in rows), exact, why)
