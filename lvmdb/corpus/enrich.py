"""`lvmdb ingest enrich`: probe questions and answers for concepts, by a language model.

Only concepts without a question are asked about, some at a time and in corpus order; each batch is
one transaction, so that a second call goes on where the first ended. A question's vector is made by
the dataset's own encoder. An answer that cannot be used leaves its concept as it was, and a row in
`ingest_error`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.cpesh import Written, parsed, question_about
from lvmdb.corpus.jobs import Job, job
from lvmdb.corpus.llm import Llm
from lvmdb.corpus.retag import require_changeable, vector_text
from lvmdb.corpus.store import Stored
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.errors import EndpointError
from lvmdb.progress import SILENT, Progress

TOGETHER = 8
"""Requests for each one that is under way: what one transaction holds, and what a kill costs."""

Encode = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True)
class Enriched:
    """How many concepts have a question now, and about how many none could be written."""

    concepts: int = 0
    failed: int = 0


def enrich(
    db: Database,
    dataset: str,
    llm: Llm,
    encode: Encode,
    *,
    negatives: bool = False,
    limit: int | None = None,
    anyway: bool = False,
    progress: Progress = SILENT,
) -> Enriched:
    """Ask a language model about the concepts of a dataset that have no probe question.

    Args:
        db: the database.
        dataset: which one.
        llm: who writes.
        encode: the dataset's encoder.
        negatives: have it write negatives as well.
        limit: at most so many concepts.
        anyway: even if there are runs that would be refused for it.
        progress: told of each concept.

    Raises:
        UnknownNameError: there is no such dataset.
        CorpusError: there are runs that read its probes.
        EndpointAwayError: the language model does not answer; what was written before is kept.
    """
    require_changeable(db, dataset, "probes", anyway=anyway)
    with db.connect() as connection:
        asked = {"dataset": dataset}
        pending = connection.execute(query("enrichment", "concepts_without_probe"), asked)
        total = pending.scalar_one()
    todo = total if limit is None else min(limit, total)
    outcome = Enriched()
    if not todo:
        return outcome
    options = {"model": llm.model, "url": llm.url, "negatives": negatives, "limit": limit}
    with (
        job(db, dataset, "enrich", llm.model, options) as (running, stored),
        progress.task("enriching", todo, "concepts") as advance,
    ):
        after: tuple[int, int] = (-1, -1)
        while todo:
            with running.timed("read"), db.connect() as connection:
                place = {"ordinal": after[0], "seq": after[1]}
                most = min(todo, TOGETHER * llm.concurrency)
                rows = connection.execute(
                    query("enrichment", "concepts_to_question"), {**asked, **place, "most": most}
                ).all()
            if not rows:  # another call was quicker
                break
            with running.timed("ask", len(rows)):
                written = _ask(llm, rows, negatives)
            done = _keep(db, rows, written, encode, running)
            outcome = Enriched(outcome.concepts + done, outcome.failed + len(rows) - done)
            stored += Stored(concepts=done)
            advance(len(rows))
            todo -= len(rows)
            after = rows[-1].ordinal, rows[-1].seq
    return outcome


def _ask(llm: Llm, rows: Sequence[Any], negatives: bool) -> list[Written | EndpointError]:
    answers = llm.ask_all(
        [question_about(row.title, row.concept_text, negatives=negatives) for row in rows]
    )
    written: list[Written | EndpointError] = []
    for answer in answers:
        try:
            if isinstance(answer, EndpointError):
                raise answer
            written.append(parsed(answer, negatives=negatives))
        except EndpointError as error:
            written.append(error)
    return written


def _keep(
    db: Database,
    rows: Sequence[Any],
    written: Sequence[Written | EndpointError],
    encode: Encode,
    running: Job,
) -> int:
    """Store what was written, with its vectors, in one transaction; returns of how many."""
    usable: list[tuple[Any, Written]] = []
    for row, found in zip(rows, written, strict=True):
        if isinstance(found, EndpointError):
            running.error("enrich", f"concept {row.seq}: {found}", row.source_key)
        else:
            usable.append((row, found))
    if not usable:
        return 0
    with running.timed("encode", len(usable)):
        vectors = encode([found.probe_question for _, found in usable])
    with running.timed("store", len(usable)), db.begin() as connection:
        connection.execute(
            query("enrichment", "set_probes"),
            {
                "cpe_ids": [row.cpe_id for row, _ in usable],
                "questions": [found.probe_question for _, found in usable],
                "answers": [found.expected_answer for _, found in usable],
                "probes": [vector_text(vector) for vector in vectors],
                "soft": [_json(found.soft_negatives) for _, found in usable],
                "hard": [_json(found.hard_negatives) for _, found in usable],
            },
        )
    return len(usable)


def _json(texts: tuple[str, ...] | None) -> str | None:
    return None if texts is None else json.dumps(texts)
