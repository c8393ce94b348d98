"""`lvmdb import synthetic`: a corpus of a known process into the database."""

from __future__ import annotations

from dataclasses import asdict

from lvmdb.corpus import encoders
from lvmdb.corpus.jobs import job
from lvmdb.corpus.store import Stored, ensure_dataset, import_hash, store
from lvmdb.corpus.synthetic import Process, articles
from lvmdb.db.engine import Database
from lvmdb.errors import UsageError
from lvmdb.progress import SILENT, Progress

BATCH_CONCEPTS = 2_000
"""Concepts written in one transaction, about."""


def import_synthetic(
    db: Database,
    process: Process,
    *,
    dataset: str,
    count: int,
    concepts: int,
    progress: Progress = SILENT,
) -> Stored:
    """Draw articles and load them; a second call with the same numbers changes nothing.

    The process is the vectors' encoder: a dataset of one process takes no vectors of another, and
    no text can be encoded beside them.

    Args:
        db: the database.
        process: what draws the articles.
        dataset: where to; made if it is not there.
        count: how many articles.
        concepts: how many each has.
        progress: told of each concept written.

    Raises:
        UsageError: no article, or none that has a concept.
        CorpusError: the dataset has vectors of another process or encoder.
    """
    if count < 1 or concepts < 1:
        raise UsageError("--articles and --concepts are at least 1")
    with db.begin() as connection:
        encoder_id = encoders.register_imported(connection, process.name)
        ensure_dataset(connection, dataset, encoder_id)
    options = {**asdict(process), "articles": count, "concepts": concepts}
    step = max(1, BATCH_CONCEPTS // concepts)
    with (
        job(db, dataset, "synthetic", process.name, options) as (running, outcome),
        progress.task("importing", count * concepts, "concepts") as advance,
    ):
        for first in range(0, count, step):
            batch = list(articles(process, range(first, min(first + step, count)), concepts))
            with running.timed("store", len(batch) * concepts), db.begin() as connection:
                hashes = [import_hash(article) for article in batch]
                stored = store(connection, dataset, encoder_id, batch, hashes)
                if stored.concepts:
                    encoders.mark_unverified(connection, dataset)
            running.refuse(stored)
            outcome += stored
            advance(len(batch) * concepts)
    return outcome
