"""What the tests against PostgreSQL share: frozen sets, and SQL that must be refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import psycopg
import pytest

from lvmdb.db.engine import Database
from lvmdb.sequences.sets import SequenceSet, SequenceSpec, create


@pytest.fixture
def sequence_set(db: Database) -> Callable[..., SequenceSet]:
    """`sequence_set(name="s", split=(60, 20, 20), **SequenceSpec's)`: a set over "wiki", frozen."""

    def make(
        name: str = "s",
        *,
        split: tuple[int, int, int] = (60, 20, 20),
        dataset: str = "wiki",
        into: Database = db,
        freeze_it: bool = True,
        context_len: int = 2,
        stride: int = 1,
        scope: str = "article",
        seed: int = 0,
        max_concepts: int | None = None,
        allowed_leaks: int = 0,
        shards: int = 16,
    ) -> SequenceSet:
        train, val, test = (Decimal(share) / 100 for share in split)
        spec = SequenceSpec(
            name=name,
            dataset=dataset,
            context_len=context_len,
            stride=stride,
            fractions=(train, val, test),
            seed=seed,
            scope=scope,
            max_concepts=max_concepts,
            allowed_leaks=allowed_leaks,
            shards=shards,
        )
        return create(into, spec, freeze_it=freeze_it)

    return make


@pytest.fixture
def sql(db: Database) -> Callable[..., list[tuple[object, ...]]]:
    """`sql("SELECT ...", [parameters])`: rows; what it changes is committed."""

    def execute(
        statement: str, parameters: Sequence[object] | None = None, *, on: Database = db
    ) -> list[tuple[object, ...]]:
        with on.raw_connection() as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    return execute


@pytest.fixture
def refused(sql: Callable[..., object]) -> Callable[..., None]:
    """`refused("UPDATE ...", "part of the message")`: PostgreSQL refuses the statement for that."""

    def check(statement: str, why: str, parameters: Sequence[object] | None = None) -> None:
        with pytest.raises(psycopg.errors.IntegrityError, match=why):
            sql(statement, parameters)

    return check
