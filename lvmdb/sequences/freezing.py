"""Freezing: a draft is counted, searched for leaks and fingerprinted, and never changes again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.schema.sequences import sequence_set
from lvmdb.db.types import SPLITS
from lvmdb.errors import SequenceError
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences import leaks, nested

if TYPE_CHECKING:
    from lvmdb.sequences.sets import SequenceSet


def window_counts(connection: Connection, draft: SequenceSet) -> Mapping[Any, Any]:
    """Articles, concepts and windows of a draft as it is now, all of which can be used.

    Raises:
        SequenceError: a concept has no vector, or a split no window.
    """
    key = {"sequence_set_id": draft.sequence_set_id}
    connection.execute(query("sequences", "count_concepts"), key)
    missing = connection.execute(
        query("sequences", "count_missing_vectors"), key
    ).scalar_one_or_none()
    if missing:
        raise SequenceError(
            f"{missing} concepts of dataset '{draft.dataset_source}' have no vector: "
            "ingest them with an encoder first"
        )
    counts = connection.execute(query("sequences", "count_windows"), key).mappings().one()
    if not counts["article_count"]:
        raise SequenceError(
            f"sequence set '{draft.name}' has no article: none fits into --max-concepts as a whole"
        )
    if counts["longest"] <= draft.context_len and draft.scope == "article":
        raise SequenceError(
            f"no article of dataset '{draft.dataset_source}' is longer than "
            f"{draft.context_len} concepts, so there is no window: choose a shorter --context"
        )
    fractions = connection.execute(
        select(
            sequence_set.c.train_fraction, sequence_set.c.val_fraction, sequence_set.c.test_fraction
        ).where(sequence_set.c.sequence_set_id == draft.sequence_set_id)
    ).one()
    for split, fraction in zip(SPLITS, fractions, strict=True):
        if fraction > 0 and counts[f"{split}_windows"] == 0:
            taken = counts["article_count"]
            remedy = f"{taken} articles were taken; take more of the set (--max-concepts)"
            if draft.within_set_id is None:
                remedy = (
                    f"the dataset has {taken} articles; choose other shares (--split), another "
                    "--seed, or more text"
                )
            raise SequenceError(f"split {split} of '{draft.name}' has no window: {remedy}")
    return counts


def freeze(
    connection: Connection,
    draft: SequenceSet,
    progress: Progress,
    likeness: leaks.Likeness | None = None,
) -> None:
    """Make a draft final, in a transaction that holds `lock_content`.

    Args:
        connection: where; nothing is committed here.
        draft: the set.
        progress: where the search for leaks reports to.
        likeness: of its concepts, if that was looked for in this transaction already.

    Raises:
        SequenceError: a concept has no vector, a split no window, there are too many leaks, or an
            article is on another side than in the set that this one is within.
    """
    nested.check(connection, draft)
    counts = window_counts(connection, draft)
    likeness = likeness or leaks.look(connection, draft.sequence_set_id, progress)
    windows = [counts[f"{split}_windows"] for split in SPLITS]
    found = leaks.between_splits(connection, draft, windows, likeness)
    leaks.record(connection, draft, found)
    connection.execute(
        query("sequences", "freeze"),
        {
            "sequence_set_id": draft.sequence_set_id,
            "leaks": found.count,
            "fingerprint": fingerprint(connection, draft.sequence_set_id),
            "articles": counts["article_count"],
            "concepts": counts["concept_count"],
            **{f"{split}_windows": counts[f"{split}_windows"] for split in SPLITS},
        },
    )


def count_leaks(db: Database, sequences: SequenceSet, *, progress: Progress = SILENT) -> int:
    """Pairs of near-duplicate concepts between the splits of a frozen set.

    They are those of the freeze; in a set that was frozen before leaks were looked for, they are
    counted now, and nothing is stored.

    Raises:
        SequenceError: the set is a draft, or so many are alike that they cannot be copies.
    """
    windows = [sequences.window_count(split) for split in SPLITS]
    if sequences.leaks is not None:
        return sequences.leaks
    with db.begin() as connection:
        likeness = leaks.look(connection, sequences.sequence_set_id, progress)
        return leaks.between_splits(connection, sequences, windows, likeness).count


def fingerprint(connection: Connection, sequence_set_id: int) -> bytes | None:
    """SHA-256 of what a set is made of, as it is now; None if the set, or all of it, is gone."""
    value: bytes | None = connection.execute(
        query("sequences", "fingerprint"), {"sequence_set_id": sequence_set_id}
    ).scalar_one_or_none()
    return value
