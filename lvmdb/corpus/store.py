"""Articles into the database: each with all its concepts and vectors, or not at all.

Ids are derived from content and articles carry a hash of it, so that a second call with the
same articles changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection, insert, select, update

from lvmdb.corpus.articles import ChunkedArticle
from lvmdb.corpus.concept_rows import Shape, copy_concepts
from lvmdb.corpus.hashes import content_hash
from lvmdb.corpus.replacing import (
    NOWHERE,
    Changed,
    Origin,
    article_columns,
    replace,
    with_episodes,
)
from lvmdb.corpus.tagging import GIVEN
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.schema.corpus import dataset, encoder
from lvmdb.db.types import checked_name
from lvmdb.errors import CorpusError, UnknownNameError


class OvertakenError(CorpusError):
    """Another process has written an article that this one took for new."""


@dataclass
class Stored:
    """What became of some articles.

    Attributes:
        added, changed, unchanged: numbers of articles.
        concepts: how many concepts were written.
        refused: article keys and why, for articles that changed inside a frozen sequence set.
        article_ids: of all of them that are there, by their keys.
    """

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    concepts: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    article_ids: dict[str, int] = field(default_factory=dict)

    def __iadd__(self, other: Stored) -> Stored:
        self.added += other.added
        self.changed += other.changed
        self.unchanged += other.unchanged
        self.concepts += other.concepts
        self.refused += other.refused
        self.article_ids |= other.article_ids
        return self


def ensure_dataset(connection: Connection, name: str, encoder_id: int | None) -> None:
    """Make the dataset if it is not there, with its one encoder.

    Raises:
        UsageError: `name` cannot be a dataset's.
        CorpusError: the dataset has another encoder.
    """
    checked_name("dataset", name)
    row = connection.execute(
        select(dataset.c.encoder_id, encoder.c.name)
        .outerjoin(encoder, encoder.c.encoder_id == dataset.c.encoder_id)
        .where(dataset.c.dataset_source == name)
    ).one_or_none()
    if row is None:
        connection.execute(insert(dataset).values(dataset_source=name, encoder_id=encoder_id))
    elif row[0] is None and encoder_id is not None:
        connection.execute(
            update(dataset).where(dataset.c.dataset_source == name).values(encoder_id=encoder_id)
        )
    elif encoder_id is not None and row[0] != encoder_id:
        raise another_encoder(name, row[1])


def another_encoder(name: str, present: str) -> CorpusError:
    """The error of a second encoder in a dataset."""
    return CorpusError(
        f"dataset '{name}' has vectors of the encoder '{present}', and a dataset has one "
        "encoder: use that one (--encoder), or another dataset"
    )


def require_dataset(db: Database, name: str) -> None:
    """Refuse the name of a dataset that is not there.

    Raises:
        UnknownNameError: there is none.
    """
    with db.connect() as connection:
        names = connection.execute(select(dataset.c.dataset_source)).scalars().all()
    if name not in names:
        raise UnknownNameError("dataset", name, names, hint=None if names else "there is none yet")


def import_hash(article: ChunkedArticle) -> bytes:
    """Content hash of an imported article: its texts and vectors, and codes where it has some."""
    codes = [] if article.codes is None else [json.dumps(article.codes)]
    if article.vectors is None:
        return content_hash(b"", *article.texts, *codes)
    vectors = np.ascontiguousarray(article.vectors).data.cast("B")
    return content_hash(vectors, *article.texts, *codes)


def write_ahead(
    connection: Connection,
    dataset_source: str,
    encoder_id: int | None,
    articles: Sequence[ChunkedArticle],
    meanwhile: Callable[[], object] | None = None,
) -> dict[str, int]:
    """Write the concepts and episodes of new articles, and not yet the articles themselves.

    That is most of the work, and unlike the rest needs no turn: others may write theirs at the same
    time. `store` does the rest, in the same transaction.

    Returns:
        The ids that the articles will have, by their keys.
    """
    if not articles:
        return {}
    found = connection.execute(query("corpus", "new_article_ids"), {"how_many": len(articles)})
    ids = [int(number) for number in found.scalars()]
    connection.execute(query("corpus", "articles_come_later"))
    placed = with_episodes(connection, list(zip(articles, ids, strict=True)))
    shape = _shape(dataset_source, encoder_id, articles)
    copy_concepts(connection, "cpe_entry", shape, placed, meanwhile)
    return dict(zip((article.source_key for article in articles), ids, strict=True))


def store(
    connection: Connection,
    dataset_source: str,
    encoder_id: int | None,
    articles: Sequence[ChunkedArticle],
    hashes: Sequence[bytes],
    meanwhile: Callable[[], object] | None = None,
    *,
    origin: Origin = NOWHERE,
    written: Mapping[str, int] | None = None,
) -> Stored:
    """Write whole articles in the connection's transaction.

    Args:
        connection: in a transaction; nothing is committed here.
        dataset_source: an existing dataset.
        encoder_id: of the vectors; None where the articles have none.
        articles: with distinct keys.
        hashes: the content hash of each.
        meanwhile: called again and again while the server writes, for work of some milliseconds.
        origin: the job that they come from, and what was done to their texts.
        written: what `write_ahead` gave for those that were new then.

    Returns:
        What became of them. An article whose hash is known stays as it is. Of one that changed,
        concepts with the same text in the same place stay, with all that they have; where a frozen
        sequence set holds it and others would go or come, it is refused.

    Raises:
        OvertakenError: an article that was written ahead is there by now.
    """
    written = {} if written is None else written
    keys = [article.source_key for article in articles]
    connection.execute(query("corpus", "lock_dataset"), {"dataset": dataset_source})
    rows = connection.execute(
        query("corpus", "known_articles"), {"dataset": dataset_source, "source_keys": keys}
    )
    known = {row.source_key: row for row in rows}
    if known.keys() & written.keys():
        raise OvertakenError("another process has added an article of this range")
    outcome = Stored(article_ids={key: row.article_id for key, row in known.items()})
    new: list[tuple[ChunkedArticle, bytes]] = []
    changed: list[Changed] = []
    for article, digest in zip(articles, hashes, strict=True):
        row = known.get(article.source_key)
        if row is None:
            new.append((article, digest))
        elif bytes(row.content_hash) == digest and not (row.uncoded and article.codes):
            outcome.unchanged += 1
        else:
            before = None if row.options_hash is None else bytes(row.options_hash)
            recode = before != origin.options_hash or article.tagger == GIVEN
            changed.append(Changed(article, digest, row.article_id, row.frozen_in, recode))
    if new:
        left = [article for article, _ in new if article.source_key not in written]
        ids = {**written, **write_ahead(connection, dataset_source, encoder_id, left, meanwhile)}
        ids = {article.source_key: ids[article.source_key] for article, _ in new}
        connection.execute(
            query("corpus", "add_articles"),
            {
                "dataset": dataset_source,
                "article_ids": list(ids.values()),
                "source_keys": list(ids),
                **article_columns(new),
                **origin.columns,
            },
        )
        concepts = sum(len(article.texts) for article, _ in new)
        outcome += Stored(added=len(new), concepts=concepts, article_ids=ids)
    if changed:
        shape = _shape(dataset_source, encoder_id, [one.article for one in changed])
        concepts, refused = replace(connection, shape, changed, origin, meanwhile)
        outcome.concepts += concepts
        outcome.changed += len(changed) - len(refused)
        outcome.refused += refused
    return outcome


def _shape(
    dataset_source: str, encoder_id: int | None, articles: Sequence[ChunkedArticle]
) -> Shape:
    return Shape(
        dataset_source,
        encoder_id,
        coded=any(article.codes is not None for article in articles),
        grouped=any(article.episodes is not None for article in articles),
    )
