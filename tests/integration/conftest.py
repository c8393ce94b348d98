"""What the tests against PostgreSQL share: frozen sets, and SQL that must be refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from asking import ask
from psycopg.sql import SQL, Identifier, Placeholder

from lvmdb.db.engine import Database
from lvmdb.sequences.sets import SequenceSet, SequenceSpec, create

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
"""When runs of the fixture `result` were started."""


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
        return ask(on, statement, parameters)

    return execute


@pytest.fixture
def refused(sql: Callable[..., object]) -> Callable[..., None]:
    """`refused("UPDATE ...", "part of the message")`: PostgreSQL refuses the statement for that."""

    def check(statement: str, why: str, parameters: Sequence[object] | None = None) -> None:
        with pytest.raises(psycopg.errors.IntegrityError, match=why):
            sql(statement, parameters)

    return check


@pytest.fixture
def result(
    db: Database, corpus: Callable[..., object], sequence_set: Callable[..., SequenceSet]
) -> Iterator[Callable[..., int]]:
    """`result("lstm", {"hidden": 4}, cosine=.6, mrr=.3)`: a run's row with what it was worth.

    Nothing is trained. It is on the set `s`, which is made at the first call; its id comes back.
    """
    made: list[SequenceSet] = []

    def write(
        architecture: str = "lstm",
        options: Mapping[str, object] | None = None,
        *,
        cosine: float | None = None,
        mrr: float | None = None,
        r5: float | None = None,
        val: float | None = None,
        split: str = "test",
        pool: bytes = b"x",
        kind: str = "model",
        loss: str | None = "mse",
        seed: int = 0,
        seconds: float | None = None,
        **columns: Any,
    ) -> int:
        if not made:
            corpus([8] * 8)
            made.append(sequence_set())
        row = {
            "kind": kind,
            "architecture": architecture,
            "hyperparameters": json.dumps(options or {}),
            "loss": loss if kind == "model" else None,
            "sequence_set_id": made[0].sequence_set_id,
            "sequence_fingerprint": made[0].fingerprint,
            "seed": seed,
            "status": "succeeded",
            **columns,
        }
        if seconds is not None:
            times = dict.fromkeys(("finished_at", "heartbeat_at"), BEGAN + timedelta(0, seconds))
            row = {"started_at": BEGAN, **times, **row}
        names = SQL(", ").join(map(Identifier, row))
        places = SQL(", ").join(map(Placeholder, row))
        found = connection.execute(
            SQL("INSERT INTO experiment_run ({}) VALUES ({}) RETURNING run_id").format(
                names, places
            ),
            row,
        ).fetchone()
        assert found is not None
        (run_id,) = found
        for metric, value in (("cosine", cosine), ("mrr@10", mrr), ("recall@5", r5)):
            if value is not None:
                connection.execute(
                    "INSERT INTO evaluation (run_id, split, pool, metric, version, value, "
                    "direction, pool_size, pool_fingerprint, queries, distinct_truths, chance) "
                    "VALUES (%s, %s, 'corpus', %s, 1, %s, 1, 60, %s, 8, 8, .1)",
                    [run_id, split, metric, value, pool],
                )
        if val is not None:
            for metric, value in (("loss", 1 - val), ("cosine", val)):
                connection.execute(
                    "INSERT INTO run_metric (run_id, name, split, step, epoch, value, "
                    "recorded_at) VALUES (%s, %s, 'val', 10, 1, %s, %s)",
                    [run_id, metric, value, row.get("finished_at") or BEGAN],
                )
        return int(run_id)

    with db.raw_connection(autocommit=True) as connection:
        yield write
