"""`lvmdb evaluate-text`: what a run's predictions are worth as text, as rows.

Predictions and true vectors go through the same decoder with the same concepts left out, those of
the context: what the true vectors lose is the decoder's, the rest is the model's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete

from lvmdb.corpus.articles import Vectors
from lvmdb.db import runs
from lvmdb.db.engine import Database
from lvmdb.db.schema.evaluations import evaluation
from lvmdb.decoding.decoded import Decoded, Decoder
from lvmdb.decoding.smoothing import Asked, Smoothed, smooth
from lvmdb.errors import RunError, UsageError
from lvmdb.evaluation.inference import load_inference
from lvmdb.evaluation.pool import Pool, load_pool
from lvmdb.evaluation.records import (
    RankedIn,
    lock_comparison,
    write_differences,
    write_evaluations,
)
from lvmdb.evaluation.scores import Score
from lvmdb.evaluation.text_scores import Times, text_scores
from lvmdb.evaluation.text_windows import Texts, Windows, drawn, load_windows
from lvmdb.evaluation.windows import sequences_of
from lvmdb.metrics.text_definitions import POOL, TEXT_METRICS
from lvmdb.metrics.text_queries import TextQueries
from lvmdb.metrics.texts import require_packages
from lvmdb.progress import SILENT, Progress
from lvmdb.training.environment import code_version, resolve_device
from lvmdb.training.train import check_data

Ints = NDArray[np.int64]

_TOGETHER = 500
"""Vectors decoded at a time."""

_WARM_UP = 5
"""Answers before time is taken."""

_HOPELESS = 3
"""So many texts in a row that the language model did not rewrite at the start end it."""


@dataclass(frozen=True)
class Asking:
    """What is measured.

    Attributes:
        split: whose windows.
        most: windows at most, drawn at random; None takes all.
        timed: windows that are answered one at a time, for the times of the stages.
        smoothed: decoded texts that are rewritten, if there is a language model.
        seed: of what is drawn.
        device: where models predict.

    Raises:
        UsageError: a number is none.
    """

    split: str = "test"
    most: int | None = None
    timed: int = 100
    smoothed: int = 50
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        least = {"most": 1, "timed": 0, "smoothed": 1}
        for name, lowest in least.items():
            given = getattr(self, name)
            if given is not None and given < lowest:
                raise UsageError(f"--{name} is {lowest} or more, not {given}")


@dataclass(frozen=True)
class EvaluatedText:
    """What was found.

    Attributes:
        scores: by the key of the text measure.
        pools: what they were taken in, by kind.
        queries: windows that were decoded.
        unsmoothed: why the language model did not rewrite a text, each reason once.
    """

    scores: dict[str, Score]
    pools: dict[str, RankedIn]
    queries: int
    unsmoothed: tuple[str, ...] = ()


def evaluate_text(
    db: Database,
    run_id: int,
    decoder: Decoder,
    name: str,
    asking: Asking,
    *,
    about: str = "",
    llm: Asked | None = None,
    encode: Callable[[Sequence[str]], Vectors] | None = None,
    progress: Progress = SILENT,
) -> EvaluatedText:
    """Decode the predictions of a split and the true vectors; measure, and replace the rows.

    Without a language model, rows of rewritten texts are kept where they are still of the texts
    that were decoded now, and else deleted.

    Args:
        db: the database.
        run_id: a run that has succeeded.
        decoder: turns vectors into texts.
        name: of the decoder; pools are called by it.
        asking: what is measured.
        about: what the decoder's answers depend on besides: only values of one are compared.
        llm: rewrites decoded texts, if they are to be measured as well.
        encode: the dataset's encoder, from texts to unit vectors; needed for rewritten texts.
        progress: told of vectors decoded and texts rewritten.

    Raises:
        MissingDependencyError: what measures texts is not installed.
        UnknownNameError: there is no such run.
        RunError: the run has not succeeded, or the language model rewrites nothing.
        SequenceError: the split has no windows, or the data changed.
    """
    if llm is not None and encode is None:
        raise UsageError("rewritten texts are measured by the dataset's encoder: it is needed")
    require_packages()
    run = runs.get(db, run_id)
    sequences = sequences_of(db, run, asking.split)
    check_data(db, run, sequences)
    pool = load_pool(db, sequences.dataset_source)
    windows, checkpoint = load_windows(
        db, run, sequences, pool, asking.split,
        most=asking.most, seed=asking.seed, device=asking.device, progress=progress,
    )  # fmt: skip
    texts = Texts(db, pool, windows, asking.seed)
    decoded = {
        kind: _decode(decoder, vectors, windows.without, f"{kind} texts", progress)
        for kind, vectors in (
            ("decoded", windows.prediction),
            ("truth", pool.vectors[windows.truth]),
        )
    }
    queries = {kind: texts.queries(found) for kind, found in decoded.items()}
    times = {"decoded": _times(db, run_id, decoder, pool, windows, asking)}
    unsmoothed: tuple[str, ...] = ()
    if llm is not None and encode is not None:
        rows = drawn(len(windows.truth), asking.smoothed, asking.seed + 1)
        said = _smooth(llm, queries["decoded"], texts, rows, progress)
        queries["smoothed"] = texts.rewritten(queries["decoded"], rows, said, encode)
        times["smoothed"] = {"smooth": np.array([each.seconds for each in said])}
        unsmoothed = tuple(dict.fromkeys(each.why for each in said if each.why is not None))
    articles = {kind: texts.article_ids(asked.truth) for kind, asked in queries.items()}
    scores = text_scores(queries, articles, times)
    pools = _pools(pool, name, about, windows)
    with db.begin() as connection:
        lock_comparison(connection, sequences.sequence_set_id, asking.split)
        for kind, ranked in pools.items():
            if kind not in queries:
                _forget(connection, run_id, asking.split, ranked, checkpoint)
                continue
            write_evaluations(
                connection,
                run_id=run_id,
                split=asking.split,
                scores={key: s for key, s in scores.items() if TEXT_METRICS[key].pool == kind},
                pools={kind: ranked},
                articles=np.unique(articles[kind]),
                distinct_truths=len(np.unique(queries[kind].truth)),
                checkpoint_sha256=checkpoint,
                code=code_version(),
                definitions=TEXT_METRICS,
            )
        pools = {kind: ranked for kind, ranked in pools.items() if kind in queries}
        names = [each.name for each in pools.values()]
        write_differences(connection, run_id, asking.split, names)
    return EvaluatedText(scores, pools, len(windows.truth), unsmoothed)


def _decode(
    decoder: Decoder,
    vectors: Vectors,
    without: Sequence[Sequence[UUID]],
    what: str,
    progress: Progress,
) -> list[Decoded]:
    decoded: list[Decoded] = []
    with progress.task(what, len(vectors), "vectors") as advance:
        for start in range(0, len(vectors), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            decoded += decoder.decode(vectors[part], without=without[part])
            advance(len(vectors[part]))
    return decoded


def _times(
    db: Database, run_id: int, decoder: Decoder, pool: Pool, windows: Windows, asking: Asking
) -> Times:
    """Seconds of each stage, one answer at a time."""
    if not asking.timed:
        return {}
    infer = load_inference(db, run_id, resolve_device(asking.device))
    rows = drawn(len(windows.truth), asking.timed, asking.seed + 2)
    found: dict[str, list[float]] = {}
    for number, row in enumerate([*rows[:_WARM_UP], *rows]):
        context = pool.vectors[windows.context[row]]
        began = perf_counter()
        vector = infer([context])
        seconds = {"vectors": perf_counter() - began}
        (decoded,) = decoder.decode(vector, without=[windows.without[row]])
        if number >= min(_WARM_UP, len(rows)):
            for stage, taken in {**seconds, **decoded.seconds}.items():
                found.setdefault(stage, []).append(taken)
    return {stage: np.array(taken) for stage, taken in found.items()}


def _smooth(
    llm: Asked, decoded: TextQueries, texts: Texts, rows: Ints, progress: Progress
) -> list[Smoothed]:
    said: list[Smoothed] = []
    with progress.task("texts rewritten", len(rows), "texts") as advance:
        for row in rows:
            said.append(smooth(llm, [decoded.texts[row]], context=texts.context(int(row))))
            advance(1)
            if len(said) == _HOPELESS and not any(each.smoothed for each in said):
                raise RunError(
                    f"the language model rewrote none of {_HOPELESS} texts: {said[-1].why}"
                )
    return said


def _forget(
    connection: Connection, run_id: int, split: str, ranked: RankedIn, checkpoint_sha256: bytes
) -> None:
    """Delete what was measured of other texts than those of this pool and these weights."""
    same = (evaluation.c.pool_fingerprint == ranked.fingerprint) & (
        evaluation.c.checkpoint_sha256 == checkpoint_sha256
    )
    connection.execute(
        delete(evaluation).where(
            evaluation.c.run_id == run_id,
            evaluation.c.split == split,
            evaluation.c.pool == ranked.name,
            same.is_not(True),
        )
    )


def _pools(pool: Pool, name: str, about: str, windows: Windows) -> dict[str, RankedIn]:
    """What the texts were decoded among, by kind; told apart by all that answers depend on."""
    asked = hashlib.sha256(windows.truth.tobytes()).digest()
    digest = hashlib.sha256(pool.fingerprint + asked + f"{name} {about}".encode()).digest()
    names = {"decoded": name, "truth": f"{name}/truth", "smoothed": f"{name}/smoothed"}
    return {kind: RankedIn(POOL + each, len(pool), digest) for kind, each in names.items()}
