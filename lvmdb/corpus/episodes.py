"""Episodes: runs of neighbouring concepts of one article that belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.runs import runs
from lvmdb.errors import UsageError
from lvmdb.metrics.vectors import row_products


@dataclass(frozen=True)
class EpisodeOptions:
    """How an article's concepts are grouped.

    Attributes:
        min_chunks, max_chunks: concepts that an episode has.
        coherence: cosine of two adjacent concepts from which on their paragraphs belong together.

    Raises:
        UsageError: a number is out of range, or they contradict each other.
    """

    min_chunks: int = 3
    max_chunks: int = 20
    coherence: float = 0.6

    def __post_init__(self) -> None:
        if self.min_chunks < 1:
            raise UsageError(f"--episode-min must be at least 1, not {self.min_chunks}")
        if self.max_chunks < 2 * self.min_chunks - 1:
            raise UsageError(
                f"--episode-max must be at least {2 * self.min_chunks - 1} (twice --episode-min"
                f" less 1, so that what is too long can be cut), not {self.max_chunks}"
            )
        if not -1 <= self.coherence <= 1:
            raise UsageError(
                f"--episode-coherence is a cosine, between -1 and 1, not {self.coherence}"
            )

    @property
    def options(self) -> dict[str, Any]:
        """All of its numbers, as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Episode:
    """A run of concepts.

    Attributes:
        first_seq, last_seq: its first and last concept, counted from 0; both belong to it.
        coherence: the mean cosine of its adjacent concepts; None of a single one, which has none.
    """

    first_seq: int
    last_seq: int
    coherence: float | None


def episodes(vectors: Vectors, paragraphs: Sequence[int], options: EpisodeOptions) -> list[Episode]:
    """The episodes of an article: every concept is in exactly one, in order, without gaps.

    1. Two neighbouring paragraphs are parted where the cosine of the last concept of one and the
       first of the next is below `coherence`; a paragraph's own concepts stay together.
    2. A run of more than `max_chunks` is cut in two at its weakest place, and so on: that between
       two adjacent concepts of the smallest cosine which leaves `min_chunks` on both sides;
       between paragraphs if there is such a place, else within one.
    3. From the article's beginning to its end, a run of fewer than `min_chunks` joins the
       neighbour that it is nearer to (by the cosine across the border; of equals, the one before),
       however far that is. If both together are more than `max_chunks` they are cut as in 2.

    So an episode has `min_chunks` to `max_chunks` concepts; only an article of fewer than
    `min_chunks` is one episode as it is, and one without concepts has none.

    Args:
        vectors: `(n, 768)` of the concepts, in order, of unit norm.
        paragraphs: `(n,)` the number of each concept's paragraph; never decreasing.
        options: the limits.

    Raises:
        ValueError: vectors and paragraphs do not belong together, or a vector has NaN.
    """
    numbers = np.asarray(paragraphs, dtype=np.int64)
    steps = np.diff(numbers)
    if len(numbers) != len(vectors) or (steps < 0).any():
        raise ValueError(
            f"{len(vectors)} vectors need as many paragraphs, never decreasing: {numbers}"
        )
    closeness = np.clip(row_products(vectors[:-1], vectors[1:]), -1, 1)  # (n - 1,)
    if np.isnan(closeness).any():
        raise ValueError("a vector is not a number, or too long to be of unit norm")
    borders = steps > 0
    found = runs(
        np.ones(len(numbers), dtype=np.int64),
        closeness,
        borders & (closeness < options.coherence),
        low=options.min_chunks,
        high=options.max_chunks,
        preferred=borders,
    )
    return [Episode(a, b - 1, _mean(closeness[a : b - 1])) for a, b in found]


def _mean(cosines: np.ndarray) -> float | None:
    return float(cosines.mean()) if len(cosines) else None
