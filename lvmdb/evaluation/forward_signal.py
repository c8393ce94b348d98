"""The forward signal of a frozen sequence set: fitted on train, measured on held-out articles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from lvmdb.db import snapshots
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.types import SPLITS
from lvmdb.errors import SequenceError
from lvmdb.metrics.forward_signal import (
    Orders,
    Statistic,
    Sums,
    fit_orders,
    measure,
    orders,
    statistics,
)
from lvmdb.progress import SILENT, Advance, Progress
from lvmdb.sequences.order import generator_for
from lvmdb.sequences.reader import read_spans
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.windows import Articles, Spans, grouped

BLOCK = 4096
"""Concepts in a block; an article is never cut."""

_Block = tuple[NDArray[np.float32], NDArray[np.int64]]


def forward_signal(
    db: Database, sequences: SequenceSet, *, progress: Progress = SILENT
) -> list[Statistic]:
    """What order and direction are worth in a set; see `lvmdb.metrics.forward_signal`.

    Maps are fitted on the train articles, their strength is chosen on the val articles, and they
    are measured on the test articles, all of them whole. Each concept is read once; memory holds a
    block and the moments. The same set gives the same numbers.

    Raises:
        SequenceError: the set is a draft, is of scope corpus, or lacks a split.
    """
    fingerprint = sequences.frozen_fingerprint
    if sequences.scope != "article":
        raise SequenceError(
            f"sequence set '{sequences.name}' is of scope {sequences.scope}, where articles have "
            "no split: the forward signal needs held-out articles"
        )
    articles = {split: _articles(db, sequences, split) for split in SPLITS}
    for split, listed in articles.items():
        if not np.any(listed.concepts > 1):
            raise SequenceError(
                f"split {split} of '{sequences.name}' has no article of two concepts: create a set "
                "with train, val and test articles (--split)"
            )
    total = sum(int(listed.concepts.sum()) for listed in articles.values())
    with progress.task("forward signal", total, "concepts") as advance:
        fitted = []
        for number, split in enumerate(("train", "val")):
            generator = generator_for(fingerprint, number)
            summed: Orders | None = None
            for vectors, lengths in _blocks(db, articles[split], advance):
                block = orders(vectors, lengths, generator)
                if summed is None:
                    summed = block
                else:
                    summed += block
            assert summed is not None, "the split has articles"
            fitted.append(summed)
        maps = fit_orders(*fitted)
        parts = [measure(maps, *block) for block in _blocks(db, articles["test"], advance)]
    return statistics(Sums.joined(parts))


def _articles(db: Database, sequences: SequenceSet, split: str) -> Articles:
    with db.connect() as connection:
        rows = connection.execute(
            query("sequences", "articles"),
            {"sequence_set_id": sequences.sequence_set_id, "split": split},
        ).all()
    table = np.array([tuple(row) for row in rows], dtype=np.int64).reshape(-1, 2)
    return Articles(table[:, 0], table[:, 1])


def _blocks(db: Database, articles: Articles, advance: Advance) -> Iterator[_Block]:
    """Vectors `(concepts, 768)` of unit norm, and the lengths of the articles that they make."""
    whole = Spans(articles.article_id, np.zeros_like(articles.concepts), articles.concepts - 1)
    borders = grouped(articles.concepts, BLOCK)
    with snapshots.reading(db) as connection, closing(read_spans(connection, whole)) as read:
        for size, first in zip(np.diff(borders).tolist(), borders.tolist(), strict=False):
            vectors = np.concatenate(list(islice(read, size)), dtype=np.float32)
            lengths = articles.concepts[first : first + size]
            yield vectors / np.linalg.norm(vectors, axis=1, keepdims=True), lengths
            advance(len(vectors))
