"""Distractors drawn once for the windows of a split, so that every run meets the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, insert, select

from lvmdb.db import bulk
from lvmdb.db.engine import raw
from lvmdb.db.queries import psycopg_sql, query
from lvmdb.db.schema.evaluations import candidate_pool
from lvmdb.errors import CorpusError, UnknownNameError
from lvmdb.evaluation.pool import Pool
from lvmdb.metrics.contrast import STRATA, Distractors
from lvmdb.sequences.sets import SequenceSet

SAME_ARTICLE, OTHER_ARTICLE = 10, 20
"""Distractors of each stratum for one truth; of a short article there may be fewer."""

SEED = 0

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class DrawnPool:
    """A stored pool, in the order of the truths that it was asked for.

    Attributes:
        name: in the database.
        distractors: by query.
        fingerprint: SHA-256 over targets and candidates.
    """

    name: str
    distractors: Distractors
    fingerprint: bytes


def pool_name(sequences: SequenceSet, split: str) -> str:
    """The name of the pool that is drawn when a split is first evaluated."""
    return f"{sequences.name}-{split}"


def draw(
    connection: Connection,
    sequences: SequenceSet,
    split: str,
    pool: Pool,
    truth: Ints,
    context: Ints,
    groups: Ints,
) -> None:
    """Draw and store the pool of a split, unless that was done before.

    Neither the truth nor its duplicates, its context or the concept after it are distractors.

    Args:
        connection: in a transaction.
        sequences: the set.
        split: whose windows they are.
        pool: of the set's dataset.
        truth: `(n,)` rows of the pool.
        context: `(n, k)` rows of the pool.
        groups: `(N,)` the duplicate groups of the pool.
    """
    name = pool_name(sequences, split)
    # Two evaluations at once draw one pool.
    connection.execute(query("evaluation", "lock_pool_name"), {"name": name})
    known = select(candidate_pool.c.name).where(candidate_pool.c.name == name)
    if connection.execute(known).first():
        return
    drawn = _drawn(sequences, split, pool, truth, context, groups)
    targets = [pool.cpe_id[row] for row in truth[drawn.query]]
    candidates = [pool.cpe_id[row] for row in drawn.concept]
    pool_id = connection.execute(
        insert(candidate_pool)
        .values(
            name=name,
            sequence_set_id=sequences.sequence_set_id,
            split=split,
            seed=SEED,
            fingerprint=_fingerprint(targets, candidates, drawn.same_article),
        )
        .returning(candidate_pool.c.candidate_pool_id)
    ).scalar_one()
    bulk.copy_rows(
        connection,
        "candidate",
        {
            "candidate_pool_id": bulk.integers(np.full(len(drawn), pool_id), 8),
            "target_cpe_id": bulk.uuids(targets),
            "candidate_cpe_id": bulk.uuids(candidates),
            "stratum": bulk.texts(STRATA[0] if same else STRATA[1] for same in drawn.same_article),
        },
    )


def load(
    connection: Connection,
    sequences: SequenceSet,
    split: str,
    name: str,
    pool: Pool,
    truth: Ints,
) -> DrawnPool:
    """The stored pool of that name, for these truths `(n,)`.

    Raises:
        UnknownNameError: there is none for this set and split.
        CorpusError: it is not what was drawn.
    """
    pool_id, stored = require(connection, sequences, split, name)
    with raw(connection).cursor(binary=True) as cursor:
        rows = cursor.execute(
            psycopg_sql("evaluation", "candidates"), {"pool_id": pool_id}
        ).fetchall()
    targets = [row[0].bytes for row in rows]
    candidates = [row[1].bytes for row in rows]
    same = np.array([row[2] for row in rows], dtype=np.bool_)
    if _fingerprint(targets, candidates, same) != stored:
        raise CorpusError(f"the candidates of pool '{name}' are not what was drawn: draw another")
    row_of = {cpe_id: row for row, cpe_id in enumerate(pool.cpe_id)}
    query_of = {pool.cpe_id[row]: query_row for query_row, row in enumerate(truth)}
    try:
        of_query = np.array([query_of[target] for target in targets], dtype=np.int64)
        concept = np.array([row_of[cpe_id] for cpe_id in candidates], dtype=np.int64)
    except KeyError:
        raise CorpusError(f"pool '{name}' was drawn for other windows or concepts") from None
    order = np.argsort(of_query, kind="stable")
    return DrawnPool(name, Distractors(of_query[order], concept[order], same[order]), stored)


def require(
    connection: Connection, sequences: SequenceSet, split: str, name: str
) -> tuple[int, bytes]:
    """Id and fingerprint of the stored pool of that name.

    Raises:
        UnknownNameError: there is none for this set and split.
    """
    of_split = select(candidate_pool).where(
        candidate_pool.c.sequence_set_id == sequences.sequence_set_id,
        candidate_pool.c.split == split,
    )
    known = {row.name: row for row in connection.execute(of_split)}
    if name not in known:
        raise UnknownNameError("pool", name, ["corpus", "article", *known])
    return int(known[name].candidate_pool_id), bytes(known[name].fingerprint)


def _drawn(
    sequences: SequenceSet, split: str, pool: Pool, truth: Ints, context: Ints, groups: Ints
) -> Distractors:
    key = hashlib.sha256(sequences.frozen_fingerprint + split.encode()).digest()
    random = np.random.default_rng([SEED, *np.frombuffer(key, dtype=np.uint32)])
    place = np.searchsorted(np.sort(pool.first), truth, side="right") - 1
    by_place = np.argsort(pool.first)
    first, length = pool.first[by_place][place], pool.length[by_place][place]
    queries: list[Ints] = []
    concepts: list[Ints] = []
    same: list[NDArray[np.bool_]] = []
    for number, row in enumerate(truth):
        start, end = int(first[number]), int(first[number] + length[number])
        near = np.arange(start, end)
        # The next concept is as near to the truth as its context is.
        near = near[~np.isin(near, context[number]) & (near != row) & (near != row + 1)]
        near = near[groups[near] != groups[row]]
        near = random.permutation(near)[:SAME_ARTICLE]
        far = random.integers(0, len(pool), size=4 * OTHER_ARTICLE)
        far = far[(far < start) | (far >= end)]
        far = far[(groups[far] != groups[row]) & ~np.isin(far, context[number])]
        _, earliest = np.unique(far, return_index=True)
        far = far[np.sort(earliest)][:OTHER_ARTICLE]
        queries.append(np.full(len(near) + len(far), number))
        concepts += [near, far]
        same.append(np.arange(len(near) + len(far)) < len(near))
    empty = np.empty(0, dtype=np.int64)
    return Distractors(
        np.concatenate([empty, *queries]).astype(np.int64),
        np.concatenate([empty, *concepts]).astype(np.int64),
        np.concatenate([empty.astype(np.bool_), *same]),
    )


def _fingerprint(targets: list[bytes], candidates: list[bytes], same: NDArray[np.bool_]) -> bytes:
    rows = sorted(zip(targets, candidates, same.tolist(), strict=True))
    return hashlib.sha256(b"".join(t + c + bytes([s]) for t, c, s in rows)).digest()
