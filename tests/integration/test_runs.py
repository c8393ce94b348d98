"""Runs as rows: claims, heartbeats, states, deletion."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Connection

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db import aliases, checkpoints, claims, runs
from lvmdb.db.checkpoints import Checkpoint
from lvmdb.db.claims import Claim
from lvmdb.db.engine import Database
from lvmdb.db.runs import Metric
from lvmdb.errors import (
    RunCancelledError,
    RunError,
    SequenceError,
    UnknownNameError,
    UsageError,
)
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training.plan import plan

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]
Refused = Callable[..., None]


@pytest.fixture
def run_id(db: Database, corpus: Corpus, sequence_set: MakeSet) -> int:
    """A planned run of `copy-last` on the set `s`."""
    corpus([6] * 5)
    sequence_set()
    return plan(db, "copy-last", "s", {})


def start(claimed: Claim, *stamps: str) -> None:
    with claimed._db.connect() as connection:
        seen = runs.read(connection, claimed.run_id).sequence_fingerprint
    runs.start(
        claimed,
        device="cpu",
        kernel="torch",
        parameter_count=0,
        code_version="abc",
        code_dirty=None,
        environment={"python": "3"},
        seen_fingerprint=seen,
        stamps=stamps,
    )


def started(db: Database, run_id: int) -> None:
    with claims.claim(db, run_id) as claimed:
        start(claimed)


def succeeded(db: Database, run_id: int) -> None:
    with claims.claim(db, run_id) as claimed:
        start(claimed)
        runs.finish(claimed, parameter_count=0)


def test_one_at_a_time_has_a_run(
    db: Database, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "CLAIM_PATIENCE", 0.2)
    other = plan(db, "context-mean", "s", {})
    with claims.claim(db, run_id) as claimed:
        start(claimed)
        with (
            pytest.raises(
                RunError, match=rf"run {run_id} is running elsewhere \({claims.worker_name()}"
            ),
            claims.claim(db, run_id),
        ):
            pytest.fail("two had it")
        with claims.claim(db, other):
            pass
    with claims.claim(db, run_id):
        pass


def test_a_claim_waits_for_one_that_is_just_ending(db: Database, run_id: int) -> None:
    """As after `kill -9`: the dead process's session ends a moment later."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with claims.claim(db, run_id):
            held.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    threading.Timer(0.3, release.set).start()
    with claims.claim(db, run_id):
        assert release.is_set()
    holder.join()


def test_a_claim_ends_with_its_error(db: Database, run_id: int) -> None:
    with pytest.raises(ZeroDivisionError), claims.claim(db, run_id):
        raise ZeroDivisionError
    with claims.claim(db, run_id):
        pass
    assert "lvmdb-heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_a_claimed_run_has_a_heartbeat(
    db: Database, run_id: int, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_EVERY", 0.05)
    beat = "SELECT heartbeat_at FROM experiment_run"
    assert sql(beat) == [(None,)]
    with claims.claim(db, run_id):
        seen: set[Any] = set()
        until = time.monotonic() + 20
        while len(seen) < 3 and time.monotonic() < until:
            seen |= {row[0] for row in sql(beat) if row[0] is not None}
            time.sleep(0.02)
    assert len(seen) == 3
    stopped = sql(beat)
    time.sleep(0.2)
    assert sql(beat) == stopped


def test_states_of_a_run(db: Database, run_id: int, sql: Sql) -> None:
    def state() -> tuple[Any, ...]:
        return sql(
            "SELECT status, error, traceback IS NOT NULL, finished_at IS NOT NULL "
            "FROM experiment_run"
        )[0]

    assert state() == ("planned", None, False, False)
    with pytest.raises(RunError, match="is planned: only a failed or cancelled one is retried"):
        runs.retry(db, run_id)
    runs.cancel(db, run_id)
    assert state() == ("cancelled", None, False, False)
    runs.retry(db, run_id)
    started(db, run_id)
    assert state() == ("running", None, False, False)
    with pytest.raises(RunError, match="is running: only a failed or cancelled one"):
        runs.retry(db, run_id)
    with pytest.raises(ValueError, match="broken"), claims.failure_recorded(db, run_id):
        raise ValueError("it is broken")
    assert state() == ("failed", "it is broken", True, True)
    runs.retry(db, run_id)
    assert state() == ("planned", None, False, False)
    with claims.claim(db, run_id) as claimed:
        start(claimed)
        runs.finish(claimed, parameter_count=3)
    assert state() == ("succeeded", None, False, True)
    for wrong in (runs.cancel, runs.retry):
        with pytest.raises(RunError, match="is succeeded"):
            wrong(db, run_id)


def test_nothing_is_written_of_a_run_that_was_cancelled(
    db: Database, run_id: int, sql: Sql
) -> None:
    """Whenever that was: the process that has it is told when it writes, and by its heartbeat."""
    metrics = [Metric("loss", "val", 1, 1, 0.5)]
    with claims.claim(db, run_id) as claimed:
        start(claimed)
        claimed.refuse_if_cancelled()
        runs.cancel(db, run_id)
        with pytest.raises(RunCancelledError, match=f"'lvmdb runs retry {run_id}' plans it again"):
            claimed.write(lambda connection: runs.write_metrics(connection, run_id, metrics))
        with pytest.raises(RunCancelledError):
            runs.finish(claimed, parameter_count=3)
        with pytest.raises(RunCancelledError):
            claimed.refuse_if_cancelled()
    assert sql("SELECT status, error FROM experiment_run") == [("cancelled", None)]
    with claims.claim(db, run_id) as claimed:
        with pytest.raises(RunCancelledError):
            start(claimed)
        with pytest.raises(RunCancelledError):
            claimed.keep()
    with pytest.raises(ValueError, match="x"), claims.failure_recorded(db, run_id):
        raise ValueError("x")
    assert sql("SELECT status, error FROM experiment_run") == [("cancelled", None)]
    assert sql("SELECT count(*) FROM run_metric") == [(0,)]


def test_who_cancels_waits_for_what_is_being_written(db: Database, run_id: int, sql: Sql) -> None:
    """A cancelled run has no row that was written after it was."""
    cancelling = threading.Thread(target=runs.cancel, args=(db, run_id))

    def write(connection: Connection) -> None:
        cancelling.start()
        cancelling.join(0.2)
        assert cancelling.is_alive()
        runs.write_metrics(connection, run_id, [Metric("loss", "val", 1, 1, 0.5)])

    with claims.claim(db, run_id) as claimed:
        start(claimed)
        claimed.write(write)
    cancelling.join()
    assert sql("SELECT status FROM experiment_run") == [("cancelled",)]
    assert sql("SELECT count(*) FROM run_metric") == [(1,)]


def test_a_process_that_is_watched_records_no_failure(db: Database, run_id: int, sql: Sql) -> None:
    with (
        claims.failures_left_to_others(),
        pytest.raises(ValueError, match="x"),
        claims.failure_recorded(db, run_id),
    ):
        raise ValueError("x")
    assert sql("SELECT status FROM experiment_run") == [("planned",)]


def test_a_run_that_goes_on_keeps_its_beginning(db: Database, run_id: int, sql: Sql) -> None:
    started(db, run_id)
    first = sql("SELECT started_at FROM experiment_run")
    with pytest.raises(ValueError, match="x"), claims.failure_recorded(db, run_id):
        raise ValueError("x")
    started(db, run_id)
    assert sql("SELECT started_at, finished_at, error, traceback FROM experiment_run") == [
        (*first[0], None, None, None)
    ]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(143), "interrupted"),
        (ValueError(), "ValueError"),
        (MemoryError("no\nmore"), "no\nmore"),
    ],
)
def test_a_failure_has_a_message(
    db: Database, run_id: int, sql: Sql, error: BaseException, message: str
) -> None:
    with pytest.raises(type(error)), claims.failure_recorded(db, run_id):
        raise error
    ((status, found, trace),) = sql("SELECT status, error, traceback FROM experiment_run")
    assert (status, found) == ("failed", message)
    assert type(error).__name__ in trace


def test_metrics_are_written_once_and_forgotten_by_step(
    db: Database, run_id: int, sql: Sql
) -> None:
    written = [Metric("loss", "val", 10 * epoch, epoch, 1.0 / epoch) for epoch in (1, 2, 3)]
    with db.begin() as connection:
        runs.write_metrics(connection, run_id, written)
        runs.write_metrics(connection, run_id, [Metric("loss", "val", 20, 2, 0.25)])
        runs.write_metrics(connection, run_id, [])
        runs.forget_metrics_after(connection, run_id, 20)
    assert sql("SELECT epoch, step, value FROM run_metric ORDER BY 1") == [
        (1, 10, 1.0),
        (2, 20, 0.25),
    ]


def test_deletion_takes_what_belongs_to_the_run(
    db: Database, run_id: int, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "CLAIM_PATIENCE", 0.1)
    other = plan(db, "context-mean", "s", {})
    for owner in (run_id, other):
        saved = Checkpoint("best", 1, 1, "copy-last", {}, {}, b"bytes")
        with db.begin() as connection:
            runs.write_metrics(connection, owner, [Metric("mse", "val", 1, 1, 0.5)])
            checkpoints.save(connection, owner, saved)
        sql(
            "INSERT INTO prediction SELECT %s, cpe_id, 'val', concept_vec, 1, 0, 0, 0, 0, 9 "
            "FROM cpe_entry WHERE seq = 5 LIMIT 1",
            [owner],
        )
        sql(
            "INSERT INTO evaluation (run_id, split, pool, metric, direction, version, value, "
            "pool_size, pool_fingerprint, queries, distinct_truths, chance) "
            "VALUES (%s, 'val', 'corpus', 'mse', -1, 1, 0, 9, '', 1, 1, 0)",
            [owner],
        )
    with claims.claim(db, run_id), pytest.raises(RunError, match="is running elsewhere"):
        runs.remove(db, run_id)
    runs.remove(db, run_id)
    for table in ("experiment_run", "run_metric", "checkpoint", "prediction", "evaluation"):
        assert sql(f"SELECT run_id FROM {table}") == [(other,)], table
    assert sql("SELECT count(*) FROM checkpoint_chunk") == [(1,)]
    with pytest.raises(UnknownNameError, match=f"unknown run '{run_id}'"):
        runs.remove(db, run_id)


def test_a_run_that_others_rest_on_stays(db: Database, run_id: int, sql: Sql) -> None:
    child = plan(db, "context-mean", "s", {})
    ensemble = plan(db, "train-mean", "s", {})
    sql("UPDATE experiment_run SET parent_run_id = %s WHERE run_id = %s", [run_id, child])
    sql("UPDATE experiment_run SET kind = 'ensemble' WHERE run_id = %s", [ensemble])
    sql("INSERT INTO ensemble_member VALUES (%s, %s, 1)", [ensemble, run_id])
    sql(
        "INSERT INTO run_metric (run_id, name, split, step, epoch, value) "
        "VALUES (%s, 'loss', 'val', 1, 1, 1)",
        [run_id],
    )
    succeeded(db, run_id)
    aliases.promote(db, run_id)
    aliases.promote(db, run_id, "best")
    for told, undo in (
        ("it is promoted as 'best'", "DELETE FROM run_alias WHERE name = 'best'"),
        ("it is promoted as 'production', promote another run first", "DELETE FROM run_alias"),
        (f"it is a member of ensemble {ensemble}", "DELETE FROM ensemble_member"),
        (f"run {child} was forked from it", "UPDATE experiment_run SET parent_run_id = NULL"),
    ):
        with pytest.raises(RunError, match=f"run {run_id} cannot be deleted: {told}"):
            runs.remove(db, run_id)
        assert sql("SELECT count(*) FROM run_metric") == [(1,)]
        sql(undo)
    runs.remove(db, run_id)
    assert sql("SELECT count(*) FROM run_metric") == [(0,)]


def test_an_alias_stands_for_the_run_that_was_promoted_last(
    db: Database, run_id: int, sql: Sql
) -> None:
    other = plan(db, "context-mean", "s", {})
    with db.connect() as connection, pytest.raises(UnknownNameError, match="lvmdb runs promote"):
        aliases.promoted(connection)
    with pytest.raises(RunError, match=f"run {run_id} is planned: only one that has succeeded"):
        aliases.promote(db, run_id)
    for each in (run_id, other):
        succeeded(db, each)
    assert aliases.promote(db, run_id) is None
    moved = sql("SELECT moved_at FROM run_alias")
    assert aliases.promote(db, run_id) == run_id
    assert sql("SELECT moved_at FROM run_alias") == moved
    assert aliases.promote(db, other) == run_id
    assert aliases.promote(db, run_id, "older") is None
    with db.connect() as connection:
        assert (aliases.promoted(connection), aliases.promoted(connection, "older")) == (
            other,
            run_id,
        )
        with pytest.raises(UnknownNameError, match="did you mean 'production'"):
            aliases.promoted(connection, "producton")
    assert sql("SELECT moved_at > %s FROM run_alias WHERE name = 'production'", [*moved[0]]) == [
        (True,)
    ]
    with pytest.raises(UsageError, match="cannot name a promoted run"):
        aliases.promote(db, other, "Best One")
    with pytest.raises(UnknownNameError, match="unknown run '99'"):
        aliases.promote(db, 99)


def test_what_a_run_row_cannot_be(db: Database, run_id: int, refused: Refused) -> None:
    for statement, why in (
        ("UPDATE experiment_run SET status = 'done'", "ck_experiment_run_status"),
        ("UPDATE experiment_run SET status = 'failed'", "ck_experiment_run_failure_has_error"),
        ("UPDATE experiment_run SET loss = 'mse'", "ck_experiment_run_model_has_loss"),
        ("UPDATE experiment_run SET kind = 'model'", "ck_experiment_run_model_has_loss"),
        (
            "UPDATE experiment_run SET sequence_fingerprint = 'x'",
            "fk_experiment_run_sequence_set_id_sequence_fingerprint",
        ),
        ("DELETE FROM sequence_set", "fk_experiment_run"),
    ):
        refused(statement, why)


def test_a_draft_cannot_have_runs(db: Database, corpus: Corpus, sequence_set: MakeSet) -> None:
    corpus([6] * 5)
    sequence_set("draft", freeze_it=False)
    with pytest.raises(SequenceError, match="'draft' is a draft: run 'lvmdb sequences freeze"):
        plan(db, "copy-last", "draft", {})


def test_an_exception_to_the_rules_is_stamped(
    db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql
) -> None:
    corpus([6] * 5)
    sequence_set("across", scope="corpus")
    sequence_set("within")
    for name in ("across", "within"):
        plan(db, "copy-last", name, {})
    # The two concepts before each of two borders are in windows on both sides.
    assert sql("SELECT stamps FROM experiment_run ORDER BY run_id") == [
        (["scope=corpus", "leaks=4"],),
        ([],),
    ]


def test_a_start_says_what_it_saw_and_stamps_once(db: Database, run_id: int, sql: Sql) -> None:
    sql("UPDATE experiment_run SET stamps = '{scope=corpus}'")
    for stamps in ([], ["cache=2GB"], ["cache=2GB", "scope=corpus"], ["cache=1GB"]):
        with claims.claim(db, run_id) as claimed:
            start(claimed, *stamps)
    assert sql("SELECT stamps, seen_fingerprint = sequence_fingerprint FROM experiment_run") == [
        (["scope=corpus", "cache=2GB", "cache=1GB"], True)
    ]


@pytest.mark.parametrize("begun", [False, True])
def test_a_lost_claim_is_taken_again(
    db: Database, run_id: int, sql: Sql, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    """As after a restart of the server, which ends all its sessions."""
    monkeypatch.setattr(claims, "CLAIM_PATIENCE", 0.1)
    with claims.claim(db, run_id) as claimed:
        if begun:
            start(claimed)
        before = claimed.pid
        sql("SELECT pg_terminate_backend(%s, 5000)", [before])
        claimed.write(lambda c: runs.write_metrics(c, run_id, [Metric("loss", "val", 1, 1, 0.5)]))
        assert claimed.pid != before
        with (
            closing(db.raw_connection()) as other,
            pytest.raises(RunError, match="running elsewhere"),
        ):
            claims.lock(db, other, run_id)
    assert sql("SELECT value FROM run_metric") == [(0.5,)]


def test_the_heartbeat_takes_a_lost_claim_again(
    db: Database, run_id: int, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_EVERY", 0.05)
    with claims.claim(db, run_id) as claimed:
        before = claimed.pid
        sql("SELECT pg_terminate_backend(%s, 5000)", [before])
        until = time.monotonic() + 20
        while claimed.pid == before and time.monotonic() < until:
            time.sleep(0.02)
        assert claimed.pid != before


@pytest.mark.parametrize("ending", ["worker = 'elsewhere:1'", "status = 'cancelled'", None])
def test_a_run_that_another_had_meanwhile_is_written_no_more(
    db: Database, run_id: int, sql: Sql, ending: str | None
) -> None:
    """Its checkpoints are the other's by now; nor is a failure written over the other's state."""
    change = f"UPDATE experiment_run SET {ending}" if ending else "DELETE FROM experiment_run"
    lost = r"no longer this process's: .*goes on from the last"

    def lose(claimed: Claim) -> None:
        start(claimed)
        sql("SELECT pg_terminate_backend(%s, 5000)", [claimed.pid])
        sql(change)
        runs.finish(claimed, parameter_count=0)

    with (
        claims.claim(db, run_id) as claimed,
        pytest.raises(RunError, match="was cancelled" if "cancelled" in change else lost),
        claims.failure_recorded(db, run_id, worker=claims.worker_name()),
    ):
        lose(claimed)
    expected = {"worker = 'elsewhere:1'": [("running",)], "status = 'cancelled'": [("cancelled",)]}
    assert sql("SELECT status FROM experiment_run") == expected.get(ending or "", [])
