"""Workers with processes that train nothing: who gets which run, and what becomes of it."""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db import claims, runs
from lvmdb.db.engine import Database
from lvmdb.errors import ConnectionLostError
from lvmdb.progress import Progress
from lvmdb.scheduling import policy, queue, tries
from lvmdb.scheduling import worker as working
from lvmdb.scheduling.policy import Limits
from lvmdb.scheduling.queue import Job
from lvmdb.scheduling.slots import Slot
from lvmdb.scheduling.worker import Counts, Worker
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training.plan import plan

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]

PATIENCE = 60.0

# What a process does instead of training. Each try begins and ends with a line in the log.
CHILD = """
import json, os, signal, sys, time
run_id, log, acts = sys.argv[1], sys.argv[2], sys.argv[3:]

def note(what):
    with open(log, "a") as file:
        file.write(f"{run_id} {what}\\n")

note("begins")
for act in acts:
    if act == "waits":
        time.sleep(0.3)
    elif act == "sleeps":
        time.sleep(60)
    elif act == "ignores":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif act == "is-killed":
        note("ends")
        os.kill(os.getpid(), signal.SIGKILL)
    elif act == "exits":
        print("last words", file=sys.stderr)
        note("ends")
        sys.exit(3)
    else:
        note("ends")
        print(json.dumps({"ending": act, "message": "it broke", "traceback": "Traceback"}))
"""


@dataclass
class House:
    """A database with planned runs, and what each of their tries does."""

    db: Database
    sql: Sql
    log: Path
    acts: dict[int, list[str]] = field(default_factory=dict)
    said: io.StringIO = field(default_factory=io.StringIO)

    def planned(self, *acts: str, queued: bool = True, priority: int = 0) -> int:
        """A run; `acts` says what its tries do, the last one of them all further ones."""
        run_id = plan(self.db, "copy-last", "s", {}, seed=len(self.acts))
        self.acts[run_id] = list(acts)
        if queued:
            self.enqueue(run_id, priority)
        return run_id

    def enqueue(self, run_id: int, priority: int = 0) -> None:
        with self.db.begin() as connection:
            queue.enqueue(connection, run_id, priority=priority)

    def command(self, job: Job, slot: Slot) -> Sequence[str]:
        acts = self.acts[job.run_id]
        act = acts[min(self.tries(job.run_id), len(acts) - 1)].split()
        if "trains" in act:
            # Done here, so that the process needs no driver, and begins at once.
            act.remove("trains")
            self.sql(
                "UPDATE experiment_run SET status = 'succeeded', error = NULL, traceback = NULL "
                "WHERE run_id = %s",
                [job.run_id],
            )
        return [sys.executable, "-ISc", CHILD, str(job.run_id), str(self.log), *act]

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def tries(self, run_id: int) -> int:
        return self.lines().count(f"{run_id} begins")

    def worker(self, *, concurrency: int = 1, until_empty: bool = True, **options: Any) -> Worker:
        given = {"limits": Limits(first_delay=0.0, taken_delay=0.1), **options}
        slots = [Slot("cpu", 1)] * concurrency
        progress = Progress(stream=self.said)
        return Worker(
            self.db, slots, self.command, until_empty=until_empty, progress=progress, **given
        )

    def row(self, run_id: int) -> tuple[Any, ...]:
        return self.sql(
            "SELECT status, error, traceback FROM experiment_run WHERE run_id = %s", [run_id]
        )[0]

    def jobs(self, run_id: int) -> list[tuple[Any, ...]]:
        """State, failures, lost and alone of a run's jobs."""
        return self.sql(
            "SELECT status::text, (args -> 'failures')::int, (args -> 'lost')::int, "
            "(args -> 'alone')::bool FROM procrastinate_jobs "
            "WHERE (args -> 'run_id')::int = %s ORDER BY id",
            [run_id],
        )

    def wait_until(self, condition: Callable[[], object]) -> None:
        until = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < until, self.said.getvalue()
            time.sleep(0.02)

    @contextmanager
    def at_work(self, *workers: Worker) -> Iterator[None]:
        """Workers in threads; at the end of the block they have ended by themselves."""
        threads = [threading.Thread(target=worker.run) for worker in workers]
        for thread in threads:
            thread.start()
        try:
            yield
        except BaseException:
            for worker in workers:
                worker.stop()
            raise
        finally:
            for thread in threads:
                thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"TICK": 0.01, "POLL": 0.05, "HEARTBEAT_EVERY": 0.2}.items():
        monkeypatch.setattr(working, name, seconds)
    monkeypatch.setattr(working, "SILENT_AFTER", 2.0)


@pytest.fixture
def house(db: Database, corpus: Corpus, sequence_set: MakeSet, sql: Sql, tmp_path: Path) -> House:
    corpus([6] * 5)
    sequence_set()
    queue.ensure(db)
    return House(db, sql, tmp_path / "log")


def test_two_workers_never_have_the_same_run(house: House) -> None:
    ids = [house.planned("trains done") for n in range(7)]
    two = [house.worker(concurrency=2), house.worker()]
    with house.at_work(*two):
        pass
    assert sum(worker.counts.succeeded for worker in two) == len(ids)
    assert sorted(house.lines()) == sorted(
        f"{n} {what}" for n in ids for what in ("begins", "ends")
    )
    assert {house.row(n) for n in ids} == {("succeeded", None, None)}
    assert [house.jobs(n) for n in ids] == [[("succeeded", 0, 0, False)]] * len(ids)
    assert house.sql("SELECT count(*) FROM procrastinate_workers") == [(0,)]


def test_the_highest_priority_comes_first(house: House) -> None:
    ids = [house.planned("done", priority=n) for n in range(3)]
    house.worker().run()
    assert house.lines()[::2] == [f"{n} begins" for n in ids[::-1]]


def test_what_becomes_of_each_kind_of_end(house: House) -> None:
    broken = house.planned("error")
    mended = house.planned("error", "trains done")
    refused = house.planned("refused")
    silent = house.planned("exits")
    unevaluated = house.planned("trains error")
    worker = house.worker(concurrency=2)
    counts = worker.run()
    assert counts == Counts(succeeded=1, failed=4)
    assert house.row(broken) == ("failed", "it broke", "Traceback")
    assert house.jobs(broken) == [("failed", n, 0, False) for n in range(3)]
    assert house.row(mended) == ("succeeded", None, None)
    assert house.jobs(mended) == [("failed", 0, 0, False), ("succeeded", 1, 0, False)]
    assert house.row(refused) == ("failed", "it broke", "Traceback")
    assert house.tries(refused) == 1
    status, error, trace = house.row(silent)
    assert (status, house.tries(silent), trace) == ("failed", 3, None)
    assert error == "its process ended without a word (exit code 3); its last line: last words"
    # Training stands, whatever became of the evaluation.
    assert house.row(unevaluated) == ("succeeded", "it broke", "Traceback")
    assert f"run {unevaluated} copy-last was trained but not evaluated: it" in house.said.getvalue()


def test_a_run_out_of_memory_is_tried_again_alone(house: House) -> None:
    ids = [house.planned("is-killed")]
    ids += [house.planned("waits trains done") for _ in range(3)]
    assert house.worker(concurrency=2).run() == Counts(succeeded=3, failed=1)
    assert house.jobs(ids[0]) == [("failed", 0, 0, False), ("failed", 0, 0, True)]
    status, error, _ = house.row(ids[0])
    assert status == "failed"
    assert "its process was killed, as a system does that runs out of memory" in error
    assert "nothing beside it: create a run with a smaller --set batch_size" in error
    # Between the second beginning of the run and its end nothing else runs.
    lines = house.lines()
    second = [n for n, line in enumerate(lines) if line == f"{ids[0]} begins"][1]
    assert lines[second + 1] == f"{ids[0]} ends"
    running = {
        n: lines[:second].count(f"{n} begins") - lines[:second].count(f"{n} ends") for n in ids
    }
    assert set(running.values()) == {0}


def test_a_run_out_of_time_is_stopped_and_may_go_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tries, "GRACE", 0.2)
    gentle, stubborn = house.planned("sleeps", "trains done"), house.planned("ignores sleeps")
    limits = Limits(time=0.6)
    assert house.worker(concurrency=2, limits=limits).run() == Counts(failed=2)
    for run_id in (gentle, stubborn):
        status, error, _ = house.row(run_id)
        assert (status, house.tries(run_id)) == ("failed", 1)
        assert error.startswith("it reached the time limit of 0.01 minutes: 'lvmdb runs retry")
    house.enqueue(gentle)
    assert house.worker(limits=limits).run() == Counts(succeeded=1)


def test_a_worker_that_is_stopped_puts_its_runs_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [house.planned("sleeps", "trains done"), house.planned("ignores sleeps", "trains done")]
    worker = house.worker(concurrency=2, until_empty=False)
    with house.at_work(worker):
        house.wait_until(lambda: len(house.lines()) == 2)
        time.sleep(0.3)  # until the second ignores what it is asked
        worker.stop()
        house.wait_until(lambda: house.row(ids[0])[0] == "queued" and len(worker._tries) == 1)
        worker.stop()
    assert [house.jobs(n) for n in ids] == [[("todo", 0, 0, False)]] * 2
    assert [house.row(n) for n in ids] == [("queued", None, None)] * 2
    assert house.worker().run() == Counts(succeeded=2)


def test_a_run_that_waits_to_be_alone_is_put_back_too(house: House) -> None:
    alone, beside = (
        house.planned("is-killed", "trains done"),
        house.planned("sleeps", "trains done"),
    )
    worker = house.worker(concurrency=2, until_empty=False)
    with house.at_work(worker):
        house.wait_until(lambda: worker._waiting)
        waits = house.planned("trains done")
        time.sleep(0.2)
        worker.stop()
    assert house.tries(waits) == 0, "what waits to be alone is not overtaken"
    assert house.jobs(alone) == [("failed", 0, 0, False), ("todo", 0, 0, True)]
    assert house.jobs(beside) == house.jobs(waits) == [("todo", 0, 0, False)]
    assert house.worker(concurrency=2).run() == Counts(succeeded=3)


def test_a_process_that_cannot_be_started_is_an_error(house: House) -> None:
    run_id = house.planned()
    limits = Limits(tries=1)
    worker = Worker(
        house.db, [Slot("cpu", 1)], lambda *_: ["/none"], limits=limits, until_empty=True
    )
    assert worker.run() == Counts(failed=1)
    assert "its process cannot be started: " in house.row(run_id)[1]


def test_runs_of_a_dead_worker_go_back_to_the_queue(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "MAX_LOST", 2)
    claimed, free, cursed = (house.planned("trains done") for _ in range(3))
    with house.db.begin() as connection:
        dead = queue.register(connection, 3600)
        jobs = [queue.take(connection, dead) for _ in range(3)]
        assert jobs[2] is not None
        queue.defer_again(connection, Job(jobs[2].job_id, cursed, lost=1), 0.0)
        assert queue.take(connection, dead) is not None
        queue.unregister(connection, dead)
    worker = house.worker()
    has_it = ExitStack()
    has_it.enter_context(claims.claim(house.db, claimed))
    with house.at_work(worker), has_it:
        house.wait_until(lambda: house.row(free)[0] == "succeeded")
        house.wait_until(lambda: house.row(cursed)[0] == "failed")
        # Its process lives, though its worker does not.
        assert house.jobs(claimed) == [("doing", 0, 0, False)]
        assert house.tries(claimed) == 0
    assert worker.counts == Counts(succeeded=2, failed=1)
    assert house.jobs(claimed) == [("failed", 0, 0, False), ("succeeded", 0, 1, False)]
    assert house.jobs(cursed)[1:] == [("failed", 0, 1, False)]
    assert house.tries(cursed) == 0
    assert house.row(cursed)[1].startswith("its worker died, 2 times: 'lvmdb runs retry")


def test_a_run_that_another_process_has_is_put_back_and_not_counted(house: House) -> None:
    run_id = house.planned("taken", "taken", "taken", "taken", "trains done")
    assert house.worker().run() == Counts(succeeded=1)
    assert house.jobs(run_id) == [("succeeded", 0, 0, False)]
    assert house.tries(run_id) == 5


def test_a_run_that_rests_on_another_begins_after_it(house: House) -> None:
    """No process is started before: it would only find that out for itself."""
    child = house.planned("trains done", priority=9)
    parent = house.planned("trains done")
    house.sql("UPDATE experiment_run SET parent_run_id = %s WHERE run_id = %s", [parent, child])
    assert house.worker(concurrency=2).run() == Counts(succeeded=2)
    begun = [line for line in house.lines() if line.endswith("begins")]
    assert begun == [f"{parent} begins", f"{child} begins"]
    assert house.jobs(child) == [("succeeded", 0, 0, False)]


def test_what_is_not_to_be_run_leaves_the_queue(house: House) -> None:
    cancelled, deleted, planned = (house.planned("trains done") for _ in range(3))
    runs.cancel(house.db, cancelled)
    house.sql("DELETE FROM experiment_run WHERE run_id = %s", [deleted])
    house.sql("UPDATE experiment_run SET status = 'planned' WHERE run_id = %s", [planned])
    while_it_ran = house.planned("waits waits cancelled")
    worker = house.worker()
    with house.at_work(worker):
        house.wait_until(lambda: house.lines())
        queue.cancel(house.db, while_it_ran)
    assert worker.counts == Counts()
    assert house.lines()[0] == f"{while_it_ran} begins"
    assert {tuple(house.jobs(n)) for n in house.acts} == {(("aborted", 0, 0, False),)}
    assert [house.row(n)[0] for n in (cancelled, planned, while_it_ran)] == [
        *("cancelled", "planned", "cancelled"),
    ]


def test_a_run_cancelled_and_queued_again_while_it_stops_is_run_again(house: House) -> None:
    run_id = house.planned("waits waits cancelled", "trains done")
    worker = house.worker()
    with house.at_work(worker):
        house.wait_until(lambda: house.lines())
        queue.cancel(house.db, run_id)
        runs.retry(house.db, run_id)
        house.enqueue(run_id)
    assert worker.counts == Counts(succeeded=1)
    assert house.jobs(run_id) == [("succeeded", 0, 0, False)]


def test_it_asks_for_what_is_due_and_ends_when_nothing_is(house: House) -> None:
    weeks = [[house.planned("trains done", queued=False) for _ in range(2)] for _ in range(2)]
    due = list(weeks)

    def advance() -> int:
        """The next week, when nothing of the last is left."""
        left = house.sql(
            "SELECT count(*) FROM experiment_run WHERE status IN ('queued', 'running')"
        )
        if not due or left != [(0,)]:
            return 0
        for run_id in (week := due.pop(0)):
            house.enqueue(run_id)
        return len(week)

    assert house.worker(advance=advance).run() == Counts(succeeded=4)
    assert [line.split()[0] for line in house.lines()[::2]] == [str(n) for w in weeks for n in w]


def test_it_stays_for_what_another_worker_has_chosen(house: House) -> None:
    run_id = house.planned("trains done", queued=False)
    asked = 0

    def advance() -> int:
        nonlocal asked
        asked += 1
        if asked == 2:
            # Somebody else's choice, which was waited for.
            house.enqueue(run_id)
        return 0

    assert house.worker(advance=advance).run() == Counts(succeeded=1)


class _Unsteady(Database):
    """A database whose server goes away."""

    away = False

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        if self.away:
            raise ConnectionLostError("the server is away")
        with super().begin() as connection:
            yield connection


def test_it_outlives_a_server_that_goes_away(house: House) -> None:
    run_id, other = house.planned("waits trains done"), house.planned("sleeps", "trains done")
    steady, house.db = house.db, _Unsteady(house.db.dsn)
    worker = house.worker()
    with house.at_work(worker):
        house.wait_until(lambda: house.lines())
        house.db.away = True
        house.wait_until(lambda: "waiting for the server" in house.said.getvalue())
        house.wait_until(lambda: f"{run_id} ends" in house.lines())
        assert house.jobs(run_id) == [("doing", 0, 0, False)]
        house.db.away = False
        house.wait_until(lambda: house.tries(other))
        # Stopped without a server: another worker finds what it had.
        house.db.away = True
        worker.stop()
    assert house.jobs(run_id) == [("succeeded", 0, 0, False)]
    assert house.jobs(other) == [("doing", 0, 0, False)]
    house.db = steady
    assert house.worker().run() == Counts(succeeded=1)
    assert house.jobs(other) == [("failed", 0, 0, False), ("succeeded", 0, 1, False)]


def test_it_ends_where_a_server_stays_away(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "PATIENCE", 0.1)
    run_id = house.planned("sleeps")
    unsteady = _Unsteady(house.db.dsn)
    pids: list[int] = []

    class Noted(tries.Try):
        """A process whose server goes away once it has begun."""

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            pids.append(self.pid)
            unsteady.away = True

    monkeypatch.setattr(working, "Try", Noted)
    worker = Worker(unsteady, [Slot("cpu", 1)], house.command)
    with pytest.raises(ConnectionLostError):
        worker.run()
    assert house.jobs(run_id) == [("doing", 0, 0, False)]
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_process_is_told_its_part(house: House) -> None:
    """Threads, the GPU and the database by variables; what it prints besides is kept."""
    program = (
        "import json, os; names = 'OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES', 'LVMDB_DSN'; "
        "told = ' '.join(os.environ[name] for name in names); "
        "print(json.dumps({'ending': 'done', 'message': told, 'traceback': None}))"
    )
    command = [sys.executable, "-ISc", program]
    tried = tries.Try(Job(1, 1), Slot("cuda", 3, "GPU-5"), command, house.db.dsn, None)
    # In a session of its own, which Ctrl-C does not reach.
    assert os.getsid(tried.pid) == tried.pid
    house.wait_until(tried.poll)
    ended = tried.poll()
    assert ended is not None
    assert ended.message == f"3 GPU-5 {house.db.dsn}"
