"""Workers that train: what their processes do with a run, and runs that outlive their workers."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from answering_server import AnsweringServer, Request
from asking import ask

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db import claims, runs
from lvmdb.db.engine import Database
from lvmdb.decoding.vec2text import packed, unpacked
from lvmdb.evaluation.evaluate import Evaluator
from lvmdb.progress import SILENT, Progress
from lvmdb.scheduling import child, queue
from lvmdb.scheduling import worker as working
from lvmdb.scheduling.policy import Ended, Ending
from lvmdb.scheduling.slots import Slot
from lvmdb.scheduling.tries import child_command
from lvmdb.scheduling.worker import Counts, Worker
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSpec
from lvmdb.training import stopping
from lvmdb.training.plan import plan
from lvmdb.training.step import Stepper
from lvmdb.training.train import train

Fresh = Callable[..., AbstractContextManager[Database]]
MakeArticles = Callable[..., list[VectorArticle]]

OPTIONS = {"hidden": 16, "layers": 2, "dropout": 0.2, "batch_size": 8, "epochs": 2, "patience": 0}
STEPS = 2 * 65
STEP = "SELECT step FROM checkpoint WHERE run_id = %s AND kind = 'last'"
PATIENCE = 120.0


@dataclass
class World:
    """A database with runs that take some seconds each."""

    db: Database

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return ask(self.db, statement, parameters or None)

    def planned(self, architecture: str = "lstm", **options: object) -> int:
        given = {**OPTIONS, **options} if architecture == "lstm" else {}
        return plan(self.db, architecture, "s", given, seed=11)

    def attempt(self, run_id: int) -> Ended:
        """As a worker's process does it, with one thread."""
        with one_thread():
            return child.attempt(
                self.db, run_id, device="cpu", checkpoint_every=300.0, progress=SILENT
            )

    @contextmanager
    def process(self) -> Iterator[subprocess.Popen[str]]:
        """`lvmdb worker` as a process, whose own process saves after every batch."""
        command = [sys.executable, "-m", "lvmdb", "worker", "--dsn", self.db.dsn]
        with subprocess.Popen(
            [*command, "--device", "cpu", "--threads", "1", "--checkpoint-every", "0"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def step(self, run_id: int) -> int:
        found = self.sql(STEP, run_id)
        return found[0][0] if found else 0

    def wait_for_step(self, run_id: int, step: int, process: subprocess.Popen[str]) -> None:
        """Return when a later batch than this one is saved, or the process has ended."""
        until = time.monotonic() + PATIENCE
        # One session for all: a server makes a process for each.
        with self.db.raw_connection(autocommit=True) as connection:
            while process.poll() is None:
                found = connection.execute(STEP.encode(), [run_id]).fetchone()
                if found and found[0] > step:
                    break
                assert time.monotonic() < until
                time.sleep(0.03)

    def state(self, run_id: int) -> tuple[Any, ...]:
        return self.sql("SELECT status, error FROM experiment_run WHERE run_id = %s", run_id)[0]

    def pid(self, run_id: int) -> int:
        ((worker,),) = self.sql("SELECT worker FROM experiment_run WHERE run_id = %s", run_id)
        return int(worker.rpartition(":")[2])

    def jobs(self, run_id: int) -> list[tuple[Any, ...]]:
        return self.sql(
            "SELECT status::text, (args -> 'failures')::int, (args -> 'lost')::int "
            "FROM procrastinate_jobs WHERE (args -> 'run_id')::int = %s ORDER BY id",
            run_id,
        )

    def outcome(self, run_id: int) -> list[list[tuple[Any, ...]]]:
        """What training leaves behind, which must not depend on what happened to the run."""
        return [
            self.sql(
                "SELECT name, split, step, epoch, value FROM run_metric WHERE run_id = %s "
                "ORDER BY name, split, step",
                run_id,
            ),
            self.sql(
                "SELECT kind, epoch, batch, step, progress, sha256 FROM checkpoint "
                "WHERE run_id = %s ORDER BY kind",
                run_id,
            ),
        ]

    def evaluated(self, run_id: int) -> list[tuple[Any, ...]]:
        return self.sql(
            "SELECT DISTINCT split FROM evaluation WHERE run_id = %s ORDER BY split", run_id
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """As the processes have."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for_end(pid: int) -> None:
    until = time.monotonic() + PATIENCE
    while alive(pid):
        assert time.monotonic() < until
        time.sleep(0.03)


@pytest.fixture(scope="module")
def world(fresh_database: Fresh, make_articles: MakeArticles) -> Iterator[World]:
    with fresh_database() as db:
        articles = make_articles([30] * 24, walk=True)
        with db.begin() as connection:
            encoder_id = encoders.register_imported(connection, "test-encoder")
            ensure_dataset(connection, "wiki", encoder_id)
            hashes = [import_hash(article) for article in articles]
            store(connection, "wiki", encoder_id, articles, hashes)
        fractions = (Decimal("0.8"), Decimal("0.1"), Decimal("0.1"))
        sets.create(db, SequenceSpec("s", "wiki", context_len=3, fractions=fractions))
        yield World(db)


def test_a_run_outlives_its_workers_bit_for_bit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM and then SIGKILL in the middle of it: it goes on elsewhere, and ends the same."""
    run_id, undisturbed = world.planned(), world.planned()
    with world.db.begin() as connection:
        queue.enqueue(connection, run_id)
    with world.process() as process:
        world.wait_for_step(run_id, 9, process)
        process.send_signal(signal.SIGTERM)
        output, said = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (0, "0 runs succeeded, 0 failed\n"), said
    assert f"run {run_id} lstm is back in the queue: its worker was stopped" in said
    assert "Traceback" not in said
    assert not alive(world.pid(run_id))
    assert (world.state(run_id), world.jobs(run_id)) == (("queued", None), [("todo", 0, 0)])
    stopped_at = world.step(run_id)
    assert 9 < stopped_at < STEPS
    with world.process() as process:
        world.wait_for_step(run_id, stopped_at, process)
        process.kill()
        _, said = process.communicate(timeout=PATIENCE)
    # Its own process ends with it, and says nothing: the next worker does.
    wait_for_end(world.pid(run_id))
    assert stopped_at < world.step(run_id) < STEPS, said
    assert (world.state(run_id), world.jobs(run_id)) == (("running", None), [("doing", 0, 0)])
    monkeypatch.setattr(working, "SILENT_AFTER", 0.5)
    told = io.StringIO()
    last = Worker(
        world.db,
        [Slot("cpu", 1)],
        child_command(300.0),
        until_empty=True,
        progress=Progress(stream=told),
        verbose=True,
    )
    assert last.run() == Counts(succeeded=1), told.getvalue()
    assert f"run {run_id} goes on after epoch" in told.getvalue()
    assert "Fatal" not in told.getvalue()
    assert world.jobs(run_id) == [("failed", 0, 0), ("succeeded", 0, 1)], told.getvalue()
    with one_thread():
        train(world.db, undisturbed, device="cpu")
    assert world.outcome(run_id) == world.outcome(undisturbed)
    assert world.evaluated(run_id) == [("test",), ("val",)]


def test_what_was_done_is_not_done_again(world: World) -> None:
    run_id = world.planned("context-mean")
    assert world.attempt(run_id) == Ended(Ending.DONE)
    assert world.evaluated(run_id) == [("test",), ("val",)]
    when = "SELECT max(e.created_at), max(r.started_at) FROM evaluation e "
    when += "JOIN experiment_run r USING (run_id) WHERE run_id = %s"
    before = world.sql(when, run_id)
    assert world.attempt(run_id) == Ended(Ending.DONE)
    assert world.sql(when, run_id) == before


def test_who_evaluates_a_run_has_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = world.planned("copy-last")
    evaluate = Evaluator.evaluate
    claimed: list[bool] = []

    def watched(self: Evaluator, *arguments: Any) -> Any:
        with world.db.connect() as connection:
            claimed.append(queue.claimed(connection, run_id))
        return evaluate(self, *arguments)

    monkeypatch.setattr(Evaluator, "evaluate", watched)
    train(world.db, run_id, device="cpu")
    # Only while somebody has it: a lock goes with its session, a moment after that was closed.
    with claims.claim(world.db, run_id), monkeypatch.context() as impatient:
        impatient.setattr(claims, "CLAIM_PATIENCE", 0.0)
        assert world.attempt(run_id).ending == Ending.TAKEN
    assert (world.attempt(run_id).ending, claimed) == (Ending.DONE, [True, True])


def test_a_reproduction_goes_on_as_one(world: World) -> None:
    original = world.planned("lag-weights")
    assert world.attempt(original) == Ended(Ending.DONE)
    first, second = world.planned("lag-weights"), world.planned("lag-weights")
    stamp = "UPDATE experiment_run SET stamps = ARRAY[%s] WHERE run_id = ANY (%s)"
    world.sql(stamp, f"reproduces={original}", [first, second])
    for run_id, other in ((second, "planned"), (first, "succeeded")):
        assert world.attempt(run_id) == Ended(Ending.DONE)
        stamps = "SELECT stamps FROM experiment_run WHERE run_id = %s"
        assert world.sql(stamps, run_id) == [
            ([f"reproduces={original}", "reproduction=identical"],)
        ]
        assert world.state(first if run_id == second else second)[0] == other


def test_a_reproduction_is_refused_where_it_could_not_be_compared(world: World) -> None:
    original, again = world.planned(), world.planned()
    stamp = "UPDATE experiment_run SET stamps = ARRAY[%s] WHERE run_id = %s"
    world.sql(stamp, f"reproduces={original}", again)
    on_gpu = "UPDATE experiment_run SET status = 'succeeded', device = 'cuda:0' WHERE run_id = %s"
    world.sql(on_gpu, original)
    ended = world.attempt(again)
    assert ended.ending == Ending.REFUSED
    assert f"run {original} was trained on cuda, and what cpu gives cannot be" in ended.message
    assert world.state(again)[0] == "planned"


def test_a_worker_sends_predictions_through_text_and_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sql(
        "INSERT INTO encoder_probe (encoder_id, ordinal, sentence, probe_vec) "
        "SELECT encoder_id, 0, 'a', %s::vector FROM encoder",
        str(np.eye(1, 768)[0].tolist()),
    )
    half = {"name": "org/half", "revision": "0123456789abcdef"}

    def answer(request: Request) -> object:
        back = np.roll(unpacked(request.body["vectors"]), 1, axis=1)
        return {"texts": ["t"] * len(back), "vectors": packed(back),
                "inverter": half, "corrector": half}  # fmt: skip

    given: dict[str, object] = {
        "epochs": 1,
        "layers": 1,
        "hidden": 4,
        "batch_size": 65,
        "roundtrip_every": 5,
    }
    run_id, other = (world.planned("lstm", **given) for _ in range(2))
    with AnsweringServer(answer) as server:
        monkeypatch.setenv("LVMDB_DECODING_URL", server.url)
        assert world.attempt(run_id) == Ended(Ending.DONE)
    # Once to see who is there, and at the fifth of eight steps.
    assert [len(request.body["vectors"]) for request in server.requests] == [1, 8]
    kept = "SELECT stamps[1], value > 0 FROM experiment_run JOIN run_metric USING (run_id) "
    stamp, measured = world.sql(kept + "WHERE run_id = %s AND name = 'round_trip'", run_id)[0]
    assert stamp.startswith("round_trip=org/half@0123456789ab+")
    assert measured
    # The server is gone; it may be there again when the worker tries once more.
    ended = world.attempt(other)
    assert ended.ending == Ending.ERROR
    assert "(roundtrip_every), for which 'lvmdb serve decoding' must run: " in ended.message
    assert world.state(other) == ("planned", None)


def test_a_loss_that_is_no_number_is_not_worth_another_try(world: World) -> None:
    run_id = world.planned(lr=0.9, weight_decay=1e30)
    ended = world.attempt(run_id)
    assert ended.ending == Ending.REFUSED
    assert f"training loss of run {run_id} became" in ended.message
    assert "DivergedError" in (ended.traceback or "")
    # The worker writes it, with the job.
    assert world.state(run_id) == ("running", None)


def test_a_run_that_another_process_has_is_not_touched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "CLAIM_PATIENCE", 0.1)
    run_id = world.planned()
    with claims.claim(world.db, run_id):
        ended = world.attempt(run_id)
    assert ended.ending == Ending.TAKEN
    assert f"run {run_id} is running elsewhere" in ended.message
    assert world.state(run_id) == ("planned", None)


def during_the_first_step(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Let something happen while a run trains."""
    real, left = Stepper.step, [action]

    def step(*args: Any, **kwargs: Any) -> Any:
        if left:
            left.pop()()
        return real(*args, **kwargs)

    monkeypatch.setattr(Stepper, "step", step)


@pytest.mark.parametrize("noticed", ["at a heartbeat", "at the next writing"])
def test_a_run_that_is_cancelled_while_it_trains_stops(
    world: World, monkeypatch: pytest.MonkeyPatch, noticed: str
) -> None:
    run_id = world.planned()

    def cancel() -> None:
        assert queue.cancel(world.db, run_id) == "running"
        if noticed == "at a heartbeat":
            time.sleep(0.3)

    monkeypatch.setattr(claims, "HEARTBEAT_EVERY", 0.05 if noticed == "at a heartbeat" else 60.0)
    during_the_first_step(monkeypatch, cancel)
    ended = world.attempt(run_id)
    assert ended.ending == Ending.CANCELLED
    assert f"'lvmdb runs retry {run_id}' plans it again" in ended.message
    assert world.state(run_id) == ("cancelled", None)
    assert world.outcome(run_id) == [[], []]
    runs.retry(world.db, run_id)
    assert world.state(run_id) == ("planned", None)


def test_a_process_that_is_asked_to_stop_leaves_its_run_to_the_worker(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = world.planned()
    during_the_first_step(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGTERM))
    ended = world.attempt(run_id)
    assert (ended.ending, ended.message) == (Ending.INTERRUPTED, "its process was asked to stop")
    assert world.state(run_id) == ("running", None)
    # Nothing is lost: the batch after the one in which it was asked is saved.
    assert world.step(run_id) == 2
    assert not stopping.asked()
