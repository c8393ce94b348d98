"""The registry: one formula per name, and each gives the value worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lvmdb.errors import ModelError, UnknownNameError
from lvmdb.metrics.chance import pool_mean
from lvmdb.metrics.definitions import METRICS, Queries, aggregate, metric
from lvmdb.metrics.ranking import rank_in_pool

NAMES = ["mse", "cosine", "margin", "recall@1", "recall@5", "recall@10", "mrr@10"]

# Scores of the first query, (1, 0): 1, 0.8, 0, -1. Of the second, (0, 1): 0, 0.6, 1, 0.
POOL = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], dtype=np.float32)


@pytest.fixture
def queries() -> Queries:
    prediction = np.array([[1, 0], [0, 1]], dtype=np.float32)
    truth = np.array([1, 0])
    excluded = np.array([[3], [3]])
    return Queries(
        prediction=prediction,
        target=POOL[truth],
        last_context=POOL[[3, 3]],
        ranks=rank_in_pool(prediction, POOL, truth, excluded),
        pool_mean=pool_mean(POOL),
    )


def test_the_names_are_the_contract() -> None:
    assert list(METRICS) == NAMES
    assert all(METRICS[name].name == name for name in NAMES)
    assert all(m.version >= 1 and m.formula and m.reference for m in METRICS.values())
    assert [m.name for m in METRICS.values() if not m.higher_is_better] == ["mse"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        # (0.2² + 0.6²) / 2 = 0.2; (1 + 1) / 2 = 1.
        ("mse", [0.2, 1.0]),
        ("cosine", [0.8, 0.0]),
        # The first is 0.8 near to its target and -1 to c; the second is orthogonal to both.
        ("margin", [1.8, 0.0]),
        # The truths are second of three and third of three; 3 is in the context.
        ("recall@1", [0.0, 0.0]),
        ("recall@5", [1.0, 1.0]),
        ("recall@10", [1.0, 1.0]),
        ("mrr@10", [1 / 2, 1 / 3]),
    ],
)
def test_values_by_hand(queries: Queries, name: str, values: list[float]) -> None:
    got = metric(name).per_query(queries)
    assert got == pytest.approx(values)
    assert aggregate(got) == pytest.approx(sum(values) / 2)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        # The mean vector is (0.2, 0.4). 2 - 2 (0.16 + 0.24) = 1.2, 2 - 0.4 = 1.6, over 2.
        ("mse", [0.6, 0.8]),
        ("cosine", [0.4, 0.2]),
        # Against c = (-1, 0) chance has cosine -0.2.
        ("margin", [0.6, 0.4]),
        ("recall@1", [1 / 3, 1 / 3]),
        ("recall@5", [1.0, 1.0]),
        ("recall@10", [1.0, 1.0]),
        # H_3 / 3 = 11/18.
        ("mrr@10", [11 / 18, 11 / 18]),
    ],
)
def test_chance_by_hand(queries: Queries, name: str, values: list[float]) -> None:
    assert metric(name).chance_per_query(queries) == pytest.approx(values)


def test_an_unknown_metric_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'recall@10'"):
        metric("recal@10")


def test_no_queries_have_no_value() -> None:
    with pytest.raises(ModelError, match="no queries"):
        aggregate(np.empty(0))
    with pytest.raises(ModelError, match="NaN"):
        aggregate(np.array([1.0, np.nan]))


def test_queries_must_belong_together(queries: Queries) -> None:
    with pytest.raises(ModelError, match="do not belong together"):
        replace(queries, target=POOL[:3])
