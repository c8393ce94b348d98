"""How far a generation drifts from what truly follows, by what the model reads of its own words.

Articles of a split are gone on from the same place in each of these ways, all at once:

    truth   the true concept is read at each step: what one step ahead is worth at that place
    none    the prediction itself is read
    index   the vector of the concept that is nearest to it is read (snapping)
    copy    nothing is predicted: the last concept that was given stands for all that follow

At step n the cosine of the prediction to the n-th concept that truly follows is taken, and whether
the concept nearest to the prediction is of the article. Nothing of the article before that place is
found, and no concept twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lvmdb.corpus.articles import Vectors
from lvmdb.db.benchmarks import Measured
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.decoding.generation import Predict
from lvmdb.decoding.nearest import NearestDecoder
from lvmdb.decoding.passages import Passage, before
from lvmdb.errors import SequenceError
from lvmdb.metrics.vectors import cosine
from lvmdb.progress import SILENT, Progress
from lvmdb.retrieval.searcher import Searcher
from lvmdb.sequences.sets import SequenceSet

WAYS = ("truth", "none", "index", "copy")

COSINE, SAME_ARTICLE = "cosine", "same article"
"""Units of what is measured: of the prediction to the truth; 1 where the nearest concept is of the
article, and 0 where it is not."""


@dataclass(frozen=True)
class Drifted:
    """One way's steps.

    Attributes:
        way: one of `WAYS`.
        cosine: `(steps, articles)`.
        same_article: `(steps, articles)`; None of `copy`.
    """

    way: str
    cosine: NDArray[np.float64]
    same_article: NDArray[np.bool_] | None


def drift(
    db: Database,
    predict: Predict,
    searcher: Searcher,
    sequences: SequenceSet,
    split: str = "test",
    *,
    steps: int = 8,
    articles: int = 100,
    seed: int = 0,
    tmd: bool = False,
    progress: Progress = SILENT,
) -> list[Drifted]:
    """Go on from the first context of articles, in each way.

    Args:
        db: the database.
        predict: the run.
        searcher: of the set's dataset.
        sequences, split: whose articles; those that are long enough.
        steps: concepts to generate.
        articles: how many to draw, at most.
        seed: of the draw.
        tmd: whether the run reads TMD codes.
        progress: told of steps.

    Raises:
        SequenceError: no article of the split is long enough.
    """
    length = sequences.context_len
    given = {
        "sequence_set_id": sequences.sequence_set_id,
        "split": split,
        "least": length + steps,
        "most": articles,
        "seed": seed,
    }
    with db.connect() as connection:
        ids = connection.execute(query("decoding", "long_articles"), given).scalars().all()
    if not ids:
        raise SequenceError(
            f"no {split} article of '{sequences.name}' has {length + steps} concepts: take fewer "
            "--steps"
        )
    passages = [
        before(db, sequences.dataset_source, article_id, length, steps=steps) for article_id in ids
    ]
    truth = np.stack([each.vectors for each in passages])  # (articles, length + steps, 768)
    contexts = truth[:, :length]
    codes = np.stack([each.codes for each in passages]) if tmd else None
    found = []
    with progress.task("generating", (len(WAYS) - 1) * steps, "steps") as advance:
        for way in WAYS[:-1]:
            rolled = _Roll(predict, searcher, passages, truth, codes, length, way)
            for _ in range(steps):
                rolled.step()
                advance(1)
            found.append(Drifted(way, np.array(rolled.cosine), np.array(rolled.same_article)))
    copied = [cosine(contexts[:, -1], truth[:, length + n]) for n in range(steps)]
    return [*found, Drifted("copy", np.array(copied), None)]


class _Roll:
    """All articles, a step at a time, in one way."""

    def __init__(
        self,
        predict: Predict,
        searcher: Searcher,
        passages: Sequence[Passage],
        truth: Vectors,
        codes: Vectors | None,
        length: int,
        way: str,
    ) -> None:
        self._predict, self._searcher, self._way = predict, searcher, way
        self._decoder = NearestDecoder(searcher, 1)
        self._passages, self._truth, self._codes = passages, truth, codes
        self._at = length
        self._context = self._coded(truth[:, :length], slice(0, length))
        self._without: list[list[uuid.UUID]] = [list(each.cpe_ids[:length]) for each in passages]
        self.cosine: list[NDArray[np.float64]] = []
        self.same_article: list[list[bool]] = []

    def step(self) -> None:
        predicted = self._predict(list(self._context))
        norms = np.linalg.norm(predicted, axis=1, keepdims=True)
        # What has no direction stays where the context is.
        last = self._context[:, -1, : predicted.shape[1]]
        units = np.where(norms > 0, predicted / np.where(norms > 0, norms, 1), last)
        self.cosine.append(cosine(predicted, self._truth[:, self._at]))
        decoded = self._decoder.decode(units, without=self._without)
        self.same_article.append(
            [
                bool(each.hits) and each.hits[0].article_id == passage.article_id
                for each, passage in zip(decoded, self._passages, strict=True)
            ]
        )
        for left_out, each in zip(self._without, decoded, strict=True):
            left_out += [hit.cpe_id for hit in each.hits[:1]]
        read = units
        if self._way == "index":
            snapped = [left_out[-1] for left_out in self._without]
            read = self._searcher.vectors(snapped, tmd=self._codes is not None)
        elif self._way == "truth":
            read = self._truth[:, self._at]
        self._append(read)
        self._at += 1

    def _coded(self, vectors: Vectors, places: slice) -> Vectors:
        """Vectors `(articles, n, 768)` with the codes of the concepts at these places."""
        if self._codes is None:
            return vectors
        return np.concatenate([vectors, self._codes[:, places]], axis=2)

    def _append(self, read: Vectors) -> None:
        row = np.zeros((len(read), 1, self._context.shape[2]), dtype=np.float32)
        row[:, 0, : read.shape[1]] = read
        if self._way == "truth":
            row = self._coded(read[:, None], slice(self._at, self._at + 1))
        self._context = np.concatenate([self._context, row], axis=1)


def measured(found: Sequence[Drifted]) -> list[Measured]:
    """The same as rows of a benchmark; articles are samples, and `none` is the cosines' peer."""
    rows = []
    for each in found:
        for unit, values in ((COSINE, each.cosine), (SAME_ARTICLE, each.same_article)):
            if values is None:
                continue
            rows += [
                Measured(
                    f"{each.way} {number}",
                    unit,
                    [float(value) for value in samples],
                    f"none {number}" if unit == COSINE and each.way != "none" else None,
                    {"way": each.way, "step": number},
                )
                for number, samples in enumerate(values, start=1)
            ]
    return rows
