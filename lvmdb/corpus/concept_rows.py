"""Concepts as rows of binary COPY: whole articles, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from lvmdb.corpus.articles import ChunkedArticle
from lvmdb.corpus.hashes import concept_ids
from lvmdb.corpus.tmd import dense, is_complete
from lvmdb.db import bulk
from lvmdb.errors import CorpusError

BLOCK = 128
"""Concepts packed at a time: less than half a megabyte, so that the server never waits long."""


@dataclass(frozen=True, eq=False)
class Placed:
    """An article with the ids that its rows refer to.

    Attributes:
        article: with its texts; vectors, codes and episodes where it has them.
        article_id: of its row.
        episode_ids: of its episodes, in their order; empty where it has none.
    """

    article: ChunkedArticle
    article_id: int
    episode_ids: Sequence[int] = ()


@dataclass(frozen=True)
class Shape:
    """Which columns the rows of one COPY have.

    Attributes:
        dataset_source: of all of them.
        encoder_id: of their vectors; None where they have none.
        coded: whether there are codes.
        grouped: whether there are episodes.
    """

    dataset_source: str
    encoder_id: int | None
    coded: bool = False
    grouped: bool = False


def copy_concepts(
    connection: Connection,
    table: str,
    shape: Shape,
    placed: Sequence[Placed],
    meanwhile: Callable[[], object] | None = None,
) -> int:
    """Write the concepts of whole articles by one COPY; returns how many.

    Args:
        connection: in a transaction; nothing is committed here.
        table: `cpe_entry`, or one with the same columns.
        shape: what the articles have.
        placed: the articles.
        meanwhile: called again and again while the server writes, for work of some milliseconds.

    Raises:
        CorpusError: an article lacks what the shape says.
    """

    def blocks() -> Iterator[dict[str, bulk.Column]]:
        for one in placed:
            for first in range(0, len(one.article.texts), BLOCK):
                yield _packed(shape, one, first)
                if meanwhile is not None:
                    meanwhile()

    packed = blocks()
    first_block = next(packed, None)
    return 0 if first_block is None else bulk.copy_rows(connection, table, first_block, packed)


def _packed(shape: Shape, placed: Placed, first: int) -> dict[str, bulk.Column]:
    """A block of an article's concepts, `first` and those behind it, as COPY wants them."""
    article = placed.article
    texts = article.texts[first : first + BLOCK]
    rows = len(texts)
    key = article.source_key
    columns: dict[str, bulk.Column] = {
        "cpe_id": bulk.uuids(concept_ids(shape.dataset_source, key, texts, first)),
        "article_id": [*bulk.integers([placed.article_id], 8)] * rows,
        "seq": bulk.integers(range(first, first + rows)),
        "concept_text": bulk.texts(texts),
        "dataset_source": [*bulk.texts([shape.dataset_source])] * rows,
    }
    if shape.encoder_id is not None:
        if article.vectors is None:
            raise CorpusError(f"article '{key}' has no vectors beside an encoder")
        columns["concept_vec"] = bulk.vectors(article.vectors[first : first + rows])
        columns["encoder_id"] = [*bulk.integers([shape.encoder_id], 8)] * rows
    if shape.coded:
        columns |= _codes(article, first, rows)
    if shape.grouped:
        of_seq = _episode_of(placed)
        columns["episode_id"] = bulk.optional_integers(of_seq[first : first + rows], 8)
    return columns


def _codes(article: ChunkedArticle, first: int, rows: int) -> dict[str, bulk.Column]:
    codes = (article.codes or (None,) * len(article.texts))[first : first + rows]
    parts = zip(*(code or (None, None, None) for code in codes), strict=True)
    columns: dict[str, bulk.Column] = {
        name: bulk.optional_integers(part, 2)
        for name, part in zip(("domain_code", "task_code", "modifier_code"), parts, strict=True)
    }
    columns["tmd_source"] = bulk.texts(None if code is None else article.tagger for code in codes)
    whole = [code for code in codes if is_complete(code)]
    vectors = iter(bulk.vectors(dense(whole)) if whole else ())
    (null,) = bulk.nulls(1)
    columns["tmd_vec"] = [next(vectors) if is_complete(code) else null for code in codes]
    return columns


def _episode_of(placed: Placed) -> list[int | None]:
    """The episode of each concept of an article."""
    of_seq: list[int | None] = [None] * len(placed.article.texts)
    for episode, episode_id in zip(placed.article.episodes or (), placed.episode_ids, strict=True):
        for seq in range(episode.first_seq, episode.last_seq + 1):
            of_seq[seq] = episode_id
    return of_seq
