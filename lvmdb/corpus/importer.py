"""`lvmdb import vectors`: vectors made elsewhere, with their texts, order and articles."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path

from lvmdb.ahead import ahead
from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.jobs import job
from lvmdb.corpus.store import Stored, ensure_dataset, import_hash, store
from lvmdb.corpus.vector_files import read_articles
from lvmdb.db.engine import Database
from lvmdb.progress import SILENT, Progress

BATCH_CONCEPTS = 2_000
"""Concepts written in one transaction; an article is never cut."""


def import_vectors(
    db: Database,
    vectors: Path,
    texts: Path,
    *,
    dataset: str,
    encoder: str,
    normalise: bool = False,
    progress: Progress = SILENT,
) -> Stored:
    """Load articles with their vectors; a second call with the same files changes nothing.

    The files are read twice: once to check every row, so that a broken one leaves the database
    as it was, and once to write.

    Args:
        db: the database.
        vectors, texts: the files, as `read_articles` wants them.
        dataset: where to; made if it is not there.
        encoder: name of the encoder that made the vectors.
        normalise: accept vectors that are not of unit norm, and normalise them.
        progress: told of each article checked and each concept written.

    Raises:
        InputError: a row is broken; the message names file and line.
        CorpusError: the dataset has another encoder.
    """
    checked = 0
    with progress.task("checking", 0, "concepts") as advance:
        for article in read_articles(vectors, texts, normalise=normalise):
            checked += len(article.texts)
            advance(len(article.texts))
    with db.begin() as connection:
        encoder_id = encoders.register_imported(connection, encoder)
        ensure_dataset(connection, dataset, encoder_id)
    articles = read_articles(vectors, texts, normalise=normalise)
    options = {"encoder": encoder, "texts": str(texts), "normalise": normalise}
    with (
        job(db, dataset, "vectors", str(vectors), options) as (running, outcome),
        progress.task("importing", checked, "concepts") as advance,
        # Reading and hashing go on while the server writes.
        closing(ahead(batches(articles, BATCH_CONCEPTS), name="lvmdb-import")) as read,
    ):
        for batch, hashes in read:
            concepts = sum(len(article.texts) for article in batch)
            with running.timed("store", concepts), db.begin() as connection:
                stored = store(connection, dataset, encoder_id, batch, hashes)
                if stored.concepts:
                    encoders.mark_unverified(connection, dataset)
            running.refuse(stored)
            outcome += stored
            advance(concepts)
    return outcome


def batches(
    articles: Iterable[VectorArticle], concepts: int
) -> Generator[tuple[list[VectorArticle], list[bytes]]]:
    """Whole articles with their hashes, in lists of at least so many concepts."""
    batch: list[VectorArticle] = []
    held = 0
    for article in articles:
        batch.append(article)
        held += len(article.texts)
        if held >= concepts:
            yield batch, [import_hash(article) for article in batch]
            batch, held = [], 0
    if batch:
        yield batch, [import_hash(article) for article in batch]
