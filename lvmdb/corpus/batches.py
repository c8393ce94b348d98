"""Batches of texts of similar length, which saves padding; what all encoders do with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.encoder import PROBE_SENTENCES, EncoderSpec, check_usable, unit
from lvmdb.db.types import DIMENSION


def by_length(tokens: Sequence[int], budget: int, most: int) -> list[list[int]]:
    """Texts in batches, the longest first, so that what does not fit into memory fails at once.

    Args:
        tokens: of each text.
        budget: padded to its longest text, a batch has at most so many tokens; a text that is
            longer is a batch by itself.
        most: texts in a batch.

    Returns:
        The places of the texts in `tokens`; each once.
    """
    order = sorted(range(len(tokens)), key=lambda i: -tokens[i])
    batches: list[list[int]] = []
    for i in order:
        batch = batches[-1] if batches else []
        if batch and len(batch) < most and (len(batch) + 1) * tokens[batch[0]] <= budget:
            batch.append(i)
        else:
            batches.append([i])
    return batches


class BatchedEncoder(ABC):
    """An encoder that works in batches; see `encoder.Encoder` for what it promises.

    Attributes:
        budget: tokens of a batch.
        most: texts of a batch.
    """

    budget: int
    most: int

    def __init__(self, spec: EncoderSpec) -> None:
        self.spec = spec

    @property
    def name(self) -> str:
        """What it is called."""
        return self.spec.name

    def encode(
        self, texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> Vectors:
        """The vectors of `texts`: `(len(texts), 768)` float32 of unit norm, in their order.

        A text's vector does not depend, beyond rounding, on what else is in its batch.
        """
        return unit(self.raw(texts, progress))

    def probe_vectors(self) -> Vectors:
        """The fingerprint, `(len(PROBE_SENTENCES), 768)`, of the length that the model gives."""
        return self.raw(PROBE_SENTENCES)

    def raw(self, texts: Sequence[str], progress: Callable[[int], object] | None = None) -> Vectors:
        """As `encode`, of the length that the model gives."""
        vectors = np.empty((len(texts), DIMENSION), dtype=np.float32)
        batches = by_length(self._count_tokens(texts), self.budget, self.most) if texts else []
        found = self._encode_all([[texts[i] for i in batch] for batch in batches])
        for batch, rows in zip(batches, found, strict=True):
            vectors[batch] = rows
            if progress is not None:
                progress(len(batch))
        check_usable(vectors, texts, self.name)
        return vectors

    def _encode_all(self, batches: Sequence[Sequence[str]]) -> Iterator[Vectors]:
        """The vectors of each batch, in order."""
        for batch in batches:
            yield self._encode_batch(batch)

    @abstractmethod
    def _count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How long each text is, cut as the model cuts it."""

    @abstractmethod
    def _encode_batch(self, texts: Sequence[str]) -> Vectors:
        """The vectors `(len(texts), 768)` of one batch."""
