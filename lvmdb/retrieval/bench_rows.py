"""What a retrieval benchmark measured, as rows of `ann_benchmark`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert

from lvmdb.db.engine import Database
from lvmdb.db.schema.retrieval import ann_benchmark
from lvmdb.retrieval.bench import PERCENTILES, K, Point
from lvmdb.retrieval.bench_corpus import PREDICTIONS, Searched


def write(
    db: Database,
    searched: Searched,
    points: Sequence[Point],
    *,
    run_id: int | None = None,
    environment: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Store one call's points.

    Args:
        db: where.
        searched: the corpus.
        points: of `bench.measure`.
        run_id: whose predictions were asked for.
        environment: of the process.

    Returns:
        The rows, without the session, the fingerprint and the environment.
    """
    rows = [_row(searched, point, run_id) for point in points]
    common = {
        "session_id": uuid.uuid4(),
        "corpus_fingerprint": searched.fingerprint,
        "environment": {**environment, "articles_left_out": len(searched.left_out)},
    }
    with db.begin() as connection:
        connection.execute(insert(ann_benchmark), [{**row, **common} for row in rows])
    return rows


def _row(searched: Searched, point: Point, run_id: int | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "dataset_source": None if searched.synthetic else searched.name,
        "corpus_vectors": len(searched.ids),
        "engine": point.engine,
        "build_parameters": dict(point.build_arguments),
        "build_threads": point.built.threads,
        "build_seconds": point.built.seconds,
        "build_memory": point.built.memory,
        "index_bytes": point.built.bytes,
        "query_parameters": dict(point.query_arguments),
        "query_kind": point.query_kind,
        "query_run_id": run_id if point.query_kind == PREDICTIONS else None,
        "queries": point.queries,
        "threads": point.threads,
        "k": K,
        "parity": point.parity,
        "queries_per_second": point.queries_per_second,
        "batch_queries_per_second": point.batch_queries_per_second,
        "round_trip_p50": point.round_trip,
    }
    for k, suffix in ((K, ""), (1, "_1"), (50, "_50")):
        spread = point.recall.get(k)
        row |= {
            f"recall{suffix}": spread and spread.mean,
            f"recall{suffix}_p5": spread and spread.p5,
            f"recall{suffix}_min": spread and spread.least,
        }
    for percentile, seconds in zip(PERCENTILES, point.latency, strict=True):
        row[f"latency_p{percentile}"] = seconds
    return row
