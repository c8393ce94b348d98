"""Leaks: what a model is tested on and has seen in training, in nearly the same words.

A leak is a pair of concepts in different splits whose vectors have a cosine of at least 0.995.

In scope `article`, articles that share such concepts are put on one side when a set is made; what
is left between its splits is refused when it is frozen, or admitted by number. A target is never
in the context of another split's window: a window stays within its article, and an article has one
split. Only a near-duplicate of the target can be there, and that is a leak wherever it stands.

In scope `corpus` windows are split, not articles, and those on the two sides of a border share
concepts by nature; each such concept counts as a pair with itself. Nothing is moved, and leaks are
counted and stored, not refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, islice, product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete

from lvmdb.db.bulk import parsed_vectors
from lvmdb.db.engine import raw
from lvmdb.db.queries import psycopg_sql, query
from lvmdb.db.schema.sequences import sequence_leak
from lvmdb.db.types import DIMENSION, SPLITS
from lvmdb.errors import SequenceError
from lvmdb.progress import Progress
from lvmdb.sequences.near_duplicates import COSINE, NearDuplicates, near_duplicates

if TYPE_CHECKING:
    from lvmdb.sequences.sets import SequenceSet

Ints = NDArray[np.int64]

LARGEST = 0.1
"""Articles that hang together are put on one side while they are at most this share of the set:
what links more is boilerplate, and moving it would empty a split."""

MOST_ROWS = 1_000_000
"""Leaks of a set that are stored. The count is of all: copies of one text may make billions."""

MOST_COUNTED = 2**31 - 1

_FETCH_ROWS = 500
_STORED_ROWS = 10_000

# The splits that a concept is in, as bits: 1 train, 2 val, 4 test; 0 where it is in no window.
_IN = range(8)
_SIDES = {
    (a, b): next(
        (
            (one, other)
            for i, one in enumerate(SPLITS)
            for j, other in enumerate(SPLITS)
            if i != j and a >> i & 1 and b >> j & 1
        ),
        None,
    )
    for a in _IN
    for b in _IN
}
"""For a pair of concepts, the first two different splits that they are in; None: it is no leak."""

_CROSSES = np.array([[_SIDES[a, b] is not None for b in _IN] for a in _IN], dtype=np.int64)


@dataclass(frozen=True)
class Likeness:
    """The articles of a set in its order, their concepts, and which of those are alike.

    Attributes:
        article_id: `(articles,)`.
        ordinal: `(articles,)`, their places in the corpus.
        titles: of the articles.
        text: `(articles,)`, equal numbers for articles of the same text.
        article: `(concepts,)`, index of each concept's article.
        seq: `(concepts,)`, its place there.
        near: the near-duplicates among the concepts' vectors.
    """

    article_id: Ints
    ordinal: Ints
    titles: list[str]
    text: Ints
    article: Ints
    seq: Ints
    near: NearDuplicates


@dataclass(frozen=True)
class Leaks:
    """The pairs of near-duplicates between the splits of a set.

    Attributes:
        count: how many pairs there are.
        likeness: what they were found in.
        inside: `(concepts,)`, the splits of each concept as bits.
    """

    count: int
    likeness: Likeness
    inside: Ints

    def pairs(self) -> Iterator[tuple[int, int, str, str, float]]:
        """Each leak once: two indices of concepts, the split of each, their cosine.

        Train comes before val, and val before test.
        """
        near, inside = self.likeness.near, self.inside
        # Concepts of one group and the same splits stand together.
        key = near.group * len(_IN) + inside
        order = np.argsort(key, kind="stable")
        starts = np.searchsorted(key[order], np.arange(near.groups * len(_IN) + 1))

        def members(group: int, splits: int) -> list[int]:
            place = group * len(_IN) + splits
            return order[starts[place] : starts[place + 1]].tolist()  # type: ignore[no-any-return]

        within, between = _crossing(near, inside)
        for group in np.flatnonzero(within).tolist():
            for a, b in combinations_with_replacement(_IN, 2):
                if (sides := _SIDES[a, b]) is None:
                    continue
                one = members(group, a)
                own = combinations_with_replacement(one, 2)
                for i, j in own if a == b else product(one, members(group, b)):
                    yield i, j, *sides, 1.0
        for place in np.flatnonzero(between).tolist():
            first, second = near.pairs[place].tolist()
            for a, b in product(_IN, _IN):
                if (sides := _SIDES[min(a, b), max(a, b)]) is None:
                    continue
                for i, j in product(members(first, a), members(second, b)):
                    here, there = (i, j) if a <= b else (j, i)
                    yield here, there, *sides, float(near.cosine[place])


def look(connection: Connection, sequence_set_id: int, progress: Progress) -> Likeness:
    """Read the vectors of a set, those that there are, and find the near-duplicates among them.

    Raises:
        SequenceError: so many are alike that they cannot be copies.
    """
    rows = connection.execute(
        query("sequences", "leak_articles"), {"sequence_set_id": sequence_set_id}
    ).all()
    ids = [row.article_id for row in rows]
    total = sum(row.concepts for row in rows)
    vectors = np.empty((total, DIMENSION), dtype=np.float32)
    article, seq = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
    filled = 0
    with (
        progress.task("reading vectors", total, "concepts") as advance,
        raw(connection).cursor("leak_concepts", binary=True) as cursor,
    ):
        cursor.execute(psycopg_sql("sequences", "leak_concepts"), {"article_ids": ids})
        while sent := cursor.fetchmany(_FETCH_ROWS):
            # A draft is not locked and may grow meanwhile; it is looked at again on freezing.
            sent = sent[: total - filled]
            if not sent:
                break
            block = slice(filled, filled + len(sent))
            article[block] = [row[0] - 1 for row in sent]
            seq[block] = [row[1] for row in sent]
            vectors[block] = parsed_vectors([row[2] for row in sent], DIMENSION)
            filled += len(sent)
            advance(len(sent))
    with progress.task("looking for near-duplicates", filled, "concepts") as advance:
        near = near_duplicates(vectors[:filled], advance)
    texts: dict[bytes, int] = {}
    return Likeness(
        article_id=np.array(ids, dtype=np.int64),
        ordinal=np.array([row.ordinal for row in rows], dtype=np.int64),
        titles=[row.title for row in rows],
        text=np.array(
            [texts.setdefault(bytes(row.text_hash), len(texts)) for row in rows], dtype=np.int64
        ),
        article=article[:filled],
        seq=seq[:filled],
        near=near,
    )


def keep_together(connection: Connection, sequence_set_id: int, likeness: Likeness) -> int:
    """Put articles that are alike into the split of the first of them in the corpus.

    The first in the set's order would be no fair draw: that order is cut into splits, and the
    first of several is nearly always on the side of train.

    Articles of the same text always share a split. Others hang together by near-duplicate
    concepts, as long as no more than `LARGEST` of the articles, or three, do. Order and all other
    articles stay as they are.

    Returns:
        How many articles were kept with others.
    """
    articles = len(likeness.article_id)
    together = _components(likeness)
    largest = max(3, int(LARGEST * articles))
    size = np.bincount(together, minlength=1)
    # Those of a component that is too large keep together by text alone.
    kept = np.where(size[together] <= largest, together, len(size) + likeness.text)
    _, label, members = np.unique(kept, return_inverse=True, return_counts=True)
    by_place = np.lexsort((likeness.ordinal, label))
    leader = by_place[(np.cumsum(members) - members)][label]
    follows = np.flatnonzero(leader != np.arange(articles))
    if len(follows):
        connection.execute(
            query("sequences", "follow_articles"),
            {
                "sequence_set_id": sequence_set_id,
                "article_ids": likeness.article_id[follows].tolist(),
                "leader_ids": likeness.article_id[leader[follows]].tolist(),
            },
        )
    return int(members[members > 1].sum())


def between_splits(
    connection: Connection, sequences: SequenceSet, windows: Sequence[int], likeness: Likeness
) -> Leaks:
    """The leaks of a set as its articles are split now.

    Args:
        connection: to read the splits from.
        sequences: the set, a draft or frozen.
        windows: how many train, val and test have; what scope `corpus` is split by.
        likeness: of its concepts, from `look`.

    Raises:
        SequenceError: there are more than can be counted.
    """
    concepts = len(likeness.article)
    inside = np.zeros(concepts, dtype=np.int64)
    if sequences.scope == "corpus":
        first = 0
        for bit, count in enumerate(windows):
            start = first * sequences.stride
            end = (first + count - 1) * sequences.stride + sequences.context_len + 1
            inside[start : end if count else start] |= 1 << bit
            first += count
    else:
        rows = connection.execute(
            query("sequences", "leak_articles"), {"sequence_set_id": sequences.sequence_set_id}
        ).all()
        bits = {split: 1 << bit for bit, split in enumerate(SPLITS)}
        split = np.array([bits.get(row.split, 0) for row in rows], dtype=np.int64)
        inside[:] = split[likeness.article]
    within, between = _crossing(likeness.near, inside)
    total = int(within.sum()) + int(between.sum())
    if total > MOST_COUNTED:
        raise SequenceError(
            f"{total:,} pairs of near-duplicate concepts lie between the splits of "
            f"'{sequences.name}', more than can be stored: take repeated text out of the corpus"
        )
    return Leaks(total, likeness, inside)


def record(connection: Connection, draft: SequenceSet, leaks: Leaks) -> None:
    """Store the leaks of a set that is about to be frozen, `MOST_ROWS` of them at most.

    Raises:
        SequenceError: there are more than the set allows.
    """
    likeness = leaks.likeness
    if leaks.count > draft.allowed_leaks and draft.scope == "article":
        i, j, split, other_split, _ = next(leaks.pairs())
        one, other = (likeness.titles[likeness.article[k]] for k in (i, j))
        pairs = "1 pair" if leaks.count == 1 else f"{leaks.count} pairs"
        raise SequenceError(
            f"{pairs} of near-duplicate concepts (cosine at least {COSINE}) between the splits of "
            f"'{draft.name}', {draft.allowed_leaks} allowed, e.g. in '{one}' ({split}) and "
            f"'{other}' ({other_split}): take repeated text out of the corpus, admit them with "
            f"--allow-leaks {leaks.count}, or make the set with --draft and move articles in "
            "sequence_article before 'lvmdb sequences freeze'"
        )
    key = draft.sequence_set_id
    connection.execute(delete(sequence_leak).where(sequence_leak.c.sequence_set_id == key))
    pairs_left = islice(leaks.pairs(), MOST_ROWS)
    while block := list(islice(pairs_left, _STORED_ROWS)):
        ones, others, splits, other_splits, cosines = zip(*block, strict=True)
        first, second = np.array(ones), np.array(others)
        connection.execute(
            query("sequences", "add_leaks"),
            {
                "sequence_set_id": key,
                "article_ids": likeness.article_id[likeness.article[first]].tolist(),
                "seqs": likeness.seq[first].tolist(),
                "other_article_ids": likeness.article_id[likeness.article[second]].tolist(),
                "other_seqs": likeness.seq[second].tolist(),
                "splits": list(splits),
                "other_splits": list(other_splits),
                "cosines": list(cosines),
            },
        )


def _components(likeness: Likeness) -> Ints:
    """`(articles,)`: equal numbers for articles that hang together by text or near-duplicates."""
    # Training and evaluation, which split nothing, start without it.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    articles, near = len(likeness.article_id), likeness.near
    # Nodes: articles, groups of equal vectors, texts.
    group, text = articles, articles + near.groups
    one = [likeness.article, near.pairs[:, 0] + group, np.arange(articles)]
    other = [near.group + group, near.pairs[:, 1] + group, likeness.text + text]
    edges = np.concatenate(one), np.concatenate(other)
    nodes = text + int(likeness.text.max(initial=-1)) + 1
    graph = coo_array((np.ones(len(edges[0]), dtype=np.int8), edges), shape=(nodes, nodes))
    label: Ints = connected_components(graph, directed=False)[1][:articles].astype(np.int64)
    return label


def _crossing(near: NearDuplicates, inside: Ints) -> tuple[Ints, Ints]:
    """How many leaks there are within each group, and between each pair of groups."""
    cells = np.bincount(near.group * len(_IN) + inside, minlength=near.groups * len(_IN))
    held = cells.reshape(near.groups, len(_IN))
    reached = held @ _CROSSES
    # Every pair of two is seen from both ends, and a pair of one with itself once.
    itself = held @ np.diag(_CROSSES)
    within: Ints = ((held * reached).sum(axis=1) + itself) // 2
    between: Ints = (held[near.pairs[:, 0]] * reached[near.pairs[:, 1]]).sum(axis=1)
    return within, between
