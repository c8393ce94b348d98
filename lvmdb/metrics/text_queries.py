"""What text measures look at: decoded texts beside their truths, and what a guess would be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lvmdb.errors import ModelError
from lvmdb.metrics import texts
from lvmdb.metrics.facts import added_facts
from lvmdb.metrics.vectors import Floats, PerQuery

Ints = npt.NDArray[np.int64]
NONE = -1
"""The row of a text that is no concept of the pool."""


@dataclass(frozen=True)
class Smoothing:
    """What smoothing had before it, and what it did.

    Attributes:
        sources: `n` texts before it.
        contexts: of each, the texts that it was shown beside it.
        vectors: `(n, d)` the encoder's of the sources.
        rewritten: `(n,)` whether it rewrote the text.
    """

    sources: Sequence[str]
    contexts: Sequence[Sequence[str]]
    vectors: Floats
    rewritten: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TextQueries:
    """All that a text measure may look at, for n decoded texts.

    Attributes:
        texts: what was decoded; empty where nothing was found.
        truths: the texts of the truths.
        vectors: `(n, d)` the encoder's of the texts; zero for an empty one.
        target: `(n, d)` the truths' vectors, of unit length.
        found: `(n,)` rows of the pool, `NONE` for a text that is no concept.
        known: `(n,)` 1 where a concept was looked for, 0 where the text was written.
        truth: `(n,)` rows of the pool.
        article: `(N,)` of each row of the pool.
        candidates: `(n,)` concepts that may be found.
        article_candidates: `(n,)` those of the truth's article.
        guess_texts: `n` texts of concepts that were drawn at random, one a query.
        guesses: `(m, d)` vectors of such.
        pool_mean: `(d,)` of all.
        smoothing: where the texts were rewritten.
    """

    texts: Sequence[str]
    truths: Sequence[str]
    vectors: Floats
    target: Floats
    found: Ints
    known: PerQuery
    truth: Ints
    article: Ints
    candidates: Ints
    article_candidates: Ints
    guess_texts: Sequence[str]
    guesses: Floats
    pool_mean: PerQuery
    smoothing: Smoothing | None = None

    def __post_init__(self) -> None:
        count = len(self.texts)
        lengths = {
            *(len(self.truths), len(self.guess_texts), len(self.vectors), len(self.target)),
            *(len(self.found), len(self.known), len(self.truth)),
            *(len(self.candidates), len(self.article_candidates)),
            *(() if self.smoothing is None else (len(self.smoothing.sources),)),
        }
        if lengths != {count}:
            raise ModelError(
                f"texts that do not belong together: {count} of them, lengths {sorted(lengths)}"
            )

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def right(self) -> PerQuery:
        """`(n,)` 1 where the concept that was found is the truth."""
        right: PerQuery = (self.found == self.truth).astype(np.float64)
        return right

    @property
    def same_article(self) -> PerQuery:
        """`(n,)` 1 where it is of the truth's article."""
        same = self.article[self.found] == self.article[self.truth]
        inside: PerQuery = ((self.found != NONE) & same).astype(np.float64)
        return inside

    @property
    def exact(self) -> PerQuery:
        """`(n,)` 1 where the text is the truth's."""
        pairs = zip(self.texts, self.truths, strict=True)
        return np.array([float(text == truth) for text, truth in pairs])

    @cached_property
    def _bleu(self) -> tuple[PerQuery, PerQuery]:
        return texts.bleu(self.texts, self.truths)

    @cached_property
    def _guess_bleu(self) -> tuple[PerQuery, PerQuery]:
        return texts.bleu(self.guess_texts, self.truths)

    @property
    def bleu(self) -> PerQuery:
        """`(n,)` of each text beside its truth."""
        return self._bleu[0]

    @property
    def bleu_counts(self) -> PerQuery:
        """`(n, 10)` what BLEU of all of them is computed from."""
        return self._bleu[1]

    @property
    def guess_bleu(self) -> PerQuery:
        """`(n,)` of a text that was drawn at random."""
        return self._guess_bleu[0]

    @property
    def guess_bleu_counts(self) -> PerQuery:
        """`(n, 10)` as `bleu_counts`."""
        return self._guess_bleu[1]

    @cached_property
    def rouge_l(self) -> PerQuery:
        """`(n,)` of each text beside its truth."""
        return texts.rouge_l(self.texts, self.truths)

    @cached_property
    def guess_rouge_l(self) -> PerQuery:
        """`(n,)` of a text that was drawn at random."""
        return texts.rouge_l(self.guess_texts, self.truths)

    @property
    def _smoothing(self) -> Smoothing:
        if self.smoothing is None:
            raise ModelError("nothing was rewritten: there is nothing to hold it against")
        return self.smoothing

    @property
    def source_vectors(self) -> Floats:
        """`(n, d)` the encoder's of the texts before they were rewritten."""
        return self._smoothing.vectors

    @property
    def rewritten(self) -> PerQuery:
        """`(n,)` 1 where the text was rewritten."""
        return self._smoothing.rewritten.astype(np.float64)

    @cached_property
    def added(self) -> tuple[PerQuery, PerQuery]:
        """`(n,)` numbers and names that no source has, and all, of rewritten texts."""
        return self._added(self.texts)

    @cached_property
    def guess_added(self) -> PerQuery:
        """`(n,)` what a text that was drawn at random would add, with the weights of `added`."""
        added, there = self._added(self.guess_texts)
        share = added.sum() / there.sum() if there.any() else 0.0
        level: PerQuery = self.added[1] * share
        return level

    def _added(self, said: Sequence[str]) -> tuple[PerQuery, PerQuery]:
        before = self._smoothing
        counts = np.zeros((2, len(self)))
        for row in np.flatnonzero(before.rewritten).tolist():
            facts = added_facts(said[row], [before.sources[row], *before.contexts[row]])
            counts[:, row] = len(facts.added), len(facts.all)
        return counts[0], counts[1]
