"""Sequence sets: create, freeze, look up, and check that the data is still what was frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.schema.corpus import dataset
from lvmdb.db.schema.sequences import sequence_set
from lvmdb.db.types import SPLITS, checked_name
from lvmdb.errors import SequenceError, UnknownNameError, UsageError
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences import freezing, leaks, nested

MOST_SHARDS = 1024


@dataclass(frozen=True)
class SequenceSpec:
    """What a sequence set is to be.

    Attributes:
        name: `[a-z0-9_-]+`.
        dataset: the dataset that it reads.
        context_len: concepts in a context.
        stride: step from one window's target to the next within an article.
        fractions: shares of train, val and test; they add up to 1.
        seed: decides which article goes to which split, and what a sample holds.
        scope: `article`, or `corpus`, which lets windows cross articles and splits them in order.
        max_concepts: at most so many concepts, a seeded sample of whole articles.
        allowed_leaks: near-duplicate concepts between splits that are admitted, in pairs.
        shards: virtual shards among which its articles are dealt out: a power of two.
        within: a frozen set whose articles it takes its own from, each with its split; the
            fractions are that one's.
    """

    name: str
    dataset: str
    context_len: int = 5
    stride: int = 1
    fractions: tuple[Decimal, Decimal, Decimal] = (Decimal("0.8"), Decimal("0.1"), Decimal("0.1"))
    seed: int = 0
    scope: str = "article"
    max_concepts: int | None = None
    allowed_leaks: int = 0
    shards: int = 16
    within: str | None = None

    def __post_init__(self) -> None:
        checked_name("sequence set", self.name)
        if not 1 <= self.shards <= MOST_SHARDS or self.shards & (self.shards - 1):
            raise UsageError(
                f"--shards is a power of two between 1 and {MOST_SHARDS}, not {self.shards}"
            )
        if self.context_len < 1:
            raise UsageError(f"--context must be at least 1, not {self.context_len}")
        if self.stride < 1:
            raise UsageError(f"--stride must be at least 1, not {self.stride}")
        if self.scope not in ("article", "corpus"):
            raise UsageError(f"--scope is article or corpus, not {self.scope}")
        train, val, test = self.fractions
        if train <= 0 or val < 0 or test < 0 or train + val + test != 1:
            raise UsageError("--split needs three shares that add up to 100, as in 80/10/10")
        if any(share != round(share, 4) for share in self.fractions):
            raise UsageError(
                "--split takes shares with at most two decimals, as in 79.5/10.25/10.25"
            )
        if not -(2**63) <= self.seed < 2**63:
            raise UsageError("--seed must fit into 64 bits")
        if self.max_concepts is not None and self.max_concepts <= self.context_len:
            raise UsageError("--max-concepts must be more than --context")
        _check_allowed(self.allowed_leaks)


@dataclass(frozen=True)
class SequenceSet:
    """A sequence set as the database has it. Counts and fingerprint are None in a draft.

    So are `leaks`, and also in a set frozen before they were looked for.
    """

    sequence_set_id: int
    name: str
    dataset_source: str
    encoder_id: int
    context_len: int
    stride: int
    scope: str
    seed: int
    frozen: bool
    fingerprint: bytes | None
    articles: int | None
    concepts: int | None
    windows: Mapping[str, int | None]
    shards: int = 16
    allowed_leaks: int = 0
    leaks: int | None = None
    within_set_id: int | None = None

    @property
    def frozen_fingerprint(self) -> bytes:
        """The fingerprint.

        Raises:
            SequenceError: the set is a draft.
        """
        if self.fingerprint is None:
            raise SequenceError(
                f"sequence set '{self.name}' is a draft: run 'lvmdb sequences freeze {self.name}'"
            )
        return self.fingerprint

    def window_count(self, split: str) -> int:
        """Windows of one split, of a frozen set."""
        count = self.windows[split]
        if count is None:
            raise SequenceError(
                f"sequence set '{self.name}' is a draft: run 'lvmdb sequences freeze {self.name}'"
            )
        return count


def create(
    db: Database, spec: SequenceSpec, *, freeze_it: bool = True, progress: Progress = SILENT
) -> SequenceSet:
    """Make a sequence set and, unless it is to stay a draft, freeze it; all or nothing.

    Articles that share near-duplicate concepts are put on one side; within another set they stay
    where they are.

    Raises:
        UnknownNameError: there is no such dataset, or no set to be within.
        SequenceError: the name is taken, the dataset has no vectors, no window is long enough,
            near-duplicate concepts in different splits are more than allowed, or the set to be
            within is a draft or of scope corpus.
    """
    with db.begin() as connection:
        if freeze_it:
            connection.execute(query("sequences", "lock_content"))
        encoder_id = _encoder_of(connection, spec.dataset)
        taken = select(sequence_set.c.name).where(sequence_set.c.name == spec.name)
        if connection.execute(taken).first():
            raise SequenceError(
                f"there is a sequence set '{spec.name}' already: choose another name"
            )
        spec, outer_id = nested.inherit(connection, spec)
        train, val, test = spec.fractions
        new_id = connection.execute(
            insert(sequence_set)
            .values(
                name=spec.name,
                dataset_source=spec.dataset,
                encoder_id=encoder_id,
                context_len=spec.context_len,
                stride=spec.stride,
                scope=spec.scope,
                train_fraction=train,
                val_fraction=val,
                test_fraction=test,
                seed=spec.seed,
                max_concepts=spec.max_concepts,
                shards=spec.shards,
                allowed_leaks=spec.allowed_leaks,
                within_set_id=outer_id,
            )
            .returning(sequence_set.c.sequence_set_id)
        ).scalar_one()
        choose = "choose_articles" if outer_id is None else "choose_articles_within"
        connection.execute(query("sequences", choose), {"sequence_set_id": new_id})
        if freeze_it:
            # What takes no time goes first.
            freezing.window_counts(connection, _read(connection, spec.name))
        likeness = None
        if spec.scope == "article":
            likeness = leaks.look(connection, new_id, progress)
            if outer_id is None and (kept := leaks.keep_together(connection, new_id, likeness)):
                progress.say(
                    f"{kept} articles share near-duplicate concepts with others: kept on one side"
                )
        if freeze_it:
            freezing.freeze(connection, _read(connection, spec.name), progress, likeness)
        return _read(connection, spec.name)


def freeze(
    db: Database, name: str, *, allow_leaks: int | None = None, progress: Progress = SILENT
) -> SequenceSet:
    """Count and fingerprint a draft; from then on it cannot change. Frozen already: nothing.

    Args:
        db: the database.
        name: of the set.
        allow_leaks: admit so many pairs of near-duplicate concepts between splits; None leaves
            it at what the draft says.
        progress: where the search for them reports to.

    Raises:
        UnknownNameError, SequenceError: as for `create`.
    """
    with db.begin() as connection:
        connection.execute(query("sequences", "lock_content"))
        found = _read(connection, name)
        if not found.frozen:
            if allow_leaks is not None:
                _check_allowed(allow_leaks)
                connection.execute(
                    update(sequence_set)
                    .where(sequence_set.c.sequence_set_id == found.sequence_set_id)
                    .values(allowed_leaks=allow_leaks)
                )
                found = replace(found, allowed_leaks=allow_leaks)
            freezing.freeze(connection, found, progress)
        return _read(connection, name)


def get(db: Database, name: str) -> SequenceSet:
    """The set of this name.

    Raises:
        UnknownNameError: there is none.
    """
    with db.connect() as connection:
        return _read(connection, name)


def get_by_id(connection: Connection, sequence_set_id: int) -> SequenceSet:
    """The set with this id, which must exist."""
    where = sequence_set.c.sequence_set_id == sequence_set_id
    return _from_row(connection.execute(select(sequence_set).where(where)).mappings().one())


def remove(db: Database, name: str) -> None:
    """Delete a set that no run rests on, and no set within it.

    Raises:
        UnknownNameError: there is none.
        DatabaseError: something rests on it.
    """
    with db.begin() as connection:
        found = _read(connection, name)
        connection.execute(
            delete(sequence_set).where(sequence_set.c.sequence_set_id == found.sequence_set_id)
        )


def verify(db: Database, sequences: SequenceSet) -> bytes:
    """Compute the fingerprint again, compare, and return it.

    Raises:
        SequenceError: the data changed since the set was frozen.
    """
    with db.connect() as connection:
        now = freezing.fingerprint(connection, sequences.sequence_set_id)
    if now != sequences.frozen_fingerprint:
        raise SequenceError(
            f"the data of sequence set '{sequences.name}' is not what was frozen "
            f"(fingerprint {now.hex()[:16] if now else 'none'}, frozen as "
            f"{sequences.frozen_fingerprint.hex()[:16]}): create a new set"
        )
    return sequences.frozen_fingerprint


def _check_allowed(leaks_allowed: int) -> None:
    if not 0 <= leaks_allowed <= leaks.MOST_COUNTED:
        raise UsageError(f"--allow-leaks is between 0 and {leaks.MOST_COUNTED}")


def _encoder_of(connection: Connection, name: str) -> int:
    row = connection.execute(
        select(dataset.c.encoder_id).where(dataset.c.dataset_source == name)
    ).one_or_none()
    if row is None:
        known = connection.execute(select(dataset.c.dataset_source)).scalars()
        raise UnknownNameError("dataset", name, known)
    if row[0] is None:
        raise SequenceError(
            f"dataset '{name}' has no vectors: ingest it again with --encoder, or import them"
        )
    return int(row[0])


def _read(connection: Connection, name: str) -> SequenceSet:
    row = connection.execute(select(sequence_set).where(sequence_set.c.name == name)).mappings()
    found = row.one_or_none()
    if found is None:
        known = connection.execute(select(sequence_set.c.name)).scalars()
        raise UnknownNameError("sequence set", name, known, hint=None)
    return _from_row(found)


def _from_row(row: Mapping[Any, Any]) -> SequenceSet:
    return SequenceSet(
        sequence_set_id=row["sequence_set_id"],
        name=row["name"],
        dataset_source=row["dataset_source"],
        encoder_id=row["encoder_id"],
        context_len=row["context_len"],
        stride=row["stride"],
        scope=row["scope"],
        seed=row["seed"],
        frozen=row["frozen_at"] is not None,
        fingerprint=bytes(row["fingerprint"]) if row["fingerprint"] is not None else None,
        articles=row["articles"],
        concepts=row["concepts"],
        windows={split: row[f"{split}_windows"] for split in SPLITS},
        shards=row["shards"],
        allowed_leaks=row["allowed_leaks"],
        leaks=row["leaks"],
        within_set_id=row["within_set_id"],
    )
