"""Articles into the database: each with all its concepts and vectors, or not at all.

Ids are derived from content and articles carry a hash of it, so that a second call with the
same articles changes nothing.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Connection, insert, select, update

from lvmdb.corpus.articles import ChunkedArticle
from lvmdb.db import bulk
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.schema.corpus import dataset, encoder
from lvmdb.db.types import checked_name
from lvmdb.errors import CorpusError, UnknownNameError

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://lvmdb.dev/cpe_entry")
"""Namespace of concept ids; changing it would give every concept another id."""

_BLOCK = 128
"""Concepts packed at a time: less than half a megabyte, so that the server never waits long."""


@dataclass
class Stored:
    """What became of some articles.

    Attributes:
        added, changed, unchanged: numbers of articles.
        concepts: how many concepts were written.
        refused: article keys and why, for articles that changed inside a frozen sequence set.
    """

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    concepts: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)

    def __iadd__(self, other: Stored) -> Stored:
        self.added += other.added
        self.changed += other.changed
        self.unchanged += other.unchanged
        self.concepts += other.concepts
        self.refused += other.refused
        return self


def cpe_id(dataset_source: str, source_key: str, seq: int, text: str) -> uuid.UUID:
    """The id of a concept: UUIDv5 (RFC 9562) of its dataset, article key, place and text."""
    return uuid.uuid5(NAMESPACE, f"{dataset_source}\x1f{source_key}\x1f{seq}\x1f{text}")


def concept_ids(
    dataset_source: str, source_key: str, texts: Sequence[str], first: int = 0
) -> list[bytes]:
    """The ids of an article's concepts from place `first` on: the bytes of `cpe_id` of each."""
    space = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)
    space.update(f"{dataset_source}\x1f{source_key}\x1f".encode())
    ids = []
    for seq, text in enumerate(texts, start=first):
        digest = space.copy()
        digest.update(f"{seq}\x1f{text}".encode())
        ids.append(digest.digest()[:16])
    fields = np.frombuffer(b"".join(ids), dtype=np.uint8).reshape(-1, 16).copy()
    fields[:, 6] = fields[:, 6] & 0x0F | 0x50  # version 5
    fields[:, 8] = fields[:, 8] & 0x3F | 0x80  # the variant of RFC 9562
    made: list[bytes] = fields.view("V16")[:, 0].tolist()
    return made


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


def known_hashes(db: Database, name: str, keys: Sequence[str]) -> dict[str, bytes]:
    """The content hashes of those of these articles that are there."""
    with db.connect() as connection:
        rows = connection.execute(
            query("corpus", "known_articles"), {"dataset": name, "source_keys": list(keys)}
        )
        return {row.source_key: bytes(row.content_hash) for row in rows}


def content_hash(*parts: bytes | memoryview | str) -> bytes:
    """SHA-256 of parts that cannot run into each other."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.digest()


def import_hash(article: ChunkedArticle) -> bytes:
    """Content hash of an imported article: its texts and vectors."""
    if article.vectors is None:
        return content_hash(b"", *article.texts)
    return content_hash(np.ascontiguousarray(article.vectors).data.cast("B"), *article.texts)


def store(
    connection: Connection,
    dataset_source: str,
    encoder_id: int | None,
    articles: Sequence[ChunkedArticle],
    hashes: Sequence[bytes],
    meanwhile: Callable[[], object] | None = None,
) -> Stored:
    """Write whole articles in the connection's transaction.

    Args:
        connection: in a transaction; nothing is committed here.
        dataset_source: an existing dataset.
        encoder_id: of the vectors; None where the articles have none.
        articles: with distinct keys.
        hashes: the content hash of each.
        meanwhile: called again and again while the server writes, for work of some milliseconds.

    Returns:
        What became of them. An article whose hash is known stays as it is; one that changed is
        replaced, but refused where a frozen sequence set holds it.
    """
    keys = [article.source_key for article in articles]
    connection.execute(query("corpus", "lock_dataset"), {"dataset": dataset_source})
    rows = connection.execute(
        query("corpus", "known_articles"), {"dataset": dataset_source, "source_keys": keys}
    )
    known = {row.source_key: row for row in rows}
    outcome = Stored()
    new: list[tuple[ChunkedArticle, bytes]] = []
    changed: list[tuple[ChunkedArticle, bytes]] = []
    for article, digest in zip(articles, hashes, strict=True):
        row = known.get(article.source_key)
        if row is None:
            new.append((article, digest))
        elif bytes(row.content_hash) == digest:
            outcome.unchanged += 1
        elif row.frozen_in is not None:
            outcome.refused.append(
                (
                    article.source_key,
                    f"its text or vectors changed, but the frozen sequence set '{row.frozen_in}' "
                    "holds it: load it as another dataset, or delete that set",
                )
            )
        else:
            changed.append((article, digest))
    ids = {key: row.article_id for key, row in known.items()}
    if new:
        added = connection.execute(
            query("corpus", "add_articles"),
            {
                "dataset": dataset_source,
                "source_keys": [article.source_key for article, _ in new],
                **_columns(new),
            },
        )
        ids |= {row.source_key: row.article_id for row in added}
    if changed:
        changed_ids = [ids[article.source_key] for article, _ in changed]
        connection.execute(query("corpus", "clear_articles"), {"article_ids": changed_ids})
        connection.execute(
            query("corpus", "update_articles"), {"article_ids": changed_ids, **_columns(changed)}
        )
    written = [article for article, _ in (*new, *changed)]
    outcome.added, outcome.changed = len(new), len(changed)
    if written:
        article_ids = [ids[article.source_key] for article in written]
        outcome.concepts = _copy_concepts(
            connection, dataset_source, encoder_id, written, article_ids, meanwhile
        )
    return outcome


def _columns(articles: Iterable[tuple[ChunkedArticle, bytes]]) -> dict[str, list[Any]]:
    pairs = list(articles)
    return {
        "titles": [article.title for article, _ in pairs],
        "urls": [article.url for article, _ in pairs],
        "content_hashes": [digest for _, digest in pairs],
        "text_hashes": [content_hash(*article.texts) for article, _ in pairs],
    }


def _copy_concepts(
    connection: Connection,
    dataset_source: str,
    encoder_id: int | None,
    articles: Sequence[ChunkedArticle],
    article_ids: Sequence[int],
    meanwhile: Callable[[], object] | None = None,
) -> int:
    def blocks() -> Iterator[dict[str, bulk.Column]]:
        for article, article_id in zip(articles, article_ids, strict=True):
            for first in range(0, len(article.texts), _BLOCK):
                yield _packed_concepts(dataset_source, encoder_id, article, article_id, first)
                if meanwhile is not None:
                    meanwhile()

    packed = blocks()
    first_block = next(packed, None)
    return (
        0 if first_block is None else bulk.copy_rows(connection, "cpe_entry", first_block, packed)
    )


def _packed_concepts(
    dataset_source: str,
    encoder_id: int | None,
    article: ChunkedArticle,
    article_id: int,
    first: int,
) -> dict[str, bulk.Column]:
    """A block of an article's concepts, `first` and those behind it, as COPY wants them."""
    texts = article.texts[first : first + _BLOCK]
    rows = len(texts)
    columns: dict[str, bulk.Column] = {
        "cpe_id": bulk.uuids(concept_ids(dataset_source, article.source_key, texts, first)),
        "article_id": [*bulk.integers([article_id], 8)] * rows,
        "seq": bulk.integers(range(first, first + rows)),
        "concept_text": bulk.texts(texts),
        "dataset_source": [*bulk.texts([dataset_source])] * rows,
    }
    if encoder_id is not None:
        if article.vectors is None:
            raise CorpusError(f"article '{article.source_key}' has no vectors beside an encoder")
        columns["concept_vec"] = bulk.vectors(article.vectors[first : first + rows])
        columns["encoder_id"] = [*bulk.integers([encoder_id], 8)] * rows
    return columns
