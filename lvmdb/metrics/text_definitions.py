"""The registry of text measures: what decoded text is worth, under the rules of `definitions`.

Each measure is taken of the predictions decoded (`decoded`) and, beside it, of the true vectors
decoded by the same decoder (`truth`): what the second loses is the decoder's, the gap between the
two is the model's. Measures of `smoothed` are of texts that a language model has rewritten.

p is the vector that is decoded, D the decoder, E the encoder, t the truth's vector, T its text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np

from lvmdb.metrics import chance, vectors
from lvmdb.metrics.definitions import LCM, Values
from lvmdb.metrics.text_queries import TextQueries
from lvmdb.metrics.vectors import PerQuery

POOL = "text/"
"""What the names of pools of decoded texts begin with."""

STAGES = ("vectors", "search", "decode", "smooth")
"""Stages of an answer whose time is taken: the model, the index, the decoder, the rewriting."""

QUANTILES = {"p50": 0.5, "p95": 0.95}

_BLEU = (
    "Papineni et al. 2002, BLEU; Post 2018, A call for clarity in reporting BLEU scores; "
    "sacrebleu nrefs:1|case:mixed|eff:{eff}|tok:13a|smooth:exp"
)
_ROUGE = "Lin 2004, ROUGE: a package for automatic evaluation of summaries"


@dataclass(frozen=True)
class TextMetric:
    """One measure, as it is stored with each value; attributes as those of `definitions.Metric`.

    Without `per_query` it is no ratio of sums over queries, and has no sums by article.
    """

    name: str
    version: int
    formula: str
    reference: str
    direction: int
    pool: str
    per_query: Callable[[TextQueries], Values] | None = None
    chance_per_query: Callable[[TextQueries], PerQuery] | None = None

    @property
    def key(self) -> str:
        """Unique among all text measures: the name behind its pool."""
        return f"{self.pool}/{self.name}"


def _weighted(
    values: Callable[[TextQueries], PerQuery], q: TextQueries, *, by: str | None
) -> Values:
    """Values with the weights of that attribute: 1 where there is something to measure."""
    found = values(q)
    if by is None:
        return found, None
    weights: PerQuery = getattr(q, by)
    return found * weights, weights


def _measure(
    name: str,
    pool: str,
    formula: str,
    values: Callable[[TextQueries], PerQuery],
    level: Callable[[TextQueries], PerQuery],
    *,
    reference: str = "definition",
    direction: int = 1,
    by: str | None = None,
) -> TextMetric:
    return TextMetric(
        name=name,
        version=1,
        formula=formula,
        reference=reference,
        direction=direction,
        pool=pool,
        per_query=partial(_weighted, values, by=by),
        chance_per_query=lambda q: _weighted(level, q, by=by)[0],
    )


def _alike(pool: str, by: str | None) -> tuple[TextMetric, ...]:
    """How like the truth a text is, in words and by the encoder."""
    return (
        _measure(
            "exact_text",
            pool,
            "1 where D(p) is T, letter by letter, else 0",
            lambda q: q.exact,
            lambda q: 1.0 / q.candidates,
            by=by,
        ),
        _measure(
            "bleu",
            pool,
            "BLEU of D(p) beside T, from 0 to 1, of one text; the mean is taken over texts",
            lambda q: q.bleu,
            lambda q: q.guess_bleu,
            reference=_BLEU.format(eff="yes"),
            by=by,
        ),
        TextMetric(
            name="bleu_corpus",
            version=1,
            formula="BLEU of all texts beside all truths, from 0 to 1, from summed n-grams",
            reference=_BLEU.format(eff="no"),
            direction=1,
            pool=pool,
        ),
        _measure(
            "rouge_l",
            pool,
            "2 L / (|D(p)| + |T|), L the longest common subsequence of words",
            lambda q: q.rouge_l,
            lambda q: q.guess_rouge_l,
            reference=_ROUGE,
            by=by,
        ),
        _measure(
            "cosine",
            pool,
            "cos(E(D(p)), t)",
            lambda q: vectors.cosine(q.vectors, q.target),
            lambda q: chance.cosine_chance(q.pool_mean, q.target),
            by=by,
        ),
        _measure(
            "l2_r",
            pool,
            "|E(D(p)) - t| of unit vectors, the round-trip loss",
            lambda q: vectors.l2(q.vectors, q.target),
            lambda q: chance.distance_chance(q.guesses, q.target),
            reference=LCM,
            direction=-1,
            by=by,
        ),
    )


def _decoded(pool: str) -> tuple[TextMetric, ...]:
    return (
        _measure(
            "accuracy",
            pool,
            "1 where the nearest concept is the truth, else 0; of texts that are concepts",
            lambda q: q.right,
            lambda q: 1.0 / q.candidates,
            by="known",
        ),
        _measure(
            "same_article",
            pool,
            "1 where the nearest concept is of the truth's article, else 0; of texts that are "
            "concepts",
            lambda q: q.same_article,
            lambda q: q.article_candidates / q.candidates,
            by="known",
        ),
        *_alike(pool, None),
    )


def _smoothed() -> tuple[TextMetric, ...]:
    pool, by = "smoothed", "rewritten"
    return (
        _measure(
            "rewritten",
            pool,
            "1 where the model rewrote the text, 0 where it stayed as it was",
            lambda q: q.rewritten,
            lambda q: q.rewritten,
            direction=0,
        ),
        _measure(
            "cosine_unsmoothed",
            pool,
            "cos(E(S), E(D(p))), S the rewritten text; of rewritten texts, as all below",
            lambda q: vectors.cosine(q.vectors, q.source_vectors),
            lambda q: chance.cosine_chance(q.pool_mean, q.source_vectors),
            by=by,
        ),
        TextMetric(
            name="added_facts",
            version=1,
            formula="numbers and names of S that neither D(p) nor the context has / all of S",
            reference="lvmdb.metrics.facts",
            direction=-1,
            pool=pool,
            per_query=lambda q: (q.added[0], q.added[1]),
            chance_per_query=lambda q: q.guess_added,
        ),
        *_alike(pool, by),
    )


def _times(pool: str, stages: tuple[str, ...]) -> tuple[TextMetric, ...]:
    return tuple(
        TextMetric(
            name=f"ms_{stage}_{name}",
            version=1,
            formula=f"quantile {quantile} of the milliseconds of the stage '{stage}', one vector "
            "at a time",
            reference="definition",
            direction=0,
            pool=pool,
        )
        for stage in stages
        for name, quantile in QUANTILES.items()
    )


_ALL = (
    *_decoded("decoded"),
    *_times("decoded", STAGES[:-1]),
    *_decoded("truth"),
    *_smoothed(),
    *_times("smoothed", STAGES[-1:]),
)

TEXT_METRICS: Mapping[str, TextMetric] = MappingProxyType({m.key: m for m in _ALL})
"""All text measures by key, in the order in which reports show them."""


def quantile_ms(seconds: np.ndarray, name: str) -> float:
    """A quantile of times, in milliseconds; `name` is of `QUANTILES`."""
    return float(np.quantile(seconds, QUANTILES[name])) * 1000
