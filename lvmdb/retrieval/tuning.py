"""`lvmdb index tune`: the least effort at which an index finds what exact search finds.

`ef_search` of HNSW, `probes` of IVFFlat: more of it finds more and takes longer. How much a corpus
needs cannot be known beforehand, so it is measured on that corpus, by queries like those to come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import update

from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database, raw
from lvmdb.db.queries import psycopg_sql
from lvmdb.db.schema.retrieval import ann_index
from lvmdb.db.types import DIMENSION
from lvmdb.errors import CorpusError, UsageError
from lvmdb.metrics.ranking import TOLERANCE
from lvmdb.progress import SILENT, Progress
from lvmdb.retrieval.corpus import fingerprint
from lvmdb.retrieval.exact import Neighbours, exact_neighbours
from lvmdb.retrieval.found import check_k, directions
from lvmdb.retrieval.indexes import Usable
from lvmdb.retrieval.searcher import Searcher

QUERIES = 500

_SEED = 0


@dataclass(frozen=True)
class Recall:
    """Of each query's k nearest, the share that was found.

    Attributes:
        mean: over the queries.
        low: a percentile of them.
        least: of the worst query.
    """

    mean: float
    low: float
    least: float


@dataclass(frozen=True)
class Tuned:
    """What was found.

    Attributes:
        index: that was tuned.
        effort: the least `ef_search` or `probes` that reached the recall.
        recall: there.
        steps: all that was tried: effort and recall, in the order of the effort.
        queries: how many were asked.
        origin: what the queries were.
    """

    index: Usable
    effort: int
    recall: Recall
    steps: list[tuple[int, Recall]]
    queries: int
    origin: str


def recalls(found: Neighbours, exact: Neighbours) -> NDArray[np.float64]:
    """`(n,)`: of each query's exact nearest, the share found; what is as near as the last of them,
    tied with it as evaluation has it, is as good an answer."""
    last = np.nanmin(exact.cosine, axis=1, keepdims=True)
    near_enough = found.cosine >= last - TOLERANCE
    return np.asarray(near_enough.sum(axis=1) / exact.counts, dtype=np.float64)


def tune(
    db: Database,
    dataset: str,
    index: Usable,
    *,
    recall: float = 0.99,
    percentile: float | None = None,
    k: int = 10,
    queries: int = QUERIES,
    run_id: int | None = None,
    progress: Progress = SILENT,
) -> Tuned:
    """Find the least effort that reaches a recall, and store it for the index's searches.

    Args:
        db: the database.
        dataset: whose index it is.
        index: which.
        recall: what the mean over the queries must reach.
        percentile: of the queries, that must reach it as well; None demands the mean alone.
        k: how many nearest count.
        queries: how many to ask.
        run_id: ask with predictions of this run; None asks with sums of neighbouring concepts,
            which lie off the data as predictions do.
        progress: told of each step.

    Raises:
        UsageError: an option is out of its range.
        CorpusError: there is nothing to ask with; or the recall is not reached with any effort.
    """
    if not 0 < recall <= 1:
        raise UsageError(f"--recall is above 0, and 1 at most, not {recall}")
    if percentile is not None and not 0 <= percentile < 100:
        raise UsageError(f"--percentile is from 0 to below 100, not {percentile}")
    if queries < 1:
        raise UsageError(f"--queries is 1 or more, not {queries}")
    check_k(k)
    asked, origin = _queries(db, dataset, queries, run_id)
    progress.say(f"{len(asked)} queries ({origin}), searched exactly")
    tuned_on = fingerprint(db, dataset)
    exact = exact_neighbours(db, dataset, asked, k, metric=index.metric)
    tried: dict[int, Recall] = {}
    wanted_low = 5 if percentile is None else percentile

    def reaches(effort: int) -> bool:
        if effort not in tried:
            searcher.effort = effort
            each = recalls(searcher.batch(asked, k), exact)
            low = float(np.percentile(each, wanted_low, method="lower"))
            tried[effort] = Recall(float(each.mean()), low, float(each.min()))
            progress.say(
                f"{index.effort_name} {effort}: recall@{k} {tried[effort].mean:.4f}, "
                f"percentile {wanted_low:g} {low:.3f}"
            )
        found = tried[effort]
        return found.mean >= recall and (percentile is None or found.low >= recall)

    with Searcher(
        db, dataset, kind=index.kind, storage=index.storage, metric=index.metric
    ) as searcher:
        effort = _least(1 if index.kind == "ivfflat" else k, index.most_effort, reaches)
    if effort is None:
        best = tried[max(tried)]
        more = (
            f"{index.effort_name} of {index.name} ends at {max(tried)}, with recall {best.mean:.4f}"
            f" (percentile {wanted_low:g}: {best.low:.3f}): it cannot reach {recall}; "
        )
        raise CorpusError(more + "build it with larger --m and --ef-construction, on halfvec")
    told = {
        "recall": recall, "percentile": percentile, "k": k, "queries": len(asked),
        "origin": origin, "mean": round(tried[effort].mean, 6),
        f"p{wanted_low:g}": tried[effort].low, "min": tried[effort].least,
        "tuned_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    _store(db, index, effort, told, tuned_on)
    return Tuned(index, effort, tried[effort], sorted(tried.items()), len(asked), origin)


def _least(low: int, most: int, reaches: Callable[[int], bool]) -> int | None:
    """The least number from `low` to `most` that reaches; None if the most does not."""
    low = min(low, most)
    high = low
    while not reaches(high):
        if high == most:
            return None
        low, high = high + 1, min(most, 2 * high)
    while low < high:
        middle = (low + high) // 2
        if reaches(middle):
            high = middle
        else:
            low = middle + 1
    return high


def _queries(
    db: Database, dataset: str, most: int, run_id: int | None
) -> tuple[NDArray[np.float32], str]:
    """Queries `(n, 768)` of unit norm, and what they are."""
    name = "neighbours_of_concepts" if run_id is None else "predictions_of_run"
    given: dict[str, Any] = {"dataset": dataset, "queries": most, "seed": _SEED}
    if run_id is not None:
        given["run_id"] = run_id
    with db.connect() as connection, raw(connection).cursor(binary=True) as cursor:
        rows = cursor.execute(psycopg_sql("retrieval", name), given).fetchall()
    if not rows:
        raise CorpusError(
            f"dataset '{dataset}' has no article of two concepts to make queries from"
            if run_id is None
            else f"run {run_id} has no predictions for dataset '{dataset}': evaluate it first"
        )
    if run_id is not None:
        return directions(parsed_vectors([row[0] for row in rows], DIMENSION)), (
            f"predictions of run {run_id}"
        )
    first = parsed_vectors([row[0] for row in rows], DIMENSION)
    second = parsed_vectors([row[1] for row in rows], DIMENSION)
    sums = first + second
    return directions(sums[np.linalg.norm(sums, axis=1) > 0]), "sums of neighbouring concepts"


def _store(
    db: Database, index: Usable, effort: int, told: dict[str, Any], fingerprint: bytes
) -> None:
    with db.begin() as connection:
        connection.execute(
            update(ann_index)
            .where(ann_index.c.name == index.name)
            .values(
                query_parameters={index.effort_name: effort},
                tuning=told,
                tuned_fingerprint=fingerprint,
            )
        )
