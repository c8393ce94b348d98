"""Synthetic corpora in the database, and what `verify --forward-signal` says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

import pytest
from click.testing import CliRunner

from lvmdb.cli.main import cli
from lvmdb.corpus.synthetic import Process
from lvmdb.corpus.synthetic_import import import_synthetic
from lvmdb.db.engine import Database
from lvmdb.errors import CorpusError, SequenceError, UsageError
from lvmdb.evaluation.forward_signal import forward_signal
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSpec

Counts = Callable[[Database], dict[str, int]]
SPLIT = (Decimal("0.6"), Decimal("0.1"), Decimal("0.3"))

ROTATION = Process()
WALK = Process(angle=0, topic=0, rank=64, noise=0.9)
DRAWS = Process(carry=0, topic=1, noise=0.7)


def frozen(db: Database, process: Process, *, count: int = 100, concepts: int = 12) -> None:
    import_synthetic(db, process, dataset="made", count=count, concepts=concepts)
    sets.create(db, SequenceSpec(name="made", dataset="made", context_len=2, fractions=SPLIT))


@pytest.mark.parametrize(
    ("process", "order", "direction"),
    [
        (ROTATION, "order carries information", "forwards and backwards differ"),
        (WALK, "order carries information", "alike in both directions"),
        (DRAWS, "as predictable in any order", "alike in both directions"),
    ],
    ids=["rotation", "walk", "draws"],
)
def test_what_order_and_direction_are_worth(
    db: Database, process: Process, order: str, direction: str
) -> None:
    frozen(db, process)
    result = CliRunner().invoke(
        cli, ["--dsn", db.dsn, "verify", "--sequences", "made", "--forward-signal", "-q",
              "--format", "json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = {(row["statistic"], row["measure"]): row for row in json.loads(result.output)}
    assert len(rows) == 18
    for kind in ("cosine", "hit@1"):
        found = rows["order signal", kind]
        assert found["verdict"] == order
        assert found["low"] < found["value"] < found["high"] or found["low"] == found["high"]
        assert rows["direction signal", kind]["verdict"] == direction
    again = forward_signal(db, sets.get(db, "made"))
    assert [(s.value, s.low, s.high) for s in again] == [
        (row["value"], row["low"], row["high"]) for row in rows.values()
    ]


def test_a_set_without_held_out_articles_is_refused(db: Database) -> None:
    import_synthetic(db, ROTATION, dataset="made", count=6, concepts=6)
    whole = SequenceSpec(
        name="whole", dataset="made", fractions=(Decimal(1), Decimal(0), Decimal(0))
    )
    across = SequenceSpec(name="across", dataset="made", scope="corpus")
    for spec, why in ((whole, "split val"), (across, "scope corpus")):
        with pytest.raises(SequenceError, match=why):
            forward_signal(db, sets.create(db, spec))
    draft = sets.create(db, SequenceSpec(name="draft", dataset="made"), freeze_it=False)
    with pytest.raises(SequenceError, match="draft"):
        forward_signal(db, draft)
    result = CliRunner().invoke(cli, ["--dsn", db.dsn, "verify", "--forward-signal"])
    assert result.exit_code != 0


def test_a_synthetic_corpus_is_loaded_once_and_never_mixed(db: Database, counts: Counts) -> None:
    command = ["--dsn", db.dsn, "import", "synthetic", "--dataset", "made", "--articles", "12"]
    first = CliRunner().invoke(cli, [*command, "--concepts", "8", "-q"])
    assert first.exit_code == 0, first.output
    assert "12 articles added" in first.output
    assert "expected cosine with contexts of 5: best 0.8" in first.output
    record = ("ingest_job", "pipeline_timing")
    before = {name: rows for name, rows in counts(db).items() if name not in record}
    again = CliRunner().invoke(cli, [*command, "--concepts", "8", "-q"])
    assert "12 as they were; 0 concepts" in again.output
    after = counts(db)
    assert {name: after[name] for name in before} == before
    with pytest.raises(CorpusError, match="has vectors of the encoder 'synthetic rank=8"):
        import_synthetic(db, Process(seed=1), dataset="made", count=1, concepts=3)
    with db.raw_connection() as connection:
        assert connection.execute(
            "SELECT name, unverified, (SELECT count(*) FROM encoder_probe) "
            "FROM dataset JOIN encoder USING (encoder_id)"
        ).fetchall() == [(ROTATION.name, True, 0)]
    for count, concepts in ((0, 5), (5, 0)):
        with pytest.raises(UsageError, match="at least 1"):
            import_synthetic(db, ROTATION, dataset="made", count=count, concepts=concepts)
