"""`lvmdb ingest tag`: codes for concepts that are in the database already.

Whole articles are read in corpus order; what was decided of some of them is one transaction. A
second call goes on with what has no code. No fingerprint of a sequence set covers codes, so those
of frozen sets may change; runs that read codes keep a fingerprint of their own and would be
refused, so such a change must be asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.jobs import Job, job
from lvmdb.corpus.store import Stored, require_dataset
from lvmdb.corpus.tagging import Tag, Tagger
from lvmdb.corpus.tmd import dense, is_complete
from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.types import DIMENSION
from lvmdb.errors import CorpusError
from lvmdb.progress import SILENT, Progress

READ = 4096
"""Concepts of whole articles that are read together, and more if one article has more."""


@dataclass(frozen=True)
class Tagged:
    """What became of the concepts that had no code.

    Attributes:
        concepts: how many were looked at.
        complete, partial: how many have a whole code now, and a part of one.
        failed: how many could not be decided: see `lvmdb ingest errors`.
    """

    concepts: int = 0
    complete: int = 0
    partial: int = 0
    failed: int = 0

    def plus(self, tags: Sequence[Tag]) -> Tagged:
        """With some more."""
        complete = sum(is_complete(tag.code) for tag in tags)
        return Tagged(
            self.concepts + len(tags),
            self.complete + complete,
            self.partial + sum(tag.code is not None for tag in tags) - complete,
            self.failed + sum(tag.error is not None for tag in tags),
        )


def retag(
    db: Database,
    dataset: str,
    tagger: Tagger,
    *,
    every: bool = False,
    anyway: bool = False,
    together: int = READ,
    progress: Progress = SILENT,
) -> Tagged:
    """Give the concepts of a dataset codes.

    Args:
        db: the database.
        dataset: which one.
        tagger: who decides.
        every: decide those anew that a tagger has decided; codes that came with the source stay.
            Where the tagger is unsure now, the old code goes; where it fails, the old code stays.
        anyway: even if there are runs that would be refused for it.
        together: concepts that are decided together and written in one transaction.
        progress: told of each concept.

    Raises:
        UnknownNameError: there is no such dataset.
        CorpusError: there are runs that read its codes.
        EndpointAwayError: the language model does not answer; what was decided before is kept.
    """
    require_changeable(db, dataset, "codes", anyway=anyway)
    with db.connect() as connection:
        found = connection.execute(
            query("enrichment", "articles_to_tag"), {"dataset": dataset, "every": every}
        ).all()
    outcome = Tagged()
    if not found:
        return outcome
    options = {"tagger": tagger.name, **tagger.options, "every": every}
    with (
        job(db, dataset, "tag", tagger.name, options) as (running, stored),
        progress.task("tagging", sum(row.concepts for row in found), "concepts") as advance,
    ):
        with running.timed("prepare tagger"):
            tagger.tag([], np.empty((0, DIMENSION), dtype=np.float32))
        for articles in grouped(found, READ):
            for rows in _slices(_read(db, articles, every, running), together):
                vectors = _vectors(rows)
                with running.timed("tag", len(rows)):
                    tags = tagger.tag([row.concept_text for row in rows], vectors)
                with running.timed("store", len(rows)):
                    _write(db, rows, tags, tagger.name, every)
                for row, tag in zip(rows, tags, strict=True):
                    if tag.error is not None:
                        key = articles[row.place - 1].source_key
                        running.error("tag", f"concept {row.seq}: {tag.error}", key)
                outcome = outcome.plus(tags)
                stored += Stored(concepts=len(rows))
                advance(len(rows))
    return outcome


def require_changeable(db: Database, dataset: str, what: str, *, anyway: bool) -> None:
    """Refuse a dataset that is not there, and a change that would make runs refuse their data.

    Args:
        db: the database.
        dataset: whose concepts are to change.
        what: "codes" or "probes".
        anyway: whatever runs there are.

    Raises:
        UnknownNameError: there is no such dataset.
        CorpusError: there are such runs.
    """
    require_dataset(db, dataset)
    if anyway:
        return
    with db.connect() as connection:
        found = connection.execute(
            query("enrichment", f"runs_that_read_{what}"), {"dataset": dataset}
        )
        runs = [str(row.run_id) for row in found]
    if runs:
        listed = ", ".join(runs[:8]) + (", ..." if len(runs) > 8 else "")
        raise CorpusError(
            f"{len(runs)} runs were planned on the {what} that dataset '{dataset}' has now, and "
            f"would be refused once these change (run {listed}): give --yes to change them"
        )


def grouped(rows: Sequence[Any], concepts: int) -> Iterator[list[Any]]:
    """Rows of articles, together until they have so many `concepts`."""
    group: list[Any] = []
    held = 0
    for row in rows:
        group.append(row)
        held += row.concepts
        if held >= concepts:
            yield group
            group, held = [], 0
    if group:
        yield group


def vector_text(vector: Any) -> str:
    """A vector as PostgreSQL reads it."""
    return str(vector.tolist())


def _read(db: Database, articles: Sequence[Any], every: bool, running: Job) -> Sequence[Any]:
    with running.timed("read"), db.connect() as connection:
        return connection.execute(
            query("enrichment", "concepts_to_tag"),
            {"article_ids": [row.article_id for row in articles], "every": every},
        ).all()


def _slices(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _vectors(rows: Sequence[Any]) -> Vectors | None:
    """The concepts' vectors, `(rows, 768)`; None if the dataset has none."""
    sent = [row.vector for row in rows]
    return None if None in sent else parsed_vectors(sent, DIMENSION)


def _write(
    db: Database, rows: Sequence[Any], tags: Sequence[Tag], source: str, every: bool
) -> None:
    """Codes of concepts in one transaction; what failed stays as it was."""
    # Nothing is written of a concept without a code that shall have none.
    decided = [
        (row, tag)
        for row, tag in zip(rows, tags, strict=True)
        if tag.error is None and (every or tag.code is not None)
    ]
    if not decided:
        return
    codes = [tag.code for _, tag in decided]
    vectors = iter(dense([code for code in codes if is_complete(code)]))
    parts = list(zip(*(code or (None, None, None) for code in codes), strict=True))
    with db.begin() as connection:
        connection.execute(
            query("enrichment", "set_codes"),
            {
                "cpe_ids": [row.cpe_id for row, _ in decided],
                "domains": list(parts[0]),
                "tasks": list(parts[1]),
                "modifiers": list(parts[2]),
                "sources": [None if code is None else source for code in codes],
                "dense": [
                    vector_text(next(vectors)) if is_complete(code) else None for code in codes
                ],
            },
        )
