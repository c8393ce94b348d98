"""`lvmdb bench vecrag`: does a model's prediction find what comes next better than a plain query?

Held-out windows are queries. Each contender gives its best ten concepts, none of the context:

- `plain vector`: those nearest to the vector of the last concept that was read;
- `prediction`: those nearest to what the run predicts from the context;
- `full text` and `full text, rarest N`: those that PostgreSQL's full-text search ranks first by the
  words of the last concept's text, all of them or the rarest.

Two things count as found. `next`: the true next concept, one of a dataset. `article`: any concept
of the same article outside of the context, what a reader of the passage may want.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvmdb.corpus.articles import Vectors
from lvmdb.db import runs
from lvmdb.db.benchmarks import Measured
from lvmdb.db.engine import Database
from lvmdb.evaluation.full_text import ALL_WORDS, FullText, full_text
from lvmdb.evaluation.inference import Inference, load_inference
from lvmdb.evaluation.pool import Pool, load_pool
from lvmdb.evaluation.text_windows import Texts, Windows, drawn, load_windows
from lvmdb.evaluation.vecrag_rows import vecrag_measured, vecrag_rows
from lvmdb.evaluation.windows import sequences_of
from lvmdb.progress import SILENT, Progress
from lvmdb.retrieval.searcher import Searcher
from lvmdb.training.environment import resolve_device
from lvmdb.training.train import check_data

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FOUND = 10
"""Concepts that a contender gives for a query; beyond them nothing counts."""

PLAIN, PREDICTION, FULL_TEXT = "plain vector", "prediction", "full text"
_NOTHING = -1
"""The row of a place that nothing was found for."""

_UNINDEXED = 3
"""Queries of full-text search without an index, to tell how long one takes."""


@dataclass(frozen=True)
class VecRag:
    """What is asked.

    Attributes:
        run_id: whose predictions.
        split: whose windows.
        queries: windows, drawn at random: the same for every run.
        timed: those of them that vector searches are timed on, one at a time.
        rarest: words that the second full-text contender asks for.
        config: of PostgreSQL's text search.
        exact: compare with every vector instead of an index.
        seed: of what is drawn.
        device: where the model predicts.
    """

    run_id: int
    split: str = "test"
    queries: int = 500
    timed: int = 50
    rarest: int = 8
    config: str = "english"
    exact: bool = False
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Found:
    """What was measured.

    Attributes:
        measured: as rows of the table `benchmark`.
        rows: for people: one a contender, notion of relevance and measure.
        times: one a contender: milliseconds of a query.
        subject: the sequence set.
        parameters: of the call.
    """

    measured: Sequence[Measured]
    rows: list[dict[str, Any]]
    times: list[dict[str, Any]]
    subject: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class _Answers:
    """A contender's: rows of the pool `(n, FOUND)`, best first, and seconds of single queries."""

    rows: Ints
    seconds: Floats


def vecrag(db: Database, asked: VecRag, *, progress: Progress = SILENT) -> Found:
    """Ask every contender for every query, and hold what they give against the truth.

    Raises:
        UnknownNameError: there is no such run.
        RunError: the run has not succeeded.
        SequenceError: the split has no windows, or the data changed.
        CorpusError: the dataset has no index, and an exact search was not asked for.
        UsageError: the server has no such text search configuration.
    """
    run = runs.get(db, asked.run_id)
    sequences = sequences_of(db, run, asked.split)
    check_data(db, run, sequences)
    with Searcher(db, sequences.dataset_source, exact=asked.exact) as searcher:
        pool = load_pool(db, sequences.dataset_source)
        windows, _ = load_windows(
            db, run, sequences, pool, asked.split,
            most=asked.queries, seed=asked.seed, device=asked.device, progress=progress,
        )  # fmt: skip
        texts = Texts(db, pool, windows, asked.seed)
        infer = load_inference(db, asked.run_id, resolve_device(asked.device))
        answers = _by_vectors(searcher, pool, windows, infer, asked, progress)
        with full_text(db, sequences.dataset_source, asked.config) as words:
            answers |= _by_words(words, pool, windows, texts, asked, progress)
            indexing = words.seconds
    relevant = _relevant(answers, windows, texts)
    rows = vecrag_rows(relevant, texts.article_ids(windows.truth), PLAIN)
    parameters = {
        "run_id": asked.run_id,
        "architecture": run.architecture,
        "split": asked.split,
        "queries": len(windows.truth),
        "concepts": len(pool),
        "seed": asked.seed,
        "text_search": asked.config,
        "text_index_seconds": round(indexing, 3),
        "search": searcher.index.name if searcher.index else "exact",
    }
    times = [
        {
            "contender": name,
            "ms_p50": 1000 * float(np.quantile(each.seconds, 0.5)),
            "ms_p95": 1000 * float(np.quantile(each.seconds, 0.95)),
            "queries": len(each.seconds),
        }
        for name, each in answers.items()
        if len(each.seconds)
    ]
    measured = vecrag_measured(rows, {name: each.seconds for name, each in answers.items()})
    return Found(measured, rows, times, sequences.name, parameters)


def _by_vectors(
    searcher: Searcher,
    pool: Pool,
    windows: Windows,
    infer: Inference,
    asked: VecRag,
    progress: Progress,
) -> dict[str, _Answers]:
    """The answers of both vector searches; the model's time is in that of the prediction."""
    plain = pool.vectors[windows.context[:, -1]]
    # A prediction of zeros has no direction: any concept is as near.
    lengths = np.linalg.norm(windows.prediction, axis=1)
    predicted = np.where(lengths[:, None] > 0, windows.prediction, plain)
    place = {cpe_id: row for row, cpe_id in enumerate(pool.cpe_id)}
    timed = drawn(len(plain), asked.timed, asked.seed + 1)
    found = {}
    for name, vectors in ((PLAIN, plain), (PREDICTION, predicted)):
        near = searcher.batch(vectors, FOUND, without=windows.without)
        rows = np.full((len(vectors), FOUND), _NOTHING)
        for row in range(len(vectors)):
            if name == PREDICTION and not lengths[row]:
                continue
            ids = near.ids(row)[:FOUND]
            rows[row, : len(ids)] = [place.get(each.bytes, _NOTHING) for each in ids]
        ask = partial(
            _ask_vector, searcher, pool, windows, vectors, infer if name == PREDICTION else None
        )
        found[name] = _Answers(rows, _timed(ask, timed))
        progress.say(f"{name}: {len(vectors)} queries")
    return found


def _ask_vector(
    searcher: Searcher,
    pool: Pool,
    windows: Windows,
    vectors: Vectors,
    infer: Inference | None,
    row: int,
) -> None:
    vector = vectors[row]
    if infer is not None:
        (vector,) = infer([pool.vectors[windows.context[row]]])
    searcher.nearest(vector, FOUND + windows.context.shape[1])


def _by_words(
    words: FullText,
    pool: Pool,
    windows: Windows,
    texts: Texts,
    asked: VecRag,
    progress: Progress,
) -> dict[str, _Answers]:
    place = {cpe_id: row for row, cpe_id in enumerate(pool.cpe_id)}
    queries = texts.of(windows.context[:, -1])
    found = {}
    few = f"{FULL_TEXT}, rarest {asked.rarest}"
    for name, most in ((FULL_TEXT, ALL_WORDS), (few, asked.rarest)):
        rows, seconds = np.full((len(queries), FOUND), _NOTHING), np.zeros(len(queries))
        with progress.task(name, len(queries), "queries") as advance:
            for row, text in enumerate(queries):
                began = perf_counter()
                ids = words.nearest(text, FOUND, windows.without[row], most_words=most)
                seconds[row] = perf_counter() - began
                rows[row, : len(ids)] = [place.get(each.bytes, _NOTHING) for each in ids]
                advance(1)
        found[name] = _Answers(rows, seconds)

    def ask(row: int) -> None:
        words.nearest(
            queries[row], FOUND, windows.without[row], most_words=asked.rarest, indexed=False
        )

    seconds = _timed(ask, np.arange(min(_UNINDEXED, len(queries))))
    found[f"{few}, no index"] = _Answers(np.empty((0, FOUND), dtype=np.int64), seconds)
    return found


def _timed(ask: Callable[[int], None], rows: Ints) -> Floats:
    """Seconds of each query, one at a time, the first of them once before."""
    seconds = np.zeros(len(rows))
    for number, row in enumerate([*rows[:1], *rows]):
        began = perf_counter()
        ask(int(row))
        if number:
            seconds[number - 1] = perf_counter() - began
    return seconds


def _relevant(
    answers: Mapping[str, _Answers], windows: Windows, texts: Texts
) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """What each contender found that counts, `(n, FOUND)`, by contender and notion."""
    found = {}
    own = texts.article_ids(windows.truth)
    for name, each in answers.items():
        if len(each.rows):
            there = each.rows != _NOTHING
            found[name, "next"] = there & (each.rows == windows.truth[:, None])
            found[name, "article"] = there & (texts.article_ids(each.rows) == own[:, None])
    return found
