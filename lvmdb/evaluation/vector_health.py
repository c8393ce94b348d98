"""The vectors of a dataset, looked at as `lvmdb verify` does: copies, neighbours, probes.

A large dataset is sampled by whole articles, at equal distances in its order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lvmdb.corpus.encoder import MATCH_COSINE
from lvmdb.corpus.health import Check, State, must
from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import Database, raw
from lvmdb.db.queries import psycopg_sql
from lvmdb.db.types import DIMENSION
from lvmdb.errors import SequenceError
from lvmdb.metrics.vectors import row_products
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences.near_duplicates import COSINE, NearDuplicates, near_duplicates

Floats = NDArray[np.float64]

MOST_CONCEPTS = 100_000
"""Concepts that are looked at, in 600 MB with their probes."""

MOST_PROBES = 1_000
"""Probes that are ranked among the concepts."""

ECHO_WANTED = 0.82
"""What the cosine of a probe question and its concept should be at least."""

_FETCH_ROWS = 1_000
_RANDOM_PAIRS = 20_000
_ROWS = 256


@dataclass(frozen=True)
class VectorHealth:
    """What was found among the vectors of a dataset.

    Attributes:
        dataset: its name.
        looked_at: concepts looked at.
        norms: `(concepts,)`, lengths as they are stored.
        neighbours: cosine of each concept with the next of its article.
        random: cosine of random pairs.
        equal_vectors: concepts whose vector stands earlier as well, to the bit.
        near_pairs: pairs of different vectors whose cosine is at least .995.
        too_alike: why those two are None: there are more than can be told apart.
        text_conflicts: concepts whose text stands earlier with another vector.
        echoes: cosine of each probe and its concept.
        ranked: probes that were ranked among the concepts.
        hits: of those, how many had no other concept's vector before their own.
    """

    dataset: str
    looked_at: int
    norms: Floats
    neighbours: Floats
    random: Floats
    equal_vectors: int | None
    near_pairs: int | None
    too_alike: str | None
    text_conflicts: int
    echoes: Floats
    ranked: int
    hits: int


def look_at(
    db: Database, dataset: str, concepts: int, *, progress: Progress = SILENT
) -> VectorHealth | None:
    """Read a dataset's vectors and compare them; None where there are none.

    Args:
        db: the database.
        dataset: its name.
        concepts: how many it has, by which a large one is sampled.
        progress: told of the search for near-duplicates.
    """
    step = -(-concepts // MOST_CONCEPTS) or 1
    articles: list[int] = []
    seqs: list[int] = []
    texts: list[int] = []
    blocks: list[NDArray[np.float32]] = []
    probe_rows: list[int] = []
    probe_blocks: list[NDArray[np.float32]] = []
    with db.connect() as connection, raw(connection).cursor("health", binary=True) as cursor:
        cursor.execute(psycopg_sql("checks", "vectors"), {"dataset": dataset, "step": step})
        while rows := cursor.fetchmany(_FETCH_ROWS):
            blocks.append(parsed_vectors([row[3] for row in rows], DIMENSION))
            probed = [i for i, row in enumerate(rows) if row[4] is not None]
            probe_rows += [len(articles) + i for i in probed]
            if probed:
                probe_blocks.append(parsed_vectors([rows[i][4] for i in probed], DIMENSION))
            articles += [row[0] for row in rows]
            seqs += [row[1] for row in rows]
            texts += [row[2] for row in rows]
    if not articles:
        return None
    vectors = np.concatenate(blocks)
    blocks.clear()
    norms = np.sqrt(row_products(vectors, vectors))
    vectors /= norms[:, None].astype(np.float32)
    near: NearDuplicates | None = None
    too_alike: str | None = None
    try:
        with progress.task(f"{dataset}: near-duplicates", len(vectors), "concepts") as advance:
            near = near_duplicates(vectors, advance)
    except SequenceError as error:
        too_alike = str(error)
    probes = np.concatenate(probe_blocks) if probe_blocks else vectors[:0]
    asked = np.array(probe_rows, dtype=np.int64)
    places = np.linspace(0, len(asked) - 1, min(MOST_PROBES, len(asked)))
    ranked = np.unique(places.astype(np.int64))
    article, seq = np.array(articles), np.array(seqs)
    follows = np.flatnonzero((article[1:] == article[:-1]) & (seq[1:] == seq[:-1] + 1))
    generator = np.random.default_rng(0)
    one, other = generator.integers(0, len(vectors), (2, _RANDOM_PAIRS))
    different = one != other
    return VectorHealth(
        dataset=dataset,
        looked_at=len(vectors),
        norms=norms,
        neighbours=_cosines(vectors, follows, vectors, follows + 1),
        random=_cosines(vectors, one[different], vectors, other[different]),
        equal_vectors=None if near is None else len(vectors) - near.groups,
        near_pairs=None if near is None else len(near.pairs),
        too_alike=too_alike,
        text_conflicts=_conflicts(vectors, np.array(texts, dtype=np.int64)),
        echoes=_cosines(probes, np.arange(len(probes)), vectors, asked),
        ranked=len(ranked),
        hits=_hits(probes[ranked], vectors, asked[ranked]),
    )


def vector_checks(found: VectorHealth) -> list[Check]:
    """What of it is a fault, is short of what is wanted, or is a fact."""
    name = found.dataset
    checks = [
        Check(name, "vectors compared", found.looked_at),
        Check(name, "equal vectors", found.equal_vectors),
        must(
            name, f"pairs of cosine {COSINE} or more", found.near_pairs, "",
            found.too_alike, f"is one of repetitions: {found.too_alike}",
        )
        if found.too_alike
        else Check(name, f"pairs of cosine {COSINE} or more", found.near_pairs),
        must(
            name, "equal texts with other vectors", found.text_conflicts, "0",
            found.text_conflicts,
            f"has {found.text_conflicts} concepts whose text stands elsewhere with a vector of "
            f"cosine below {MATCH_COSINE}: vectors of two encoders, or beside the wrong texts",
        ),
    ]  # fmt: skip
    if len(found.neighbours):
        check = "mean cosine of neighbours"
        checks.append(Check(name, check, float(found.neighbours.mean())))
    if len(found.random):
        checks.append(Check(name, "mean cosine of random pairs", float(found.random.mean())))
    if len(found.echoes):
        mean = float(found.echoes.mean())
        state = State.OK if mean >= ECHO_WANTED else State.SHORT
        checks += [
            Check(name, "mean echo of probes", mean, f"{ECHO_WANTED} or more", state),
            Check(name, f"probes of echo {ECHO_WANTED} or more",
                  float((found.echoes >= ECHO_WANTED).mean())),
            Check(name, "P@1 of probe to concept", found.hits / found.ranked),
            Check(name, "probes ranked", found.ranked),
        ]  # fmt: skip
    return checks


def _cosines(
    left: NDArray[np.float32],
    one: NDArray[np.int64],
    right: NDArray[np.float32],
    other: NDArray[np.int64],
) -> Floats:
    """Cosines of the rows `one` of `left` and the rows `other` of `right`, in blocks."""
    blocks = [np.empty(0)]
    for start in range(0, len(one), _ROWS):
        rows = slice(start, start + _ROWS)
        a, b = left[one[rows]], right[other[rows]]
        lengths = np.sqrt(row_products(a, a) * row_products(b, b))
        blocks.append(row_products(a, b) / lengths)
    return np.concatenate(blocks)


def _conflicts(vectors: NDArray[np.float32], texts: NDArray[np.int64]) -> int:
    """Concepts of a text that stands earlier, with a vector that is not that one."""
    _, first, group = np.unique(texts, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[group] != np.arange(len(texts)))
    return int((_cosines(vectors, again, vectors, first[group[again]]) < MATCH_COSINE).sum())


def _hits(
    probes: NDArray[np.float32], vectors: NDArray[np.float32], truth: NDArray[np.int64]
) -> int:
    """Probes whose own concept has the highest cosine; copies of its vector count as it."""
    hits = 0
    for start in range(0, len(probes), _ROWS):
        scores = probes[start : start + _ROWS] @ vectors.T  # (probes, concepts)
        own = scores[np.arange(len(scores)), truth[start : start + _ROWS]]
        hits += int((scores.max(axis=1) <= own + 1e-6).sum())
    return hits
