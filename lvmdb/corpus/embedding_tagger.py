"""The default tagger: a concept has the labels whose definitions are nearest to its vector.

Definitions are encoded once, by the encoder of the concepts. Of each kind of label the nearest by
cosine is taken if it is nearer than the second by a margin; otherwise that part is not known. One
product of matrices decides thousands of concepts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.tagging import UNSURE, Tag
from lvmdb.corpus.tmd import KINDS, VOCABULARY, vocabulary
from lvmdb.errors import CorpusError, UsageError

DEFAULT_MARGIN = 0.01
"""Of the cosines of the nearest and the second label: see docs/ingest.md for what it is worth."""

Encode = Callable[[Sequence[str]], Vectors]

_ROWS = 8192  # at a time: their cosines take 4 MB


class EmbeddingTagger:
    """Compares the vectors of concepts with those of the labels' definitions.

    Args:
        encode: the concepts' own encoder; called once, when the first concept is tagged.
        margin: by how much the nearest label must be nearer than the second.

    Raises:
        UsageError: the margin is not from 0 to 2.
    """

    name = "embedding"

    def __init__(self, encode: Encode, margin: float = DEFAULT_MARGIN) -> None:
        if not 0 <= margin <= 2:
            raise UsageError(f"--margin is a difference of cosines, from 0 to 2, not {margin:g}")
        self.margin = margin
        self._encode = encode
        self._labels: list[NDArray[np.float32]] | None = None

    @property
    def options(self) -> Mapping[str, Any]:
        """The margin and the vocabulary; the encoder is the dataset's."""
        return {"margin": self.margin, "vocabulary": VOCABULARY}

    def tag(self, texts: Sequence[str], vectors: Vectors | None) -> list[Tag]:
        """A tag for each text, from its vector.

        Raises:
            CorpusError: there are no vectors.
        """
        if vectors is None:
            raise CorpusError(
                "the embedding tagger compares vectors, and these concepts have none: ingest them "
                "with an encoder, or use --tagger llm"
            )
        parts = self.decide(vectors)
        return [
            UNSURE if code == (None, None, None) else Tag(code)
            for code in zip(*(_optional(part) for part in parts), strict=True)
        ]

    def decide(self, vectors: Vectors) -> list[NDArray[np.int64]]:
        """The numbers of domain, task and modifier, `(rows,)` each; -1 where one is not known."""
        labels = self._definitions()
        decided = [np.empty(len(vectors), dtype=np.int64) for _ in KINDS]
        for start in range(0, len(vectors), _ROWS):
            rows = slice(start, start + _ROWS)
            for kind, of_kind in enumerate(labels):
                decided[kind][rows] = self._nearest(vectors[rows] @ of_kind.T)
        return decided

    def _nearest(self, cosines: NDArray[np.float32]) -> NDArray[np.int64]:
        """Of each row the column of the largest cosine, or -1; cosines `(rows, labels)`."""
        nearest = cosines.argmax(axis=1)
        first_two = np.partition(cosines, -2, axis=1)[:, -2:]
        # Of two that are equally near none is the nearest, whatever the margin.
        apart = first_two[:, 1] - first_two[:, 0]
        return np.where((apart >= self.margin) & (apart > 0), nearest, -1)

    def _definitions(self) -> list[NDArray[np.float32]]:
        """Vectors `(labels, 768)` of the definitions, by kind."""
        if self._labels is None:
            kinds = [vocabulary()[kind] for kind in KINDS]
            encoded = self._encode([label.definition for labels in kinds for label in labels])
            ends = np.cumsum([len(labels) for labels in kinds])[:-1]
            self._labels = np.split(encoded, ends)
        return self._labels


def _optional(numbers: NDArray[np.int64]) -> list[int | None]:
    return [None if number < 0 else number for number in numbers.tolist()]
