"""Does the order of a corpus carry information, and would reading backwards look different?

Three linear maps are fitted by ridge regression on the same training articles, each `x -> y` from
a concept to its neighbour in one order of reading:

- **forwards** `A_f`: v[t] -> v[t+1];
- **reversed** `A_r`: v[t+1] -> v[t], what the same fit makes of time-reversed articles;
- **shuffled** `A_s`: the same fit on articles whose concepts were put in a random order.

They are applied to held-out articles. There are four readings: `A_f` to v[t], against v[t+1]
(`forwards`); `A_r` to v[t], against v[t-1] (`backwards`); **`A_r` to v[t], against v[t+1]**
(`reversed map`), which is what a model makes of the article if it believes it to run the other way;
and `A_s` to a concept against another one of the article, over all orders (`shuffled`). Each is
measured by the cosine of prediction and truth, and by hit@k: whether the truth is among the k
nearest of the article's concepts that are not read yet (for `backwards`, those before). Two paired
differences answer the two questions:

- **order signal** = forwards - shuffled: what knowing the order is worth. Above zero where
  neighbours are more alike than any two concepts of the article, and where one leads to the next;
  zero for exchangeable draws, whose joint law is that of any other order.
- **direction signal** = forwards - reversed map: what knowing the direction is worth. Zero for a
  reversible process, above zero for a rotation.

Why not forwards - backwards. The mean of cos(v[t], v[t+1]) - cos(v[t], v[t-1]) telescopes to the
article's ends: it is zero whatever the corpus is. The quality of two fitted maps is little better:
let S be the covariance of a stationary process and C = E[v[t] v[t+1]'] that of neighbours. Then
`A_f` = S^-1 C and `A_r` = S^-1 C', and their squared errors are tr S - tr C' S^-1 C and
tr S - tr C S^-1 C', which are equal where S is isotropic, as on a rotation: order is then as
predictable in both directions, though no two runs of it could be more different. It is the maps
that differ: they are equal if and only if C = C', and for a rotation R they are R and R'. That is
what the direction signal measures, as prediction, so that a difference in directions which explain
nothing counts for nothing.

What linear maps cannot see: a process with C = C' is called symmetric here even if it is
irreversible in higher moments (slow rise and sudden fall, say), or in two steps but not in one
(v[t] leading to v[t+2]). No signal means: none for one linear step. A corpus whose articles begin
otherwise than they end is not stationary, and that alone gives it a small direction signal. The
intervals are those of held-out articles, given the maps: of a small corpus, the maps themselves are
uncertain, and an interval just off zero proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from lvmdb.metrics.intervals import intervals, verdict
from lvmdb.metrics.linear_map import LinearMap, Moments, fit
from lvmdb.metrics.ranking import TOLERANCE
from lvmdb.metrics.vectors import normalise

Matrix = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]

READINGS = ("forwards", "backwards", "reversed map", "shuffled")
MEASURES = ("cosine", "hit@1", "hit@5")
HITS = (1, 5)
_WORDS = {
    "order signal": {
        "better": "order carries information",
        "not distinguishable": "as predictable in any order",
        "worse": "less predictable than shuffled",
    },
    "direction signal": {
        "better": "forwards and backwards differ",
        "not distinguishable": "alike in both directions",
        "worse": "better predicted by the reversed map",
    },
}


@dataclass
class Orders:
    """The moments of the same articles read forwards, reversed and shuffled."""

    forwards: Moments
    reversed: Moments
    shuffled: Moments

    def __iadd__(self, other: Orders) -> Orders:
        self.forwards += other.forwards
        self.reversed += other.reversed
        self.shuffled += other.shuffled
        return self


def orders(
    vectors: Vectors, lengths: npt.NDArray[np.int64], generator: np.random.Generator
) -> Orders:
    """The moments of some articles.

    Args:
        vectors: `(concepts, d)`, the articles one behind the other.
        lengths: `(articles,)`, concepts of each, at least one.
        generator: draws the shuffled orders.
    """
    article = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((generator.random(len(article)), article))
    forwards, backwards = _both_directions(vectors, lengths)
    shuffled, _ = _both_directions(vectors[order], lengths)
    return Orders(forwards, backwards, shuffled)


def _both_directions(vectors: Vectors, lengths: npt.NDArray[np.int64]) -> tuple[Moments, Moments]:
    """Moments forwards and reversed: X'X lacks each article's last row, or its first."""
    end = np.cumsum(lengths)
    first, last = vectors[end - lengths], vectors[end - 1]
    before = np.delete(np.arange(len(vectors)), end - 1)
    whole, total = _product(vectors, vectors), vectors.sum(0, dtype=np.float64)
    lead = _product(vectors[before], vectors[before + 1])
    without_last = total - last.sum(0, dtype=np.float64)
    without_first = total - first.sum(0, dtype=np.float64)
    pairs = len(before)
    return (
        Moments(pairs, without_last, without_first, whole - _product(last, last), lead),
        Moments(pairs, without_first.copy(), without_last.copy(),
                whole - _product(first, first), lead.T.copy()),
    )  # fmt: skip


def _product(left: Vectors, right: Vectors) -> Matrix:
    return (left.T @ right).astype(np.float64)


@dataclass(frozen=True)
class Maps:
    """The three maps."""

    forwards: LinearMap
    reversed: LinearMap
    shuffled: LinearMap


def fit_orders(train: Orders, validation: Orders) -> Maps:
    """The three maps, of the one strength that suits them all on validation articles."""
    names = [field.name for field in fields(Orders)]
    return Maps(*fit([(getattr(train, name), getattr(validation, name)) for name in names]))


@dataclass(frozen=True)
class Sums:
    """What each held-out article adds to each statistic.

    Attributes:
        totals: `(articles, readings, measures)`.
        weights: `(articles, measures)`: predictions that were measured, the same for all readings.
    """

    totals: Matrix
    weights: Matrix

    @classmethod
    def joined(cls, parts: Sequence[Sums]) -> Sums:
        """All articles of some parts."""
        return cls(
            np.concatenate([part.totals for part in parts]),
            np.concatenate([part.weights for part in parts]),
        )


def measure(maps: Maps, vectors: Vectors, lengths: npt.NDArray[np.int64]) -> Sums:
    """Apply the maps to held-out articles, given as in `orders`."""
    unit = normalise(vectors)
    forwards, backwards, shuffled = (
        normalise(linear(vectors)) for linear in (maps.forwards, maps.reversed, maps.shuffled)
    )
    totals = np.zeros((len(lengths), len(READINGS), len(MEASURES)))
    weights = np.zeros((len(lengths), len(MEASURES)))
    ends = np.cumsum(lengths)
    for i, (end, length) in enumerate(zip(ends.tolist(), lengths.tolist(), strict=True)):
        if length < 2:
            continue
        rows = slice(end - length, end)
        back = slice(None, None, -1)
        article = unit[rows]
        totals[i, 0], weights[i], chance = _read(forwards[rows] @ article.T)
        totals[i, 1], _, _ = _read((backwards[rows] @ article.T)[back, back])
        totals[i, 2], _, _ = _read(backwards[rows] @ article.T)
        cosines = shuffled[rows] @ article.T
        mean = (cosines.sum() - np.trace(cosines)) / (length * (length - 1))
        totals[i, 3] = [mean * (length - 1), *chance]
    return Sums(totals, weights)


def _read(cosines: Matrix) -> tuple[list[float], list[float], list[float]]:
    """Sums over the steps of one article, their numbers, and the hits of any order.

    Args:
        cosines: `(n, n)`, of the prediction from concept i with concept j; the truth after i is
            i + 1, its candidates are all j > i.

    Hits are expected ones, ties broken at random: clip((k - greater) / (ties + 1), 0, 1). Steps
    with k candidates or fewer always hit, and are left out. The average over all orders of the
    article is k / candidates whatever the prediction is, repeated vectors included, for they tie.
    """
    own = np.diagonal(cosines, 1)[:, None]
    unread = np.triu(np.ones(cosines.shape, dtype=bool), 1)[:-1]
    greater = np.count_nonzero((cosines[:-1] > own + TOLERANCE) & unread, axis=1)
    ties = np.count_nonzero((np.abs(cosines[:-1] - own) <= TOLERANCE) & unread, axis=1) - 1
    candidates = np.count_nonzero(unread, axis=1)
    totals, weights, chance = [float(own.sum())], [float(len(own))], []
    for k in HITS:
        counted = candidates > k
        hits = np.clip((k - greater) / (ties + 1), 0.0, 1.0)
        totals.append(float(hits[counted].sum()))
        weights.append(float(counted.sum()))
        chance.append(float((k / candidates[counted]).sum()))
    return totals, weights, chance


@dataclass(frozen=True)
class Statistic:
    """One number about the order of a corpus.

    Attributes:
        statistic: `order signal`, `direction signal`, or a reading.
        measure: `cosine`, `hit@1` or `hit@5`.
        value: its value; None where nothing could be measured.
        low, high: its 95 % interval over articles; None with too few.
        verdict: in words, of a signal; empty for a reading.
    """

    statistic: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    verdict: str = ""


def statistics(sums: Sums) -> list[Statistic]:
    """Both signals and the four readings by each measure; differences are paired by article."""
    readings = dict(zip(READINGS, np.moveaxis(sums.totals, 1, 0), strict=True))
    signals = {
        "order signal": readings["forwards"] - readings["shuffled"],
        "direction signal": readings["forwards"] - readings["reversed map"],
    }
    named = {**signals, **readings}
    measured = np.flatnonzero(sums.weights.any(axis=0))
    weights = np.tile(sums.weights[:, measured], len(named))
    totals = np.concatenate([each[:, measured] for each in named.values()], axis=1)
    columns = zip(intervals(totals, weights), totals.sum(0) / weights.sum(0), strict=True)
    found: list[Statistic] = []
    for name in named:
        for column, kind in enumerate(MEASURES):
            if column not in measured:
                found.append(Statistic(name, kind, None, None, None))
                continue
            ends, value = next(columns)
            low, high = ends or (None, None)
            said = verdict(ends, 1)
            words = _WORDS[name].get(said, said) if name in signals else ""
            found.append(Statistic(name, kind, float(value), low, high, words))
    return found
