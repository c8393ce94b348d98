"""The queue: jobs that stand and fall with the rows of their runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db import claims, migrate, runs
from lvmdb.db.engine import Database
from lvmdb.errors import RunError, UnknownNameError
from lvmdb.scheduling import queue
from lvmdb.scheduling.queue import Job
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training.plan import plan

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]

JOBS = "SELECT (args ->> 'run_id')::int, status::text, priority FROM procrastinate_jobs ORDER BY id"


@pytest.fixture
def planned(db: Database, corpus: Corpus, sequence_set: MakeSet) -> list[int]:
    """Three planned runs."""
    corpus([6] * 5)
    sequence_set()
    return [plan(db, "copy-last", "s", {}, seed=seed) for seed in range(3)]


def enqueue(db: Database, run_id: int, priority: int | None = None) -> None:
    with db.begin() as connection:
        queue.enqueue(connection, run_id, priority=priority)


def statuses(sql: Sql) -> list[str]:
    return [status for (status,) in sql("SELECT status FROM experiment_run ORDER BY run_id")]


def test_a_run_is_queued_with_its_job_or_not_at_all(
    db: Database, planned: list[int], sql: Sql
) -> None:
    with db.connect() as connection:
        queue.enqueue(connection, planned[0])
        assert queue.live_runs(connection) == {planned[0]}
        connection.rollback()
        assert queue.live_runs(connection) == set()
    assert sql("SELECT to_regclass('procrastinate_jobs')") == [(None,)]
    queue.ensure(db)
    with db.connect() as connection:
        queue.enqueue(connection, planned[0])
        connection.rollback()
    assert (sql(JOBS), statuses(sql)) == ([], ["planned"] * 3)
    enqueue(db, planned[0], 3)
    assert sql(JOBS) == [(planned[0], "todo", 3)]
    assert statuses(sql) == ["queued", "planned", "planned"]


def test_twice_is_once(db: Database, planned: list[int], sql: Sql) -> None:
    (run_id, *_) = planned
    enqueue(db, run_id, 4)
    enqueue(db, run_id, 9)
    enqueue(db, run_id)
    assert sql(JOBS) == [(run_id, "todo", 9)]
    with db.begin() as connection:
        worker = queue.register(connection, 3600)
        assert queue.take(connection, worker) is not None
    enqueue(db, run_id, 3)
    with claims.claim(db, run_id):
        sql("UPDATE experiment_run SET status = 'running' WHERE run_id = %s", [run_id])
        enqueue(db, run_id)
    assert sql(JOBS) == [(run_id, "doing", 9)]
    assert statuses(sql)[0] == "running"


def test_two_at_once_make_the_tables_once_and_one_job(
    db: Database, planned: list[int], sql: Sql
) -> None:
    both = [threading.Thread(target=enqueue, args=(db, planned[0])) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert sql(JOBS) == [(planned[0], "todo", 0)]


def test_what_is_not_queued(db: Database, planned: list[int], sql: Sql) -> None:
    done, cancelled, running = planned
    sql("UPDATE experiment_run SET status = 'succeeded' WHERE run_id = %s", [done])
    runs.cancel(db, cancelled)
    with pytest.raises(RunError, match="has succeeded: there is nothing to queue"):
        enqueue(db, done)
    with pytest.raises(RunError, match=rf"'lvmdb runs retry {cancelled}' plans it again"):
        enqueue(db, cancelled)
    with pytest.raises(UnknownNameError, match="unknown run '999'"):
        enqueue(db, 999)
    sql("UPDATE experiment_run SET status = 'running' WHERE run_id = %s", [running])
    # By hand, without a worker: while it lives it is nobody else's, and afterwards it may go on.
    queue.ensure(db)
    with claims.claim(db, running):
        enqueue(db, running)
        assert sql(JOBS) == []
    enqueue(db, running)
    assert sql(JOBS) == [(running, "todo", 0)]
    assert statuses(sql) == ["succeeded", "cancelled", "queued"]


def test_the_highest_priority_is_offered_first_then_who_waited_longest(
    db: Database, planned: list[int]
) -> None:
    for run_id, priority in zip(planned, (-2, -1, -2), strict=True):
        enqueue(db, run_id, priority)
    with db.begin() as connection:
        worker = queue.register(connection, 3600)
        taken = [queue.take(connection, worker) for _ in range(4)]
    assert [job and job.run_id for job in taken] == [planned[1], planned[0], planned[2], None]


def test_a_cancelled_run_leaves_the_queue(db: Database, planned: list[int], sql: Sql) -> None:
    assert queue.cancel(db, planned[1]) == "planned"
    enqueue(db, planned[0])
    assert queue.cancel(db, planned[0]) == "queued"
    assert sql(JOBS) == [(planned[0], "cancelled", 0)]
    assert statuses(sql) == ["cancelled", "cancelled", "planned"]
    runs.retry(db, planned[0])
    enqueue(db, planned[0], 5)
    assert sql(JOBS)[1:] == [(planned[0], "todo", 5)]
    sql("UPDATE experiment_run SET status = 'succeeded' WHERE run_id = %s", [planned[2]])
    with pytest.raises(RunError, match="is succeeded and cannot be cancelled"):
        queue.cancel(db, planned[2])


def test_tries_that_count_are_jobs_of_their_own(db: Database, planned: list[int], sql: Sql) -> None:
    enqueue(db, planned[0], 4)
    with db.begin() as connection:
        worker = queue.register(connection, 3600)
        job = queue.take(connection, worker)
        assert job is not None
        assert queue.hold(connection, job, worker)
        assert not queue.hold(connection, job, worker + 1)
        queue.put_back(connection, job)
        assert not queue.hold(connection, job, worker)
        assert queue.take(connection, worker) == job
        queue.defer_again(connection, Job(job.job_id, job.run_id, 4, 1, 2, True), 0.0)
        again = queue.take(connection, worker)
        assert again is not None
        assert again == Job(again.job_id, planned[0], 4, 1, 2, True)
        queue.put_back(connection, again, 3600.0)
        assert queue.take(connection, worker) is None
        assert queue.live_runs(connection) == {planned[0]}


def test_jobs_of_a_silent_worker_are_found(db: Database, planned: list[int], sql: Sql) -> None:
    for run_id in planned:
        enqueue(db, run_id)
    with db.begin() as connection:
        silent, alive, gone = (queue.register(connection, 3600) for _ in range(3))
        for worker in (silent, alive, gone):
            assert queue.take(connection, worker) is not None
        queue.unregister(connection, gone)
    sql("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 min' "
        "WHERE id = %s", [silent])  # fmt: skip
    with db.begin() as connection:
        found = queue.stalled(connection, 0.5, 0, [])
        assert [(job.run_id, worker) for job, worker in found] == [
            (planned[0], silent),
            (planned[2], None),
        ]
        assert all(queue.hold_stalled(connection, job, worker) for job, worker in found)
        assert not queue.hold_stalled(connection, found[0][0], alive)
        # A server that came up a moment ago cannot tell who is silent.
        assert queue.stalled(connection, 10**9, 0, []) == []
        # A worker knows its own jobs: one that it does not know of was lost on the way to it.
        assert queue.beat(connection, silent)
        (gone_job,) = queue.stalled(connection, 0.5, silent, [found[0][0].job_id])
        assert gone_job == found[1]
        assert queue.stalled(connection, 0.5, silent, []) == [(found[0][0], silent), gone_job]
        assert not queue.beat(connection, gone)
        # It was forgotten, has another id by now, and still has the job.
        again = queue.register(connection, 3600)
        assert queue.stalled(connection, 0.5, again, [j.job_id for j, _ in found]) == []


def test_the_queues_tables_are_no_drift_and_outlive_migrations(
    db: Database, planned: list[int], sql: Sql
) -> None:
    enqueue(db, planned[0])
    assert migrate.drift(db) == []
    migrate.upgrade(db, "base")
    migrate.upgrade(db)
    assert migrate.drift(db) == []
    assert sql(JOBS) == [(planned[0], "todo", 0)]
