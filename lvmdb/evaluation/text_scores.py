"""Text measures of one run on one split, as scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lvmdb.evaluation.scores import Score, Taken, scores_of
from lvmdb.metrics.text_definitions import TEXT_METRICS, quantile_ms
from lvmdb.metrics.text_queries import TextQueries
from lvmdb.metrics.texts import corpus_bleu, corpus_bleu_interval

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Times = Mapping[str, Floats]
"""Seconds by stage, one a vector."""

_NOTHING: Floats = np.empty(0)


def text_scores(
    queries: Mapping[str, TextQueries], article_id: Mapping[str, Ints], times: Mapping[str, Times]
) -> dict[str, Score]:
    """Every text measure of these pools, by key, in the order of the registry.

    Args:
        queries: by pool.
        article_id: by pool, `(n,)` the article of each truth.
        times: by pool.
    """
    found: dict[str, Score] = {}
    for pool, asked in queries.items():
        taken = []
        for key, metric in TEXT_METRICS.items():
            if metric.pool == pool and metric.per_query and metric.chance_per_query:
                values, weights = metric.per_query(asked)
                taken.append(Taken(key, values, weights, metric.chance_per_query(asked)))
        found |= scores_of(taken, article_id[pool])
        whole = np.ones(len(asked), dtype=bool)
        if asked.smoothing is not None:
            whole = asked.smoothing.rewritten
        if whole.any():
            found[f"{pool}/bleu_corpus"] = _corpus_bleu(asked, whole, article_id[pool])
    for pool, stages in times.items():
        for stage, seconds in stages.items():
            for key in TEXT_METRICS:
                beginning = f"{pool}/ms_{stage}_"
                if key.startswith(beginning):
                    value = quantile_ms(seconds, key.removeprefix(beginning))
                    # Whatever is answered takes as long.
                    found[key] = Score(value, value, None, _NOTHING, _NOTHING, len(seconds))
    return {key: found[key] for key in TEXT_METRICS if key in found}


def _corpus_bleu(queries: TextQueries, whole: NDArray[np.bool_], article_id: Ints) -> Score:
    _, place = np.unique(article_id[whole], return_inverse=True)
    sums = np.zeros((int(place.max()) + 1, queries.bleu_counts.shape[1]))
    np.add.at(sums, place, queries.bleu_counts[whole])
    return Score(
        value=corpus_bleu(sums),
        chance=corpus_bleu(queries.guess_bleu_counts[whole]),
        interval=corpus_bleu_interval(sums),
        totals=_NOTHING,
        weights=_NOTHING,
        queries=int(whole.sum()),
    )
