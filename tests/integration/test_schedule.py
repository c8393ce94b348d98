"""Schedules: planned and queued at once, and the last week chosen from the rest by SQL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, text

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db import checkpoints, claims, needed, runs
from lvmdb.db.checkpoints import Checkpoint
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.errors import DatabaseError, RunError, SequenceError, UsageError
from lvmdb.evaluation import ensembles
from lvmdb.evaluation.evaluate import Evaluator
from lvmdb.models import registry
from lvmdb.reports.named import listing
from lvmdb.scheduling.hundred import Entry, Sized, hundred
from lvmdb.scheduling.schedule import advance, create
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training.plan import plan
from lvmdb.training.train import train

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]

TINY = {"hidden": 4, "layers": 1}
LAST_WEEK = tuple(entry for entry in hundred() if entry.week == 5)
ENTRIES = (
    *(
        Entry(
            1, slot, f"run {slot}", "lstm", {**TINY, "lr": Sized(toy=slot / 1e4, small=0.5)}, "mse"
        )
        for slot in range(1, 6)
    ),
    *LAST_WEEK,
)
ARCHITECTURES = ("lstm", "lstm", "gru", "s4", "rwkv")
"""What the five fixed runs are made to be, by hand: rows need no model."""


class Queue:
    """What was queued, with its priority; the row says so, as the queue's own does."""

    def __init__(self) -> None:
        self.jobs: dict[int, int] = {}

    def __call__(self, connection: Connection, run_id: int, *, priority: int) -> None:
        connection.execute(
            text("UPDATE experiment_run SET status = 'queued' WHERE run_id = :run_id"),
            {"run_id": run_id},
        )
        self.jobs[run_id] = priority


@pytest.fixture
def queue(corpus: Corpus, sequence_set: MakeSet) -> Queue:
    """A queue; the set `s` is there."""
    corpus([7] * 12, walk=True)
    sequence_set()
    return Queue()


@pytest.fixture
def end(db: Database, sql: Sql) -> Callable[..., None]:
    """`end(run_id, .6)`: the run has succeeded with that cosine on validation; None: it failed."""

    def write(run_id: int, cosine: float | None, *, test: float = 0.0, split: str = "val") -> None:
        if cosine is None:
            sql(
                "UPDATE experiment_run SET status = 'failed', error = 'x' WHERE run_id = %s",
                [run_id],
            )
            return
        saved = Checkpoint("best", 1, 1, "lstm", {}, {}, b"weights of %d" % run_id)
        with db.begin() as connection:
            checkpoints.save(connection, run_id, saved)
        sql("UPDATE experiment_run SET status = 'succeeded' WHERE run_id = %s", [run_id])
        for each, value in ((split, cosine), ("test", test)):
            sql(
                "INSERT INTO evaluation (run_id, split, pool, metric, version, value, direction, "
                "pool_size, pool_fingerprint, queries, distinct_truths, chance, "
                "checkpoint_sha256) VALUES (%s, %s, 'corpus', 'cosine', 1, %s, 1, 84, 'x', 9, 9, "
                "0, %s)",
                [run_id, each, value, saved.sha256],
            )

    return write


def fixed(sql: Sql) -> list[int]:
    """The fixed runs of a schedule, made runs of four architectures."""
    run_ids = [
        row[0] for row in sql("SELECT run_id FROM schedule_entry WHERE stage = 0 ORDER BY 1")
    ]
    for run_id, architecture in zip(run_ids, ARCHITECTURES, strict=True):
        sql(
            "UPDATE experiment_run SET architecture = %s WHERE run_id = %s",
            [architecture, run_id],
        )
    return run_ids


def stage(sql: Sql, number: int) -> list[dict[str, Any]]:
    """The entries of a stage, with their runs."""
    names = ("run_id", "reason", "rule", "architecture", "seed", "stamps", "week", "slot", "lr")
    rows = sql(
        "SELECT e.run_id, e.reason, e.rule, r.architecture, r.seed, r.stamps, r.schedule_week, "
        "r.schedule_slot, (r.hyperparameters ->> 'lr')::float8 FROM schedule_entry e "
        "LEFT JOIN experiment_run r USING (run_id) WHERE stage = %s ORDER BY slot",
        [number],
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_what_is_fixed_is_planned_and_queued_baselines_first(
    db: Database, queue: Queue, sql: Sql
) -> None:
    there = plan(db, "copy-last", "s", {})
    train(db, there, device="cpu")
    planned = plan(db, "ridge", "s", {})
    plan(db, "ridge", "s", {"strengths": "1"})
    made = create(db, "first", "s", scale="toy", seed=5, entries=ENTRIES, enqueue=queue)
    rows = sql(
        "SELECT run_id, architecture, kind, seed, schedule_week, schedule_slot, experiment_id, "
        "status, loss, (hyperparameters ->> 'lr')::float8, (hyperparameters ->> 'epochs')::int "
        "FROM experiment_run WHERE status = 'queued' ORDER BY run_id"
    )
    baselines = [row for row in rows if row[2] == "baseline"]
    assert [row[1] for row in baselines] == [
        "ridge",
        *(name for name in registry.names(trained=False) if name not in ("copy-last", "ridge")),
    ]
    assert baselines[0][0] == planned
    assert {row[3:7] for row in baselines} == {(0, None, None, None)}
    models = [row for row in rows if row[2] == "model"]
    assert [row[3:] for row in models] == [
        (5, 1, slot, made, "queued", "mse", slot / 1e4, 2) for slot in range(1, 6)
    ]
    assert {queue.jobs[row[0]] for row in baselines} == {100}
    assert {queue.jobs[row[0]] for row in models} == {90}
    assert there not in queue.jobs
    assert sql("SELECT name, description FROM experiment") == [
        ("first", "20 runs on s, scale toy, seed 5")
    ]
    assert [entry["rule"]["seed"] for entry in stage(sql, 1)] == [6, 7, 8] * 3
    columns, (listed,) = listing(db, "schedule", "list_schedules")
    assert (listed["entries"], listed["waiting"], listed["to_be_chosen"]) == (20, 5, 15)
    assert "name" in columns
    # Another one on the same set has its baselines already.
    before = len(queue.jobs)
    create(db, "second", "s", scale="small", entries=ENTRIES, enqueue=queue)
    assert len(queue.jobs) == before + 5
    with pytest.raises(RunError, match="there is a schedule 'first' already"):
        create(db, "first", "s", entries=ENTRIES, enqueue=queue)


def test_a_schedule_is_made_whole_or_not_at_all(
    db: Database, queue: Queue, sequence_set: MakeSet, sql: Sql
) -> None:
    sequence_set("whole", split=(100, 0, 0))
    broken = replace(ENTRIES[0], options={"hiden": 3})
    calls = 0

    def failing(connection: Connection, run_id: int, *, priority: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise RunError("the queue is away")

    for arguments, kind, told in (
        ({"name": "No Name"}, UsageError, "cannot name a schedule"),
        ({"scale": "huge"}, UsageError, "--scale is toy, small or full, not 'huge'"),
        ({"sequences": "whole"}, SequenceError, "has no validation windows, by which the best"),
        ({"entries": (broken,)}, Exception, "did you mean 'hidden'"),
        ({"enqueue": failing}, RunError, "the queue is away"),
    ):
        given: dict[str, Any] = {
            "name": "x",
            "sequences": "s",
            "entries": ENTRIES,
            "enqueue": queue,
            **arguments,
        }
        with pytest.raises(kind, match=told):
            create(db, **given)
    assert sql(
        "SELECT (SELECT count(*) FROM experiment), (SELECT count(*) FROM experiment_run)"
    ) == [(0, 0)]


def test_the_last_week_is_chosen_on_the_validation_split(
    db: Database, queue: Queue, sql: Sql, end: Callable[..., None]
) -> None:
    """LSTM .5 and .6, GRU .7, S4 .4, RWKV .3; on test it is the other way round."""
    create(db, "first", "s", scale="toy", entries=ENTRIES, enqueue=queue)
    run_ids = fixed(sql)
    for run_id, cosine in zip(run_ids, (0.5, 0.6, 0.7, 0.4, 0.3), strict=True):
        assert advance(db, queue) == 0
        end(run_id, cosine, test=1 - cosine)
    queue.jobs.clear()
    assert advance(db, queue) == 9
    assert advance(db, queue) == 0
    seeds = stage(sql, 1)
    assert [(e["architecture"], e["lr"], e["seed"]) for e in seeds] == [
        (name, lr, seed)
        for name, lr in (("gru", 3e-4), ("lstm", 2e-4), ("s4", 4e-4))
        for seed in (1, 2, 3)
    ]
    assert seeds[3]["rule"] == {
        "choose": "seed", "rank": 2, "seed": 1, "architecture": "lstm", "from_run": run_ids[1],
        "val_cosine": 0.6,
    }  # fmt: skip
    assert [(e["week"], e["slot"]) for e in seeds] == [(5, slot) for slot in range(1, 10)]
    assert queue.jobs == {e["run_id"]: 50 for e in seeds}
    # A new seed of the second does best; one of the third fails, and one is cancelled.
    values: list[float | None] = [0.71, 0.69, 0.7, 0.75, 0.6, 0.6, None, 0.39, 0.1]
    for entry, value in zip(seeds, values, strict=True):
        assert advance(db, queue) == 0
        end(entry["run_id"], value)
    assert advance(db, queue) == 3
    best = [seeds[0]["run_id"], seeds[3]["run_id"], run_ids[3]]
    made = stage(sql, 2)
    assert sql(
        "SELECT r.run_id, hyperparameters, array_agg(member_run_id ORDER BY member_run_id) "
        "FROM experiment_run r JOIN ensemble_member ON ensemble_run_id = r.run_id "
        "GROUP BY r.run_id ORDER BY r.run_id"
    ) == [
        (entry["run_id"], {"name": f"first-{method}", "method": method}, sorted(best))
        for entry, method in zip(made, ("mean", "weighted", "vote"), strict=True)
    ]
    assert [(e["week"], e["slot"]) for e in made] == [(5, 10), (5, 11), (5, 12)]
    for entry in made:
        end(entry["run_id"], 0.8)
    assert advance(db, queue) == 3
    again = stage(sql, 3)
    assert [e["stamps"] for e in again] == [[f"reproduces={run_id}"] for run_id in best]
    assert [e["architecture"] for e in again] == ["gru", "lstm", "s4"]
    assert [e["seed"] for e in again] == [1, 1, 0]
    for entry in again:
        end(entry["run_id"], 0.7)
    assert advance(db, queue) == 0
    with db.connect() as connection:
        assert connection.execute(query("schedule", "due"), {"abandoned": []}).all() == []


def test_where_too_few_succeeded_places_stay_empty_and_say_why(
    db: Database, queue: Queue, sql: Sql, end: Callable[..., None]
) -> None:
    create(db, "first", "s", scale="toy", entries=ENTRIES, enqueue=queue)
    run_ids = fixed(sql)
    for run_id, cosine in zip(run_ids, (None, 0.6, None, None, None), strict=True):
        end(run_id, cosine)
    assert advance(db, queue) == 3
    reasons = {entry["reason"] for entry in stage(sql, 1)[3:]}
    assert reasons == {
        f"there is no best architecture {rank}: 1 architecture has a run that was trained and "
        "validated"
        for rank in (2, 3)
    }
    for entry in stage(sql, 1)[:3]:
        end(entry["run_id"], None)
    # No ensemble of one; what comes after it is due at once.
    assert advance(db, queue) == 1
    assert {entry["reason"] for entry in stage(sql, 2)} == {
        "an ensemble is of two runs at least, and there are 1"
    }
    assert [entry["stamps"] for entry in stage(sql, 3)] == [
        [f"reproduces={run_ids[1]}"],
        None,
        None,
    ]
    assert advance(db, queue) == 0
    _, (listed,) = listing(db, "schedule", "list_schedules")
    assert (listed["to_be_chosen"], listed["left_out"]) == (0, 6 + 3 + 2)


def test_where_nothing_succeeded_it_ends(
    db: Database, queue: Queue, sql: Sql, end: Callable[..., None]
) -> None:
    create(db, "first", "s", scale="toy", entries=ENTRIES, enqueue=queue)
    for run_id in fixed(sql):
        end(run_id, None)
    assert advance(db, queue) == 0
    assert sql("SELECT count(*) FROM schedule_entry WHERE stage > 0 AND reason IS NULL") == [(0,)]


def test_a_stage_waits_for_the_last_of_those_before(
    db: Database, queue: Queue, sql: Sql, end: Callable[..., None]
) -> None:
    create(db, "first", "s", scale="toy", entries=ENTRIES, enqueue=queue)
    run_ids = fixed(sql)
    for run_id in run_ids:
        end(run_id, 0.5)
    of_last = f"run_id = {run_ids[4]}"
    for undo, again in (
        ("experiment_run SET status = 'running'", "experiment_run SET status = 'succeeded'"),
        (
            "evaluation SET pool = 'article', split = 'train'",
            "evaluation SET pool = 'corpus', split = 'val'",
        ),
        ("checkpoint SET sha256 = 'other'", None),
    ):
        both = f"{of_last} AND split = 'test'"
        if undo.startswith("evaluation"):
            sql(f"DELETE FROM evaluation WHERE {both}")
        sql(f"UPDATE {undo} WHERE {of_last}")
        assert advance(db, queue) == 0, undo
        if again is not None:
            sql(f"UPDATE {again} WHERE {of_last}")
    # Its evaluation was given up.
    sql(f"UPDATE experiment_run SET error = 'out of memory' WHERE {of_last}")
    assert advance(db, queue) == 9


def test_a_run_whose_process_is_gone_holds_up_no_stage(
    db: Database,
    queue: Queue,
    sql: Sql,
    end: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(needed, "SILENT_AFTER", 0.5)
    create(db, "first", "s", scale="toy", entries=ENTRIES, enqueue=queue)
    *others, killed = fixed(sql)
    for run_id in others:
        end(run_id, 0.5)
    silent = "UPDATE experiment_run SET status = 'running', heartbeat_at = now() - interval '1 min'"
    sql(f"{silent} WHERE run_id = %s", [killed])
    with claims.claim(db, killed):
        assert advance(db, queue) == 0
    assert advance(db, queue) == 9


def test_trouble_of_the_server_leaves_no_place_empty(
    db: Database, queue: Queue, sql: Sql, end: Callable[..., None]
) -> None:
    create(db, "first", "s", scale="toy", entries=ENTRIES, enqueue=queue)
    for run_id in fixed(sql):
        end(run_id, 0.5)

    def deadlocked(connection: Connection, run_id: int, *, priority: int) -> None:
        raise DatabaseError("deadlock detected")

    with pytest.raises(DatabaseError, match="deadlock"):
        advance(db, deadlocked)
    assert {(entry["run_id"], entry["reason"]) for entry in stage(sql, 1)} == {(None, None)}
    assert advance(db, queue) == 9


def test_of_many_that_choose_at_once_one_does(
    db: Database, queue: Queue, sql: Sql, end: Callable[..., None]
) -> None:
    for name in ("first", "second"):
        create(db, name, "s", scale="toy", entries=ENTRIES, enqueue=queue)
    for (run_id,) in sql("SELECT run_id FROM schedule_entry WHERE stage = 0"):
        end(run_id, 0.5)
    chosen: list[int] = []
    threads = [threading.Thread(target=lambda: chosen.append(advance(db, queue))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # One architecture has three new seeds in each of the two.
    assert sum(chosen) == 6
    assert sql("SELECT count(*) FROM schedule_entry WHERE stage = 1 AND run_id IS NOT NULL") == [
        (6,)
    ]


def test_who_comes_while_another_chooses_waits_for_it(
    db: Database, queue: Queue, sql: Sql, end: Callable[..., None]
) -> None:
    create(db, "first", "s", scale="toy", entries=ENTRIES, enqueue=queue)
    for run_id in fixed(sql):
        end(run_id, 0.5)
    found: list[int] = []
    waiting = threading.Thread(target=lambda: found.append(advance(db, queue)))
    with db.begin() as connection:
        connection.execute(query("schedule", "lock"))
        waiting.start()
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while sql(waits) == [(0,)]:
            assert waiting.is_alive()
    waiting.join()
    assert found == [9]


def test_the_place_of_a_deleted_run_stays(
    db: Database, queue: Queue, sql: Sql, end: Callable[..., None]
) -> None:
    create(db, "first", "s", scale="toy", entries=ENTRIES, enqueue=queue)
    run_ids = fixed(sql)
    for run_id in run_ids[1:]:
        end(run_id, 0.5)
    assert advance(db, queue) == 0
    runs.remove(db, run_ids[0])
    assert sql("SELECT reason FROM schedule_entry WHERE week = 1 AND slot = 1") == [
        ("its run was deleted",)
    ]
    assert advance(db, queue) == 9
    # One that was chosen is not chosen again.
    runs.remove(db, stage(sql, 1)[0]["run_id"])
    assert advance(db, queue) == 0
    assert stage(sql, 1)[0]["reason"] == "its run was deleted"


def test_from_the_first_run_to_the_last(db: Database, queue: Queue, sql: Sql) -> None:
    """Really queued, fitted and evaluated; a worker does no more than this loop."""
    entries = (
        Entry(1, 1, "one", "copy-last"),
        Entry(1, 2, "other", "lag-weights"),
        Entry(5, 1, "seed", stage=1, rule={"choose": "seed", "rank": 1, "seed": 1}),
        Entry(5, 2, "seed", stage=1, rule={"choose": "seed", "rank": 2, "seed": 1}),
        Entry(5, 3, "ensemble", stage=2, rule={"choose": "ensemble", "method": "weighted"}),
        Entry(5, 4, "again", stage=3, rule={"choose": "again", "rank": 1}),
    )
    create(db, "real", "s", scale="toy", entries=entries)
    evaluator = Evaluator(db, device="cpu")
    in_schedule = "SELECT run_id FROM experiment_run WHERE status = 'queued' AND schedule_week > 0"
    while (waiting := sql(in_schedule)) or advance(db):
        for (run_id,) in waiting:
            if runs.get(db, run_id).kind == "ensemble":
                ensembles.fit(db, run_id, device="cpu")
            else:
                train(db, run_id, device="cpu")
            evaluator.evaluate(run_id, "val", "corpus")
    assert sql(
        "SELECT e.stage, r.status, r.kind FROM schedule_entry e JOIN experiment_run r "
        "USING (run_id) ORDER BY e.week, e.slot"
    ) == [
        *((stage, "succeeded", "baseline") for stage in (0, 0, 1, 1)),
        (2, "succeeded", "ensemble"),
        (3, "succeeded", "baseline"),
    ]
    assert sql("SELECT priority, count(*) FROM procrastinate_jobs GROUP BY 1 ORDER BY 1 DESC") == [
        (100, 7),
        (90, 2),
        (50, 4),
    ]
    # Fitted again from its row, the best is the same.
    ((original, copy),) = sql(
        "SELECT (rule ->> 'from_run')::bigint, run_id FROM schedule_entry WHERE stage = 3"
    )
    assert sql(
        "SELECT count(*), count(DISTINCT sha256) FROM checkpoint WHERE run_id IN (%s, %s)",
        [original, copy],
    ) == [(2, 1)]
