"""The registry: one formula per name, and each gives the value worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lvmdb.errors import ModelError, UnknownNameError
from lvmdb.metrics.contrast import Distractors, contrast
from lvmdb.metrics.definitions import METRICS, POOLS, aggregate, metric
from lvmdb.metrics.manifold import nearest_other_cosine
from lvmdb.metrics.queries import Queries
from lvmdb.metrics.ranking import rank_in_articles, rank_in_pool

KEYS = [
    *("mse", "mse_sum", "l2", "cosine", "margin"),
    *("recall@1", "recall@5", "recall@10", "recall@50", "mrr@10"),
    *("par", "off_manifold", "off_manifold_truth"),
    *("article/recall@1", "article/recall@5", "article/recall@10", "article/recall@50"),
    "article/mrr@10",
    *("drawn/contrastive_accuracy", "drawn/contrastive_accuracy_same_article"),
    "drawn/contrastive_accuracy_other_article",
]

# Scores of the first query, (1, 0): 1, 0.8, 0, -1. Of the second, (0, 1): 0, 0.6, 1, 0.
POOL = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], dtype=np.float32)


@pytest.fixture
def queries() -> Queries:
    prediction = np.array([[1, 0], [0, 1]], dtype=np.float32)
    truth = np.array([1, 0])
    excluded = np.array([[3], [3]])
    # Of the first query 0 is a distractor of the same article, 2 of another; of the second 2.
    distractors = Distractors(
        np.array([0, 0, 1]), np.array([0, 2, 2]), np.array([True, False, False])
    )
    return Queries(
        prediction=prediction,
        pool=POOL,
        truth=truth,
        context=excluded,
        ranks=rank_in_pool(prediction, POOL, truth, excluded),
        article_ranks=rank_in_articles(prediction, POOL, truth, excluded, np.array([0, 0, 1, 1])),
        contrast=contrast(prediction, POOL, truth, distractors),
        truth_nearest=nearest_other_cosine(POOL, truth),
    )


def test_the_keys_are_the_contract() -> None:
    assert list(METRICS) == KEYS
    assert all(m.version >= 1 and m.formula and m.reference for m in METRICS.values())
    assert {m.pool for m in METRICS.values()} == set(POOLS)
    assert [m.name for m in METRICS.values() if m.direction < 0] == ["mse", "mse_sum", "l2"]
    gauges = ["margin", "par", "off_manifold", "off_manifold_truth"]
    assert [m.name for m in METRICS.values() if m.direction == 0] == gauges


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
        ("recall@50", [1.0, 1.0]),
        ("mrr@10", [1 / 2, 1 / 3]),
        # Summed, not averaged, over the two dimensions; and the root of it.
        ("mse_sum", [0.4, 2.0]),
        ("l2", [0.4**0.5, 2**0.5]),
        # Both predictions are concepts; the truths are 0.8 near to each other.
        ("off_manifold", [0.0, 0.0]),
        ("off_manifold_truth", [0.2, 0.2]),
        # Among the two concepts of its article each truth is second.
        ("article/recall@1", [0.0, 0.0]),
        ("article/mrr@10", [1 / 2, 1 / 2]),
        # The first truth is nearer than concept 2, not than concept 0; the second is not.
        ("drawn/contrastive_accuracy", [0.5, 0.0]),
        ("drawn/contrastive_accuracy_other_article", [1.0, 0.0]),
    ],
)
def test_values_by_hand(queries: Queries, name: str, values: list[float]) -> None:
    got, weights = metric(name).per_query(queries)
    assert got == pytest.approx(values)
    assert aggregate(got, weights) == pytest.approx(sum(values) / 2)


def test_a_ratio_is_one_of_sums(queries: Queries) -> None:
    """PAR: to the context (-1, 0) the predictions have cosines -1 and 0, the truths -0.8, -1."""
    got, weights = metric("par").per_query(queries)
    assert weights is not None
    assert aggregate(got, weights) == pytest.approx(-1 / -1.8)


def test_among_few_candidates_every_answer_is_a_hit_and_counts_for_nothing(
    queries: Queries,
) -> None:
    """Of two candidates the truth is always among the first five."""
    got, weights = metric("article/recall@5").per_query(queries)
    assert weights is not None
    assert (got.tolist(), weights.tolist()) == ([0, 0], [0, 0])


def test_queries_without_a_distractor_have_no_weight(queries: Queries) -> None:
    same = metric("drawn/contrastive_accuracy_same_article")
    got, weights = same.per_query(queries)
    assert weights == pytest.approx([1, 0])
    assert aggregate(got, weights) == 0
    assert aggregate(same.chance_per_query(queries), weights) == 0.5


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
        # H_3 / 3 = 11/18, H_2 / 2 = 3/4.
        ("mrr@10", [11 / 18, 11 / 18]),
        ("article/recall@1", [1 / 2, 1 / 2]),
        ("article/mrr@10", [3 / 4, 3 / 4]),
        ("mse_sum", [1.2, 1.6]),
        # The distances of all four concepts to each truth, in the mean.
        ("l2", [(0.4**0.5 + 0.8**0.5 + 3.6**0.5) / 4, (0.4**0.5 + 2**0.5 + 2) / 4]),
        # The mean cosine to (-1, 0) is -0.2.
        ("par", [-0.2, -0.2]),
        ("off_manifold", [0.0, 0.0]),
        ("off_manifold_truth", [0.2, 0.2]),
        ("drawn/contrastive_accuracy", [0.5, 0.5]),
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
        replace(queries, truth=np.array([0]))
