"""How alike two texts are: BLEU by sacrebleu, ROUGE-L with rapidfuzz's longest common subsequence.

BLEU (Papineni et al. 2002) of one text beside one reference is smoothed (Chen & Cherry 2014, method
exp) and counts orders of n-grams that the text is long enough for; the mean over texts is what is
stored as `bleu`. That of a whole corpus, from summed counts, is `bleu_corpus`: what papers print,
there times 100.

ROUGE-L (Lin 2004) is the F-measure of the longest common subsequence of words. The package
`rouge-score` has had no release since 2022 and needs nltk for a stemmer that is off by default;
rapidfuzz is kept and finds the subsequence, so that what is left is a quotient. Words are runs of
letters and digits of any script, in lower case: on ASCII text the values are rouge-score's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lvmdb.errors import MissingDependencyError
from lvmdb.metrics.intervals import Interval, interval_of

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

Floats = npt.NDArray[np.float64]

ORDERS = 4
"""The longest n-grams that BLEU counts."""

_WORD = re.compile(r"[^\W_]+")


def require_packages() -> None:
    """Say what is missing before anything is decoded.

    Raises:
        MissingDependencyError: rapidfuzz or sacrebleu is not installed.
    """
    rouge_l([], [])
    bleu([], [])


def words(text: str) -> list[str]:
    """What ROUGE-L compares: runs of letters and digits, in lower case."""
    return _WORD.findall(text.lower())


def rouge_l(texts: Sequence[str], references: Sequence[str]) -> Floats:
    """ROUGE-L `(n,)` of each text, from 0 to 1: 2 P R / (P + R), where P and R are the length of
    the longest common subsequence over the words of the text and of its reference.

    Raises:
        MissingDependencyError: rapidfuzz is not installed.
    """
    try:
        from rapidfuzz.distance import LCSseq
    except ImportError:
        raise MissingDependencyError("rapidfuzz", "text", "measuring texts") from None

    values = np.zeros(len(texts))
    for row, (text, reference) in enumerate(zip(texts, references, strict=True)):
        said, wanted = words(text), words(reference)
        if said and wanted:
            # 2 P R / (P + R) = 2 L / (|said| + |wanted|)
            values[row] = 2 * LCSseq.similarity(said, wanted) / (len(said) + len(wanted))
    return values


def bleu(texts: Sequence[str], references: Sequence[str]) -> tuple[Floats, Floats]:
    """BLEU of each text beside its reference, and what that of all of them is computed from.

    Returns:
        `(n,)` values from 0 to 1, and `(n, 10)` counts: n-grams that both have by order, n-grams
        of the text by order, words of the text, words of the reference.

    Raises:
        MissingDependencyError: sacrebleu is not installed.
    """
    scorer = _scorer()
    values, counts = np.zeros(len(texts)), np.zeros((len(texts), 2 * ORDERS + 2))
    for row, (text, reference) in enumerate(zip(texts, references, strict=True)):
        found = scorer.sentence_score(text, [reference])
        values[row] = found.score / 100
        counts[row] = (*found.counts, *found.totals, found.sys_len, found.ref_len)
    return values, counts


def corpus_bleu(counts: Floats) -> float:
    """BLEU of many texts, from 0 to 1.

    Args:
        counts: `(n, 10)` of `bleu`; what is summed over `n` already may have one row.
    """
    from sacrebleu.metrics.bleu import BLEU

    parts = [round(each) for each in counts.sum(axis=0)]
    found = BLEU.compute_bleu(
        correct=parts[:ORDERS],
        total=parts[ORDERS : 2 * ORDERS],
        sys_len=parts[-2],
        ref_len=parts[-1],
        smooth_method="exp",
    )
    return float(found.score) / 100


def corpus_bleu_interval(counts: Floats) -> Interval | None:
    """The 95 % interval of `corpus_bleu`, over articles.

    Args:
        counts: `(articles, 10)`, the sums of each.
    """
    return interval_of(
        counts, lambda drawn: np.array([corpus_bleu(each[None]) for each in drawn], dtype=float)
    )


@cache
def _scorer() -> BLEU:
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        raise MissingDependencyError("sacrebleu", "text", "measuring texts") from None
    return BLEU(effective_order=True)
