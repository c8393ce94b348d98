"""Passages of articles, and the vectors of what was found, as generation reads them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.types import DIMENSION, TMD_DIMENSION
from lvmdb.decoding.decoded import Decoded
from lvmdb.errors import UnknownNameError, UsageError
from lvmdb.retrieval.searcher import Searcher

SAME = 0.9995
"""The least cosine of two vectors that are one, but for rounding: to half precision, at most."""

_LIKELY = 10
"""Concepts looked at for each vector: few texts stand more often in a corpus."""


@dataclass(frozen=True)
class Passage:
    """Concepts of an article in order.

    Attributes:
        article_id, title: of the article.
        first: place of the first of them, from 0.
        cpe_ids: of each.
        texts: of each.
        vectors: `(n, 768)`.
        codes: `(n, 16)` TMD codes; zeros where there is none.
    """

    article_id: int
    title: str
    first: int
    cpe_ids: Sequence[uuid.UUID]
    texts: Sequence[str]
    vectors: Vectors
    codes: Vectors


def before(db: Database, dataset: str, article_id: int, at: int, *, steps: int = 0) -> Passage:
    """The concepts of an article before one place, and up to `steps` from there on.

    Raises:
        UnknownNameError: the dataset has no such article.
        UsageError: there is nothing before that place, or it is beyond the article's end.
    """
    with db.connect() as connection:
        found = connection.execute(
            query("decoding", "article_place"), {"article_id": article_id}
        ).one_or_none()
        if found is None or found.dataset_source != dataset:
            hint = f"dataset '{dataset}' has none of that id"
            raise UnknownNameError("article", article_id, hint=hint)
        if not 1 <= at <= found.concepts:
            raise UsageError(
                f"--at is a place in article {article_id} with something before it, from 1 to "
                f"{found.concepts}, not {at}"
            )
        rows = connection.execute(
            query("decoding", "passage"),
            {"article_id": article_id, "first": 0, "beyond": at + steps},
        ).all()
    return Passage(
        article_id,
        found.title,
        0,
        [row.cpe_id for row in rows],
        [row.concept_text for row in rows],
        parsed_vectors([row.sent for row in rows], DIMENSION),
        parsed_vectors([row.code for row in rows], TMD_DIMENSION),
    )


def snapped(searcher: Searcher, *, tmd: bool = False) -> Callable[[Decoded], Vectors]:
    """The `generation.Feed` of the loop `index`: the vector of the concept that was found, or, of a
    text that was written, of the concept nearest to what it was written for."""

    def feed(decoded: Decoded) -> Vectors:
        if not decoded.hits:
            raise UsageError("loop 'index' reads concepts that were found: not vec2text alone")
        vector: Vectors = searcher.vectors([decoded.hits[0].cpe_id], tmd=tmd)[0]
        return vector

    return feed


def same_concepts(searcher: Searcher, contexts: Sequence[Vectors]) -> list[tuple[uuid.UUID, ...]]:
    """Of each context `(t, 768)`, the concepts of the dataset that have one of its vectors: what
    was said may be there, and is not to be found again. One statement asks for all of them."""
    found = searcher.batch(np.concatenate(contexts), _LIKELY)
    # Best first, so that those that are the same come before all others.
    counts = (found.cosine >= SAME).sum(axis=1)
    there = iter([sorted(found.ids(row)[:count]) for row, count in enumerate(counts)])
    return [
        tuple(dict.fromkeys(cpe_id for _ in context for cpe_id in next(there)))
        for context in contexts
    ]
