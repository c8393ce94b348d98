"""Windows over runs of concepts: how many there are, where each lies, and pieces to read them in.

Pure arithmetic on counts; the SQL view `training_sequence` is the definition it follows. Concepts
are numbered through the articles of a split, in the set's order: a concept's number is its *place*.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lvmdb.db.types import SPLITS

if TYPE_CHECKING:
    from lvmdb.sequences.sets import SequenceSet

Ints = NDArray[np.int64]

PIECE = 256
"""Concepts in a piece, about: longer articles are read in several, so that memory has a bound."""


@dataclass(frozen=True)
class Articles:
    """The articles of a split, in the set's order.

    Attributes:
        article_id: `(articles,)`.
        concepts: `(articles,)`, how many each has.
    """

    article_id: Ints
    concepts: Ints

    def __len__(self) -> int:
        return len(self.article_id)

    @cached_property
    def first_place(self) -> Ints:
        """`(articles,)`: the place of each one's first concept."""
        return np.cumsum(self.concepts) - self.concepts

    def locate(self, places: Ints) -> tuple[Ints, Ints]:
        """The article, by its number here, and the seq of the concepts at these places."""
        number = np.searchsorted(self.first_place, places, side="right") - 1
        return number, places - self.first_place[number]


@dataclass(frozen=True)
class Windowing:
    """How windows lie in a run of concepts: window `j` has its context at `j * step`.

    Attributes:
        lead: concepts before the first target.
        step: from one window's context to the next one's.
        longest: concepts in a context, at most.
    """

    lead: int
    step: int
    longest: int

    @classmethod
    def last(cls, context_len: int, stride: int) -> Windowing:
        """The windows of the view: `context_len` concepts, and the one that follows."""
        return cls(context_len, stride, context_len)

    @classmethod
    def every(cls, sequence_len: int) -> Windowing:
        """Sequences of at most `sequence_len` concepts, each followed by its target.

        They lie end to end: every concept of a run but the first is a target exactly once.
        """
        return cls(1, sequence_len, sequence_len)

    def count(self, concepts: Ints) -> Ints:
        """Windows in runs of so many concepts."""
        return (np.maximum(concepts - self.lead, 0) + self.step - 1) // self.step


CONCEPTS = Windowing(lead=0, step=1, longest=0)
"""Each concept by itself."""


@dataclass(frozen=True)
class Windows:
    """Windows, in the order of their places.

    Attributes:
        place: `(windows,)`, of each context's first concept.
        length: `(windows,)`, concepts in each context; the (last) target's place is
            `place + length`.
    """

    place: Ints
    length: Ints


@dataclass(frozen=True)
class Pieces:
    """Consecutive concepts, with the windows that lie wholly in them.

    Attributes:
        place: `(pieces,)`, of each one's first concept.
        concepts: `(pieces,)`, how many it has.
        windows: `(pieces,)`, how many begin in it; each window is in exactly one piece.
    """

    place: Ints
    concepts: Ints
    windows: Ints

    def __len__(self) -> int:
        return len(self.place)

    def take(self, order: Ints) -> Pieces:
        """The pieces at these places."""
        return Pieces(self.place[order], self.concepts[order], self.windows[order])


@dataclass(frozen=True)
class Spans:
    """Parts of articles, as they are asked for: seqs from `first_seq` to `last_seq`, both there."""

    article_id: Ints
    first_seq: Ints
    last_seq: Ints

    def __len__(self) -> int:
        return len(self.article_id)

    @property
    def concepts(self) -> Ints:
        """`(spans,)`: how many each has."""
        return self.last_seq - self.first_seq + 1


def article_pieces(articles: Articles, windowing: Windowing) -> Pieces:
    """All windows of the articles, none of which leaves its article."""
    counts = windowing.count(articles.concepts)
    last = articles.first_place + articles.concepts
    return _pieces(articles.first_place, last, np.zeros_like(counts), counts, windowing)


def corpus_pieces(
    articles: Articles, windowing: Windowing, window_range: tuple[int, int]
) -> Pieces:
    """The windows numbered `[from, to)` of one run through all articles (scope `corpus`)."""
    first, end = window_range
    run = np.array([0]), np.array([int(articles.concepts.sum())])
    return _pieces(*run, np.array([first]), np.array([end - first]), windowing)


def split_pieces(
    sequences: SequenceSet, split: str, articles: Articles, windowing: Windowing
) -> Pieces:
    """All windows of one split of a frozen set, whose articles these are."""
    if sequences.scope == "article":
        return article_pieces(articles, windowing)
    before = SPLITS[: SPLITS.index(split)]
    first = sum(sequences.window_count(other) for other in before)
    return corpus_pieces(articles, windowing, (first, first + sequences.window_count(split)))


def _pieces(
    run_place: Ints, run_end: Ints, first_window: Ints, windows: Ints, windowing: Windowing
) -> Pieces:
    """Runs with so many windows from a first one on, in pieces of about `PIECE` concepts."""
    most = max(1, PIECE // windowing.step)
    pieces = -(-windows // most)
    run = np.repeat(np.arange(len(windows)), pieces)
    number = np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    held = np.minimum(windows[run] - number * most, most)
    place = run_place[run] + (first_window[run] + number * most) * windowing.step
    end = np.minimum(place + (held - 1) * windowing.step + windowing.longest + 1, run_end[run])
    return Pieces(place, end - place, held)


def windows_of(pieces: Pieces, windowing: Windowing) -> Windows:
    """The windows of the pieces, piece by piece."""
    which = np.repeat(np.arange(len(pieces)), pieces.windows)
    first = np.cumsum(pieces.windows) - pieces.windows
    place = pieces.place[which] + (np.arange(len(which)) - first[which]) * windowing.step
    rest = pieces.place[which] + pieces.concepts[which] - 1 - place
    return Windows(place, np.minimum(rest, windowing.longest))


def spans_of(pieces: Pieces, articles: Articles) -> Spans:
    """What to read for the pieces, in order; a piece that runs across articles gives several."""
    first, _ = articles.locate(pieces.place)
    last, _ = articles.locate(pieces.place + pieces.concepts - 1)
    parts = last - first + 1
    piece = np.repeat(np.arange(len(pieces)), parts)
    number = np.arange(len(piece)) - np.repeat(np.cumsum(parts) - parts, parts)
    article = first[piece] + number
    begins = articles.first_place[article]
    start = np.maximum(pieces.place[piece], begins)
    end = np.minimum(
        pieces.place[piece] + pieces.concepts[piece], begins + articles.concepts[article]
    )
    return Spans(articles.article_id[article], start - begins, end - 1 - begins)


def grouped(sizes: Ints, least: int) -> Ints:
    """Consecutive items in groups whose sizes add up to `least` or more, but for the last one.

    Returns:
        `(groups + 1,)`: group `g` holds the items from `[g]` to before `[g + 1]`.
    """
    borders = [0]
    held = 0
    for place, size in enumerate(sizes.tolist(), start=1):
        held += size
        if held >= least or place == len(sizes):
            borders.append(place)
            held = 0
    return np.array(borders, dtype=np.int64)
