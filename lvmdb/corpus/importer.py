"""`lvmdb import vectors`: vectors made elsewhere, with their texts, order and articles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.jobs import job
from lvmdb.corpus.store import Stored, ensure_dataset, import_hash, store
from lvmdb.corpus.vector_files import read_articles
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
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
    options = {"encoder": encoder, "texts": str(texts), "normalise": normalise}
    with (
        job(db, dataset, "vectors", str(vectors), options) as (running, outcome),
        progress.task("importing", checked, "concepts") as advance,
        closing(read_articles(vectors, texts, normalise=normalise)) as articles,
        db.connect() as connection,
    ):
        read = batches(articles, BATCH_CONCEPTS)
        for batch, hashes in read:
            concepts = sum(len(article.texts) for article in batch)
            with running.timed("store", concepts), connection.begin():
                connection.execute(query("corpus", "begin_import"))
                stored = store(connection, dataset, encoder_id, batch, hashes, read.read_on)
                if stored.concepts:
                    encoders.mark_unverified(connection, dataset)
            running.refuse(stored)
            outcome += stored
            advance(concepts)
    return outcome


def batches(articles: Iterable[VectorArticle], concepts: int) -> Batches:
    """Whole articles with their hashes, in lists of at least so many concepts."""
    return Batches(articles, concepts)


class Batches(Iterator[tuple[list[VectorArticle], list[bytes]]]):
    """What `batches` gives; the next batch can be read bit by bit while this one is written.

    A thread would do that worse: it and the one that feeds the server wait for each other at
    every block (Python runs one of them at a time, and changes over every 5 ms).

    Attributes:
        held: concepts of the next batch that were read.
    """

    def __init__(self, articles: Iterable[VectorArticle], concepts: int) -> None:
        self._articles = iter(articles)
        self._concepts = concepts
        self._batch: list[VectorArticle] = []
        self._hashes: list[bytes] = []
        self.held = 0

    def read_on(self) -> bool:
        """Read one more article of the next batch; False if it is whole."""
        article = next(self._articles, None) if self.held < self._concepts else None
        if article is None:
            return False
        self._batch.append(article)
        self._hashes.append(import_hash(article))
        self.held += len(article.texts)
        return True

    def __next__(self) -> tuple[list[VectorArticle], list[bytes]]:
        while self.read_on():
            pass
        if not self._batch:
            raise StopIteration
        made = self._batch, self._hashes
        self._batch, self._hashes, self.held = [], [], 0
        return made
