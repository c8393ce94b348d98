"""`lvmdb bench ingest`: whether the encoder is kept busy, and what each step costs.

In turns, over the same articles: the encoder alone on all of their texts; the whole ingest; and the
ingest with the vectors given, which is everything but encoding. Each pass writes to a database of
its own that is dropped afterwards. Beside the steps stand those of the pipeline that lvmdb was made
after, as it published them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import psycopg
from psycopg import conninfo, sql

from lvmdb.corpus.articles import Vectors
from lvmdb.corpus.encoder import Encoder
from lvmdb.corpus.ingest import ingest
from lvmdb.corpus.plan import IngestPlan
from lvmdb.db import migrate
from lvmdb.db.benchmarks import CONCEPTS, Measured
from lvmdb.db.engine import Database, translated_errors
from lvmdb.errors import InputError, UsageError
from lvmdb.progress import SILENT, Progress

ALONE, WHOLE, GIVEN = "encoder alone", "ingest", "ingest, vectors given"

PREDECESSOR = {"episodes": 398, "chunk": 849, "tag": 394, "encode": 388, "whole": 4600}
"""Milliseconds an article that the predecessor's pipeline took, by step and as a whole."""

PREDECESSOR_CONCEPTS = 48.4
"""Concepts an article, there."""

STEPS = ("read", "chunk", "encode", "tag", "episodes", "store")


class GivenVectors:
    """An encoder's results, instead of the encoder.

    Args:
        encoder: whose name they go by.
        vectors: of texts.
    """

    def __init__(self, encoder: Encoder, vectors: dict[str, Vectors]) -> None:
        self._encoder, self._vectors = encoder, vectors

    def encode(
        self, texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> Vectors:
        """Their vectors, `(len(texts), 768)`; of texts that are not known the encoder's."""
        unknown = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if unknown:
            made = self._encoder.encode(unknown)
            self._vectors |= dict(zip(unknown, made, strict=True))
        if progress is not None:
            progress(len(texts))
        return np.stack([self._vectors[text] for text in texts])

    def remember(self, texts: Sequence[str], vectors: Vectors) -> None:
        """From now on these are given."""
        self._vectors |= dict(zip(texts, vectors, strict=True))

    def __getattr__(self, name: str) -> object:
        return getattr(self._encoder, name)


@dataclass
class _Passes:
    """Concepts a second of each pass, by contender and by step."""

    speeds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, concepts: int, seconds: float) -> None:
        self.speeds.setdefault(name, []).append(concepts / max(seconds, 1e-9))


def bench_ingest(
    db: Database,
    plan: IngestPlan,
    *,
    repetitions: int = 3,
    progress: Progress = SILENT,
) -> list[Measured]:
    """Measure an ingest.

    Args:
        db: says on which server; its own tables are not touched.
        plan: what is ingested; its dataset is only a name.
        repetitions: measured passes; one more before them is not counted.
        progress: told of every pass.

    Returns:
        Concepts a second: of the encoder alone, the ingest, all but encoding, and each step.

    Raises:
        UsageError: there is no encoder.
        InputError: the source has nothing that becomes a concept.
        DatabaseError: this user may not create databases.
    """
    if plan.encoder is None:
        raise UsageError("what is measured is how busy the encoder is: give an --encoder")
    articles = list(plan.reader(plan.source, limit=plan.limit))
    encoder = plan.load_encoder()
    texts = [chunk.text for a in articles for chunk in plan.chunker.chunks(a.text)]
    if not texts:
        raise InputError(f"{plan.source}: none of its articles has a concept")
    whole = replace(plan, load_encoder=lambda: encoder, shared=False, survey=False)
    known = GivenVectors(encoder, {})
    given = replace(whole, load_encoder=lambda: known)  # type: ignore[arg-type, return-value]
    passes = _Passes()
    turns: list[Callable[[_Passes], None]] = [
        lambda into: _alone(encoder, texts, into, known),
        lambda into: _ingested(db, whole, WHOLE, into),
        lambda into: _ingested(db, given, GIVEN, into),
    ]
    total = (repetitions + 1) * len(turns)
    with progress.task("measuring", total, "passes") as advance:
        for repetition in range(repetitions + 1):
            into = passes if repetition else _Passes()
            # The given vectors come from the first pass of the encoder.
            for turn in turns if repetition % 2 == 0 else [turns[1], turns[0], turns[2]]:
                turn(into)
                advance(1)
    return _measured(passes, len(texts), len(articles))


def _alone(encoder: Encoder, texts: Sequence[str], into: _Passes, known: GivenVectors) -> None:
    began = time.perf_counter()
    vectors = encoder.encode(texts)
    into.add(ALONE, len(texts), time.perf_counter() - began)
    known.remember(texts, vectors)


def _ingested(db: Database, plan: IngestPlan, name: str, into: _Passes) -> None:
    with scratch(db) as database:
        began = time.perf_counter()
        done = ingest(database, plan)
        seconds = time.perf_counter() - began
        concepts = done.totals.concepts
        with database.raw_connection() as connection:
            rows = connection.execute("SELECT step, seconds FROM pipeline_timing").fetchall()
    spent = dict(rows)
    # What comes before the first article: the encoder's fingerprint, and the labels' vectors.
    into.add(name, concepts, seconds - spent.get("load encoder", 0.0))
    for step in STEPS:
        if step in spent:
            into.add(f"{step}, {name}", concepts, spent[step])


@contextmanager
def scratch(db: Database) -> Iterator[Database]:
    """A migrated database on the same server, dropped in the end.

    Raises:
        DatabaseError: this user may not create databases.
    """
    name = sql.Identifier(f"lvmdb_bench_{os.getpid()}")
    with translated_errors(), psycopg.connect(db.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            made = Database(conninfo.make_conninfo(db.dsn, dbname=f"lvmdb_bench_{os.getpid()}"))
            migrate.upgrade(made)
            yield made
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def _measured(passes: _Passes, concepts: int, articles: int) -> list[Measured]:
    sizes = {"concepts": concepts, "articles": articles}
    found = [
        Measured(ALONE, CONCEPTS, passes.speeds[ALONE], None, {**sizes, "kind": "encoder"}),
        Measured(WHOLE, CONCEPTS, passes.speeds[WHOLE], ALONE, {**sizes, "kind": "lvmdb"}),
        Measured(GIVEN, CONCEPTS, passes.speeds[GIVEN], None, {**sizes, "kind": "lvmdb"}),
    ]
    for step in STEPS:
        # Of encoding, how fast it was while the rest went on; of the rest, how fast it can be.
        measured_in = WHOLE if step == "encode" else GIVEN
        speeds = passes.speeds.get(f"{step}, {measured_in}")
        if speeds is None:
            continue
        peer = _published(step) if step in PREDECESSOR else None
        name = peer.contender if peer else None
        found.append(
            Measured(step, CONCEPTS, speeds, name, {**sizes, "kind": "lvmdb", "in": measured_in})
        )
        found += [peer] if peer else []
    return [*found, _published("whole")]


def _published(step: str) -> Measured:
    milliseconds = PREDECESSOR[step]
    return Measured(
        f"{step}, the predecessor's",
        CONCEPTS,
        [1000 * PREDECESSOR_CONCEPTS / milliseconds],
        None,
        {"kind": "predecessor", "ms_an_article": milliseconds, "published": True},
    )
