"""Sets within a set: a sample of its articles, each on the side that it has there.

A model that goes on from the weights of another must not be tested on what that one was trained
on. Cut anew, a larger set would put some of a smaller one's training articles into its test split.
Within one set, and with one seed, a smaller sample is also part of every larger one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from lvmdb.db.queries import query
from lvmdb.db.schema.sequences import sequence_set
from lvmdb.errors import SequenceError, UnknownNameError

if TYPE_CHECKING:
    from lvmdb.sequences.sets import SequenceSet, SequenceSpec


def inherit(connection: Connection, spec: SequenceSpec) -> tuple[SequenceSpec, int | None]:
    """What a set within another takes over from it, and that one's id; others stay as they are.

    Raises:
        UnknownNameError: there is no such set.
        SequenceError: it is a draft, of another dataset, or has no split for each article.
    """
    if spec.within is None:
        return spec, None
    columns = sequence_set.c
    row = connection.execute(select(sequence_set).where(columns.name == spec.within)).one_or_none()
    if row is None:
        known = connection.execute(select(columns.name)).scalars()
        raise UnknownNameError("sequence set", spec.within, known)
    if row.frozen_at is None:
        raise SequenceError(
            f"sequence set '{spec.within}' is a draft and may change: run "
            f"'lvmdb sequences freeze {spec.within}' first"
        )
    if "corpus" in (row.scope, spec.scope):
        raise SequenceError(
            f"'{spec.name}' cannot be within '{spec.within}': in scope corpus windows are split, "
            "and no article has a side to keep"
        )
    if row.dataset_source != spec.dataset:
        raise SequenceError(
            f"'{spec.name}' cannot be within '{spec.within}', which is a set over dataset "
            f"'{row.dataset_source}', not over '{spec.dataset}'"
        )
    fractions = (row.train_fraction, row.val_fraction, row.test_fraction)
    return replace(spec, fractions=fractions), row.sequence_set_id


def check(connection: Connection, draft: SequenceSet) -> None:
    """Refuse a draft with an article that is not in its outer set, or on another side there.

    Raises:
        SequenceError: there is one.
    """
    strays = connection.execute(
        query("sequences", "strays"), {"sequence_set_id": draft.sequence_set_id}
    ).scalar_one()
    if strays:
        raise SequenceError(
            f"{strays} articles of '{draft.name}' have another split than in the set that it is "
            "within, or are not in that set: what is within a set keeps its splits"
        )
