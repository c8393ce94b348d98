"""A corpus whose best predictor is known: what a yardstick is held against.

The process, on the unit sphere of 768 dimensions (Gaussian autoregression, normalised):

    v[t+1] = normalise(a R v[t] + b u + s e),    e ~ N(0, I / 768)

`R` = U Q U' is a rotation of a fixed random subspace of `rank` dimensions (U `(768, rank)` with
orthonormal columns) and nothing outside it: Q turns each of rank / 2 planes by an angle of its own,
evenly spaced around `angle`, between half of it and one and a half. `u`, drawn for each article, is
a unit vector in the subspace, the article's own direction. The noise is isotropic in all 768
dimensions, so concepts of different articles are never near-duplicates. An article starts at
random, and its first `WARM_UP` concepts are thrown away: the rest is stationary.

    a, b, s         what it is
    b = 0           a rotation: order matters, and reversed articles need R'
    angle = 0       a walk: order matters, forwards and backwards alike
    a = 0           draws around the article's direction: exchangeable

**The best prediction.** Given v[t] and u, the noise is all that is unknown, and it is isotropic:
the law of v[t+1] is symmetric about m = a R v[t] + b u, so its mean points along m, and no vector
has a higher expected cosine than m's direction. A model sees no u but the last concepts of a
context, and no predictor from these can do better than one that is told u as well. So the optimum
of models lies between two numbers that can be computed: the expected cosine of
`best_knowing_topic`, never below it, and that of `best_from_context`, a predictor that models could
learn, never above it. With b = 0 they are the same; with the default process they are .0005 apart.

What holds for cosine holds for squared error as well, up to a length. It does not hold for ranks:
recall of these predictions is what the best predictor *by cosine* reaches, no upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db.types import DIMENSION
from lvmdb.errors import UsageError
from lvmdb.metrics.vectors import cosine

Array = npt.NDArray[np.float64]

WARM_UP = 30
"""Concepts of an article that come before its first."""

CONTEXT = 5
"""Concepts in a context where nothing else is said."""

_LARGEST_RANK = 256
"""What lies outside the subspace tells how long a vector was before it was normalised."""

_FRAME, _ARTICLE = 0, 1


@dataclass(frozen=True, kw_only=True)
class Process:
    """The process of the module's docstring.

    Attributes:
        rank: dimensions of the subspace, an even number.
        carry: a, how much of a concept the next one keeps.
        topic: b, how much of the article's direction each concept has.
        noise: s, the expected length of the noise.
        angle: mean angle of the rotation, in radians.
        seed: of subspace, planes and articles.
    """

    rank: int = 8
    carry: float = 1.0
    topic: float = 0.2
    noise: float = 0.5
    angle: float = 0.6
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank % 2 or not 2 <= self.rank <= _LARGEST_RANK:
            raise UsageError(f"--rank is an even number from 2 to {_LARGEST_RANK}, not {self.rank}")
        for name in ("carry", "topic", "noise"):
            if not 0 <= getattr(self, name) <= 100:
                raise UsageError(f"--{name} is a number from 0 to 100, not {getattr(self, name)}")
        if not math.isfinite(self.angle):
            raise UsageError(f"--angle must be finite, not {self.angle}")
        if self.carry + self.topic + self.noise == 0:
            raise UsageError("--carry, --topic and --noise cannot all be 0: nothing would follow")
        if not 0 <= self.seed < 2**63:
            raise UsageError("--seed must be 0 or more, and fit into 63 bits")

    @property
    def name(self) -> str:
        """Name of the encoder of its vectors: vectors of two processes are never mixed."""
        return "synthetic " + " ".join(f"{k}={v:.12g}" for k, v in asdict(self).items())

    @cached_property
    def basis(self) -> Array:
        """U, `(768, rank)` with orthonormal columns."""
        drawn = self._generator(_FRAME, 0).standard_normal((DIMENSION, self.rank))
        return np.asarray(np.linalg.qr(drawn)[0], dtype=np.float64)

    @property
    def angles(self) -> Array:
        """`(rank / 2,)`, by which each plane turns."""
        return self.angle * np.linspace(0.5, 1.5, self.rank // 2 + 2)[1:-1]

    @cached_property
    def rotation(self) -> Array:
        """Q, `(rank, rank)`: R = U Q U'."""
        turned = np.zeros((self.rank, self.rank))
        even = np.arange(0, self.rank, 2)
        turned[even, even] = turned[even + 1, even + 1] = np.cos(self.angles)
        turned[even + 1, even] = np.sin(self.angles)
        turned[even, even + 1] = -np.sin(self.angles)
        return turned

    def draw(self, number: int, concepts: int) -> tuple[Array, Array]:
        """One article: its direction `(rank,)`, in the subspace, and its vectors `(concepts, 768)`.

        A function of seed and number: a corpus of more articles begins with the same ones, and a
        longer article begins with a shorter one of its number.
        """
        random = self._generator(_ARTICLE, number)
        start, topic = (_unit(random.standard_normal(self.rank)) for _ in range(2))
        v = self.basis @ start
        vectors = np.empty((concepts, DIMENSION))
        for t in range(-WARM_UP, concepts):
            e = random.standard_normal(DIMENSION) / math.sqrt(DIMENSION)
            inside = self.carry * (self.rotation @ (v @ self.basis)) + self.topic * topic
            v = _unit(self.basis @ inside + self.noise * e)
            if t >= 0:
                vectors[t] = v
        return topic, vectors

    def best_knowing_topic(self, last: Array, topic: Array) -> Array:
        """a R v + b u, `(n, 768)`: the best prediction of one that knows u.

        Args:
            last: `(n, 768)`, the last concept of each context.
            topic: `(n, rank)`, the article's direction in the subspace.
        """
        return (self._carried(last @ self.basis) + self.topic * topic) @ self.basis.T

    def best_from_context(self, context: Array) -> Array:
        """a R v + b E[u | context], `(n, 768)`: of one that knows the process, and must infer u.

        Each step of the context tells b u up to noise: n v[t] - a R v[t-1] inside the subspace,
        where n is the length before normalisation, known from what lies outside it, for that is
        noise alone: n = s sqrt((768 - rank) / 768) / |v outside|. The estimate is the mean over the
        steps, shrunk as the posterior mean of a Gaussian prior of variance b^2 / rank would be.
        The first concept's place tells a little more about u, which is not used.

        Args:
            context: `(n, time, 768)`, oldest first.

        Raises:
            UsageError: there is a topic but no noise, so that lengths are not known.
        """
        inside = context.astype(np.float64) @ self.basis  # (n, time, rank)
        predicted = self._carried(inside[:, -1])
        steps = inside.shape[1] - 1
        if self.topic and steps:
            if not self.noise:
                raise UsageError("without noise the context's topic cannot be told: --noise 0")
            others = DIMENSION - self.rank
            along = (inside[:, 1:] ** 2).sum(-1)  # (n, steps)
            length = self.noise * np.sqrt(others / DIMENSION / np.maximum(1 - along, 1e-12))
            told = (length[..., None] * inside[:, 1:] - self._carried(inside[:, :-1])).mean(1)
            # Of each number in `told`: the noise inside, and that of the estimate of `length`.
            variance = self.noise**2 / DIMENSION
            variance += float((length**2 * along).mean()) / (2 * others * self.rank)
            prior = self.topic**2 / self.rank
            predicted = predicted + told * (prior / (prior + variance / steps))
        return predicted @ self.basis.T

    def _carried(self, inside: Array) -> Array:
        carried: Array = self.carry * (inside @ self.rotation.T)
        return carried

    def _generator(self, purpose: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, purpose, number])


def articles(process: Process, numbers: Iterable[int], concepts: int) -> Iterator[VectorArticle]:
    """Articles of the process with texts that say which concept they are.

    Args:
        process: what draws them.
        numbers: which articles; a corpus has those from 0.
        concepts: how many each has.
    """
    for number in numbers:
        yield VectorArticle(
            source_key=f"synthetic-{number}",
            title=f"Synthetic article {number}",
            url=None,
            texts=tuple(f"synthetic article {number}, concept {t}" for t in range(concepts)),
            source=f"{process.name}:{number}",
            vectors=process.draw(number, concepts)[1].astype(np.float32),
        )


@dataclass(frozen=True)
class Estimate:
    """A mean over articles that were drawn, and its standard error."""

    value: float
    error: float


@dataclass(frozen=True)
class Expected:
    """Expected cosines with the next concept, by Monte Carlo over articles of the process.

    Attributes:
        best_knowing_topic: no predictor is better.
        best_from_context: a predictor from the context alone reaches this.
        copy_last, context_mean: of these baselines.
    """

    best_knowing_topic: Estimate
    best_from_context: Estimate
    copy_last: Estimate
    context_mean: Estimate


def expected(
    process: Process, context_len: int, concepts: int, *, sample: int = 300, first: int = 10**6
) -> Expected:
    """What predictors of the process reach, whatever a model or a database makes of it.

    Args:
        process: what draws the articles.
        context_len: concepts in a context.
        concepts: how many an article has, more than `context_len`.
        sample: articles drawn.
        first: number of the first of them; a corpus begins at 0, so that the two share none.
    """
    means = []
    for number in range(first, first + sample):
        topic, vectors = process.draw(number, concepts)
        contexts, target = windows(vectors, context_len)
        last = contexts[:, -1]
        topics = np.tile(topic, (len(last), 1))
        predictions = (
            process.best_knowing_topic(last, topics),
            process.best_from_context(contexts),
            last,
            contexts.mean(1),
        )
        means.append([cosine(predicted, target).mean() for predicted in predictions])
    values = np.mean(means, axis=0)
    errors = np.std(means, axis=0, ddof=1) / math.sqrt(sample)
    return Expected(*(Estimate(float(v), float(e)) for v, e in zip(values, errors, strict=True)))


def windows(vectors: Array, context_len: int) -> tuple[Array, Array]:
    """All contexts `(n, context_len, 768)` of an article, and the concepts that follow `(n, 768)`.

    Args:
        vectors: `(concepts, 768)`.
        context_len: concepts in a context.
    """
    rows = np.arange(len(vectors) - context_len)[:, None] + np.arange(context_len)
    return vectors[rows], vectors[context_len:]


def closed_form(process: Process, context_len: int) -> tuple[float, float, float]:
    """Expected cosines of the best prediction, copy-last and context-mean where b = 0.

    In many dimensions lengths are their expected ones. With k = rank / 768 and q = |U'v|^2:

        q = (a^2 q + s^2 k) / n^2,  n^2 = a^2 q + s^2            what is inside the subspace
        C_0 = 1,  C_l = q (a / n)^l mean cos(l angle)            cosine of concepts l apart
        best = a sqrt(q) / n,  copy-last = C_1
        context-mean = sum_{l=1..L} C_l / sqrt(sum_{i,j=1..L} C_|i-j|)

    At s = 0 that is q = 1 and n = a: the best cosine is 1, copy-last's mean cos(angle).

    Raises:
        UsageError: the process has a topic, or carries nothing.
    """
    a, s, share = process.carry, process.noise, process.rank / DIMENSION
    if process.topic or not a:
        raise UsageError("a closed form is known for a process without a topic that carries")
    # The positive root of a^2 q^2 + (s^2 - a^2) q - s^2 k = 0.
    half = (a * a - s * s) / 2
    q = (half + math.sqrt(half * half + a * a * s * s * share)) / (a * a)
    n = math.sqrt(a * a * q + s * s)
    lags = np.arange(context_len + 1)
    turned = np.cos(lags[:, None] * process.angles).mean(1)
    apart = np.where(lags > 0, q * (a / n) ** lags * turned, 1.0)  # C_l
    gram = apart[np.abs(lags[1:, None] - lags[1:])]
    mean = float(apart[1:].sum() / math.sqrt(gram.sum()))
    return a * math.sqrt(q) / n, float(apart[1]), mean


def _unit(vector: Array) -> Array:
    return vector / math.sqrt(float(vector @ vector))
