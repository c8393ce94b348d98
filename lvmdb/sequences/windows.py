"""Windows over runs of concepts: where each begins, and in what order they are visited.

Pure arithmetic on counts; the SQL view `training_sequence` is the definition it follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Articles:
    """The articles that a stream reads, in the order in which it reads them.

    Attributes:
        article_id: `(articles,)`.
        concepts: `(articles,)`, how many each has.
    """

    article_id: Ints
    concepts: Ints

    def __len__(self) -> int:
        return len(self.article_id)

    def permuted(self, generator: np.random.Generator) -> Articles:
        """The same articles in an order drawn from `generator`."""
        order = generator.permutation(len(self))
        return Articles(self.article_id[order], self.concepts[order])


@dataclass(frozen=True)
class Windows:
    """Windows within one block of concepts.

    Attributes:
        start: `(windows,)`, row in the block of each context's first concept; the target is
            `context_len` rows on.
        article_id: `(windows,)`, of the target.
        target_seq: `(windows,)`, of the target.
    """

    start: Ints
    article_id: Ints
    target_seq: Ints

    def __len__(self) -> int:
        return len(self.start)

    def take(self, order: Ints) -> Windows:
        """The windows at these places."""
        return Windows(self.start[order], self.article_id[order], self.target_seq[order])


def generator_for(fingerprint: bytes, *numbers: int) -> np.random.Generator:
    """A random generator that depends on the data's fingerprint and these numbers alone."""
    words = [int.from_bytes(fingerprint[i : i + 4], "big") for i in range(0, 16, 4)]
    return np.random.default_rng(
        np.random.SeedSequence([*words, *(n & (2**64 - 1) for n in numbers)])
    )


def windows_per_article(concepts: Ints, context_len: int, stride: int) -> Ints:
    """Full windows of each article: none where it is not longer than a context."""
    return (np.maximum(concepts - context_len, 0) + stride - 1) // stride


def blocks_of_articles(windows: Ints, buffer_size: int) -> list[slice]:
    """Consecutive articles grouped so that each group but the last has `buffer_size` windows.

    An article is never cut, so a group may hold more.
    """
    groups: list[slice] = []
    first, held = 0, 0
    for place, count in enumerate(windows.tolist()):
        held += count
        if held >= buffer_size:
            groups.append(slice(first, place + 1))
            first, held = place + 1, 0
    if first < len(windows):
        groups.append(slice(first, len(windows)))
    return groups


def article_windows(articles: Articles, context_len: int, stride: int) -> Windows:
    """All windows of the articles of a block, in corpus order; none leaves its article."""
    counts = windows_per_article(articles.concepts, context_len, stride)
    first_row = np.cumsum(articles.concepts) - articles.concepts
    which = np.repeat(np.arange(len(articles)), counts)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    offset = number * stride
    return Windows(first_row[which] + offset, articles.article_id[which], context_len + offset)


def corpus_windows(
    articles: Articles,
    context_len: int,
    stride: int,
    *,
    first_place: int,
    carried: int,
    window_range: tuple[int, int],
) -> Windows:
    """The windows of a block that runs across articles (scope `corpus`).

    Args:
        articles: those read into the block, after `carried` rows of the block before.
        context_len, stride: of the set.
        first_place: place in the corpus of the block's first row, the carried ones included.
        carried: rows at the start of the block that ended the block before.
        window_range: numbers `[from, to)` of the windows of the split.
    """
    rows = carried + int(articles.concepts.sum())
    # Window w has its target at place context_len + w * stride.
    first = max(window_range[0], -(-(first_place + carried - context_len) // stride), 0)
    last = min(window_range[1], -(-(first_place + rows - context_len) // stride))
    number = np.arange(first, max(first, last))
    place = context_len + number * stride
    target_row = place - first_place - carried
    first_row = np.cumsum(articles.concepts) - articles.concepts
    which = np.searchsorted(first_row, target_row, side="right") - 1
    return Windows(
        place - context_len - first_place,
        articles.article_id[which],
        target_row - first_row[which],
    )


def corpus_split_range(windows: Sequence[int], split_index: int) -> tuple[int, int]:
    """Numbers `[from, to)` of the windows of a split, from the counts of train, val and test."""
    start = sum(windows[:split_index])
    return start, start + windows[split_index]
