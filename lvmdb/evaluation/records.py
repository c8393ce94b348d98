"""What an evaluation found, as rows: predictions, metrics, sums by article, differences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, insert

from lvmdb.db import bulk
from lvmdb.db.queries import query
from lvmdb.db.schema.evaluations import evaluation, evaluation_difference, prediction
from lvmdb.evaluation.scores import Score
from lvmdb.metrics import vectors
from lvmdb.metrics.definitions import METRICS
from lvmdb.metrics.intervals import difference_intervals, verdict
from lvmdb.metrics.queries import Queries

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_Sums = tuple[Ints, Floats, Floats]

_PAIRS = 1_000
"""Evaluations compared at a time: their sums by article are in memory."""


class Defined(Protocol):
    """What is stored of a metric's definition with each value."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def direction(self) -> int: ...
    @property
    def pool(self) -> str: ...


@dataclass(frozen=True)
class RankedIn:
    """A pool as evaluations name it.

    Attributes:
        name: `corpus`, `article`, or that of a drawn pool.
        size: concepts that a truth was held against, itself included; their mean if it differs.
        fingerprint: only values of one pool are compared.
    """

    name: str
    size: int
    fingerprint: bytes


def write_predictions(
    connection: Connection, run_id: int, split: str, cpe_id: Sequence[bytes], queries: Queries
) -> None:
    """Replace the predictions of a split.

    Args:
        connection: in a transaction.
        run_id, split: whose they are.
        cpe_id: of the truths, 16 bytes each.
        queries: predictions and ranks.
    """
    rows = len(queries)
    connection.execute(
        delete(prediction).where(prediction.c.run_id == run_id, prediction.c.split == split)
    )
    predicted, target = queries.prediction, queries.target
    bulk.copy_rows(
        connection,
        "prediction",
        {
            "run_id": bulk.integers(np.full(rows, run_id), 8),
            "target_cpe_id": bulk.uuids(cpe_id),
            "split": bulk.texts([split] * rows),
            "predicted_vec": bulk.vectors(predicted.astype(np.float32)),
            "cosine": bulk.reals(vectors.cosine(predicted, target)),
            "margin": bulk.reals(vectors.margin(predicted, target, queries.last_context)),
            "mse": bulk.reals(vectors.mse(predicted, target)),
            "better": bulk.integers(queries.ranks.greater),
            "tied": bulk.integers(queries.ranks.ties),
            "candidates": bulk.integers(queries.ranks.candidates),
        },
    )


def write_evaluations(
    connection: Connection,
    *,
    run_id: int,
    split: str,
    scores: dict[str, Score],
    pools: dict[str, RankedIn],
    articles: Ints,
    distinct_truths: int,
    checkpoint_sha256: bytes,
    code: tuple[str, bool | None],
    definitions: Mapping[str, Defined] = METRICS,
) -> None:
    """Replace the evaluations of a split in these pools, with their sums by article.

    Args:
        connection: in a transaction.
        run_id, split: what was evaluated.
        scores: by the key of the metric.
        pools: by kind: one of `metrics.definitions.POOLS`.
        articles: `(articles,)` ids, in the order of the scores' sums.
        distinct_truths: how many.
        checkpoint_sha256: of the weights.
        code: version that computed it, and whether it had changes that are in no commit.
        definitions: of the metrics, by key.
    """
    connection.execute(
        delete(evaluation).where(
            evaluation.c.run_id == run_id,
            evaluation.c.split == split,
            evaluation.c.pool.in_([pool.name for pool in pools.values()]),
        )
    )
    rows = []
    for key, score in scores.items():
        metric, pool = definitions[key], pools[definitions[key].pool]
        low, high = score.interval or (None, None)
        rows.append(
            {
                "run_id": run_id,
                "split": split,
                "pool": pool.name,
                "metric": metric.name,
                "version": metric.version,
                "direction": metric.direction,
                "value": score.value,
                "low": low,
                "high": high,
                "articles": score.articles or None,
                "pool_size": pool.size,
                "pool_fingerprint": pool.fingerprint,
                "queries": score.queries,
                "distinct_truths": min(distinct_truths, score.queries),
                "chance": score.chance,
                "checkpoint_sha256": checkpoint_sha256,
                "code_version": code[0],
                "code_dirty": code[1],
            }
        )
    ids = connection.scalars(
        insert(evaluation).returning(evaluation.c.evaluation_id, sort_by_parameter_order=True), rows
    ).all()
    if not any(len(score.totals) for score in scores.values()):
        return
    summed = [(each, s) for each, s in zip(ids, scores.values(), strict=True) if len(s.totals)]
    of = np.repeat([each for each, _ in summed], len(articles))
    bulk.copy_rows(
        connection,
        "evaluation_article",
        {
            "evaluation_id": bulk.integers(of, 8),
            "article_id": bulk.integers(np.tile(articles, len(summed)), 8),
            "total": bulk.reals(np.concatenate([s.totals for _, s in summed]), 8),
            "weight": bulk.reals(np.concatenate([s.weights for _, s in summed]), 8),
        },
    )


def lock_comparison(connection: Connection, sequence_set_id: int, split: str) -> None:
    """Until the transaction ends nobody else writes evaluations of this split: of two at once,
    the second sees the first, and they are compared."""
    connection.execute(
        query("evaluation", "lock_comparison"),
        {"sequence_set_id": sequence_set_id, "split": split},
    )


def write_differences(
    connection: Connection, run_id: int, split: str, pools: Sequence[str]
) -> None:
    """Hold a run's evaluations against every baseline's, and if it is one, all others against it.

    Differences that rested on evaluations that were replaced went with them. Evaluations without
    sums by article, from before those were kept, are compared when they are made again.

    Args:
        connection: in a transaction that holds `lock_comparison`.
        run_id, split, pools: whose evaluations were just written.
    """
    pairs = connection.execute(
        query("evaluation", "comparable_evaluations"),
        {"run_id": run_id, "split": split, "pools": list(pools)},
    ).all()
    wanted: list[tuple[int, int, int]] = []
    for pair in pairs:
        if pair.other_is_baseline:
            wanted.append((pair.evaluation_id, pair.other_id, pair.direction))
        if pair.is_baseline:
            wanted.append((pair.other_id, pair.evaluation_id, pair.direction))
    for start in range(0, len(wanted), _PAIRS):
        rows = _differences(connection, wanted[start : start + _PAIRS])
        if rows:
            connection.execute(insert(evaluation_difference), rows)


def _differences(
    connection: Connection, wanted: Sequence[tuple[int, int, int]]
) -> list[dict[str, object]]:
    """Rows for these pairs of evaluations, with the direction of each."""
    sums = _sums(
        connection, sorted({each for first, other, _ in wanted for each in (first, other)})
    )
    # Evaluations over the same articles are drawn together.
    together: dict[bytes, list[tuple[int, int, int]]] = defaultdict(list)
    for first, other, direction in wanted:
        articles = sums[first][0].tobytes()
        if articles and articles == sums[other][0].tobytes():
            together[articles].append((first, other, direction))
    rows: list[dict[str, object]] = []
    for members in together.values():
        totals, weights = _columns(sums, [first for first, _, _ in members])
        base_totals, base_weights = _columns(sums, [other for _, other, _ in members])
        differences = totals.sum(0) / weights.sum(0) - base_totals.sum(0) / base_weights.sum(0)
        found = difference_intervals(totals, weights, base_totals, base_weights)
        for (first, other, direction), difference, ends in zip(
            members, differences.tolist(), found, strict=True
        ):
            low, high = ends or (None, None)
            rows.append(
                {
                    "evaluation_id": first,
                    "baseline_evaluation_id": other,
                    "difference": difference,
                    "low": low,
                    "high": high,
                    "verdict": verdict(ends, direction) if direction else None,
                }
            )
    return rows


def _columns(sums: dict[int, _Sums], evaluation_ids: list[int]) -> tuple[Floats, Floats]:
    """Totals and weights of these evaluations, `(articles, evaluations)` each."""
    totals, weights = zip(*(sums[each][1:] for each in evaluation_ids), strict=True)
    return np.stack(totals, axis=1), np.stack(weights, axis=1)


def _sums(connection: Connection, evaluation_ids: list[int]) -> dict[int, _Sums]:
    """Articles, totals and weights of each evaluation."""
    rows = connection.execute(
        query("evaluation", "evaluations_by_article"), {"evaluation_ids": evaluation_ids}
    ).all()
    table = np.array([tuple(row) for row in rows], dtype=np.float64).reshape(-1, 4)
    of, article = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
    empty = slice(0, 0)
    starts = np.flatnonzero(np.r_[True, of[1:] != of[:-1]]) if len(of) else np.empty(0, np.int64)
    parts = {
        int(of[start]): slice(start, end)
        for start, end in zip(starts, np.r_[starts[1:], len(of)], strict=True)
    }
    return {
        each: (article[part], table[part, 2], table[part, 3])
        for each in evaluation_ids
        for part in (parts.get(each, empty),)
    }
