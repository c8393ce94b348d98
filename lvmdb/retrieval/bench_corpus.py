"""What a retrieval benchmark searches in, and what it asks: real concepts, or made ones.

Queries of two kinds, which are measured apart: concepts that the corpus does not hold (of articles
that are left out), and what a model would ask for, which lies off the data. The latter are a run's
stored predictions or, without a run, normalised sums of two neighbours.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lvmdb.db.bench_table import BenchTable
from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database, raw
from lvmdb.db.queries import psycopg_sql, query
from lvmdb.db.types import DIMENSION
from lvmdb.errors import CorpusError, UnknownNameError
from lvmdb.retrieval.corpus import Corpus
from lvmdb.retrieval.engine import ID, Ids, Vectors

HELD_OUT, NEIGHBOURS, PREDICTIONS = "held-out", "neighbours", "predictions"

_BLOCK = 10_000
_ARTICLE, _TOPIC = 20, 50
"""Made corpora: concepts of an article, articles of a topic."""


@dataclass(frozen=True)
class Queries:
    """Queries of one kind, `(q, 768)` unit vectors."""

    kind: str
    vectors: Vectors


@dataclass(frozen=True)
class Searched:
    """A corpus and what it is asked.

    Attributes:
        name: of the dataset; `synthetic` where it was made.
        vectors: `(n, 768)`, in memory or in a file.
        ids: `(n,)`.
        fingerprint: SHA-256 over ids and vectors.
        queries: the kinds.
        left_out: the articles of the dataset that the corpus does not hold.
    """

    name: str
    vectors: Vectors
    ids: Ids
    fingerprint: bytes
    queries: Sequence[Queries]
    left_out: Sequence[int] = ()
    synthetic: bool = False

    def fill(self, table: BenchTable) -> None:
        """Write the corpus into the benchmark's table."""
        if self.synthetic:
            table.copy_rows(
                (
                    self.ids[start : start + _BLOCK].tolist(),
                    [_text(number) for number in range(start, min(start + _BLOCK, len(self.ids)))],
                    np.asarray(self.vectors[start : start + _BLOCK]),
                )
                for start in range(0, len(self.ids), _BLOCK)
            )
        else:
            table.copy_dataset(self.left_out)
        table.settle()


def of_dataset(
    db: Database, corpus: Corpus, queries: int, *, run_id: int | None = None, seed: int = 0
) -> Searched:
    """A dataset without some articles, and queries.

    Raises:
        CorpusError: the dataset is too small to leave anything out.
        UnknownNameError: the run has stored no predictions of this dataset.
    """
    generator = np.random.default_rng(seed)
    articles, counts = np.unique(corpus.articles, return_counts=True)
    order = generator.permutation(len(articles))
    # As many articles as have enough concepts, but never half of the corpus.
    taken = int(np.searchsorted(np.cumsum(counts[order]), queries) + 1)
    while taken and 2 * counts[order[:taken]].sum() > len(corpus):
        taken -= 1
    if not taken:
        raise CorpusError(
            f"dataset '{corpus.dataset}' has too few articles to leave any out as queries"
        )
    left_out = articles[order[:taken]]
    out = np.isin(corpus.articles, left_out)
    vectors = corpus.vectors[~out]
    places = np.flatnonzero(out)
    chosen = generator.permutation(places)[:queries]
    held_out = Queries(HELD_OUT, _unit(corpus.vectors[chosen]))
    if run_id is None:
        kept = corpus.articles[~out]
        pairs = np.flatnonzero(kept[1:] == kept[:-1])
        first = generator.permutation(pairs)[:queries]
        if not len(first):
            raise CorpusError(f"dataset '{corpus.dataset}' has no article of two concepts")
        like = Queries(NEIGHBOURS, _unit(vectors[first] + vectors[first + 1]))
    else:
        like = Queries(PREDICTIONS, _predictions(db, corpus.dataset, run_id, queries, seed))
    return Searched(
        name=corpus.dataset,
        vectors=vectors,
        ids=np.ascontiguousarray(corpus.ids[~out]).view(ID)[:, 0],
        fingerprint=corpus.fingerprint,
        queries=(held_out, like),
        left_out=left_out.tolist(),
    )


@contextmanager
def made(count: int, queries: int, *, seed: int = 0) -> Iterator[Searched]:
    """A corpus of so many vectors that was made, in a temporary file, and queries.

    Topics lie around one direction, articles around topics, concepts around articles; what they
    differ by has a spectrum that falls as that of sentence vectors does, so that few directions
    hold most of it.

        v = normalise(0.3 g + topic + article + concept),  each part normal with variances ~ 1/i
    """
    with tempfile.TemporaryDirectory(prefix="lvmdb-bench-") as folder:
        path = Path(folder) / "vectors.npy"
        vectors = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.float32, shape=(count, DIMENSION)
        )
        digest = hashlib.sha256()
        for start in range(0, count, _BLOCK):
            block = _drawn(np.arange(start, min(start + _BLOCK, count)), seed)
            vectors[start : start + len(block)] = block
            digest.update(block.tobytes())
        ids = np.frombuffer(
            b"".join(hashlib.sha256(b"%d" % n).digest()[:16] for n in range(count)), dtype=ID
        )
        # Concepts of the corpus's own articles that it does not hold, and sums of two neighbours.
        generator = np.random.default_rng([seed, 1])
        beside = _drawn(generator.permutation(count)[:queries], seed, other=1)
        pairs = np.arange(count - 1)
        pairs = pairs[(pairs + 1) % _ARTICLE != 0]
        first = np.sort(generator.permutation(pairs)[:queries])
        yield Searched(
            name="synthetic",
            vectors=vectors,
            ids=ids,
            fingerprint=digest.digest(),
            queries=(
                Queries(HELD_OUT, beside),
                Queries(NEIGHBOURS, _unit(vectors[first] + vectors[first + 1])),
            ),
            synthetic=True,
        )


def _drawn(numbers: NDArray[np.int64], seed: int, *, other: int = 0) -> Vectors:
    """Concepts `(n, 768)` by number; with `other`, further ones of the same articles."""
    scale = 1 / np.sqrt(1 + np.arange(DIMENSION))

    def parts(purpose: int, keys: NDArray[np.int64]) -> NDArray[np.float64]:
        unique, where = np.unique(keys, return_inverse=True)
        drawn = np.stack(
            [
                np.random.default_rng([seed, 2, purpose, int(key)]).standard_normal(DIMENSION)
                for key in unique
            ]
        )
        values: NDArray[np.float64] = drawn[where] * scale
        return values

    common = parts(0, np.zeros(1, dtype=np.int64))
    article = numbers // _ARTICLE
    total = 0.3 * common + parts(1, article // _TOPIC) + parts(2, article)
    total += parts(3 + other, numbers)
    return _unit(total.astype(np.float32))


def _text(number: int) -> str:
    """As long as a median concept of Wikipedia: 56 words."""
    return f"synthetic concept {number} " + "lorem ipsum " * 27


def _predictions(db: Database, dataset: str, run_id: int, queries: int, seed: int) -> Vectors:
    given = {"run_id": run_id, "dataset": dataset, "queries": queries, "seed": seed}
    with db.connect() as connection:
        with raw(connection).cursor(binary=True) as cursor:
            cursor.execute(psycopg_sql("retrieval", "predictions_of_run"), given)
            sent = [row[0] for row in cursor.fetchall()]
        if not sent:
            runs = connection.execute(
                query("benchmarks", "runs_with_predictions"), {"dataset": dataset}
            ).scalars()
            known = ", ".join(map(str, runs)) or "none"
            raise UnknownNameError(
                f"run with predictions of dataset '{dataset}':",
                run_id,
                hint=f"'lvmdb evaluate --run-id {run_id}' stores them; runs with some: {known}",
            )
    return _unit(parsed_vectors(sent, DIMENSION))


def _unit(vectors: Vectors) -> Vectors:
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(unit, dtype=np.float32)
