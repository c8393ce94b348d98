"""A server that is stopped while a run trains: the run waits, looks at the data, and goes on."""

from __future__ import annotations

import io
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from asking import ask

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db import migrate, patience
from lvmdb.db.engine import Database
from lvmdb.db.server import Server
from lvmdb.errors import ConnectionLostError, SequenceError
from lvmdb.progress import Progress
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSet, SequenceSpec
from lvmdb.sequences.stream import StreamOptions
from lvmdb.training import train as training
from lvmdb.training.loop import Trainer
from lvmdb.training.plan import plan
from lvmdb.training.reading import Reading
from lvmdb.training.step import Stepper
from lvmdb.training.train import train

MakeArticles = Callable[..., list[VectorArticle]]

OPTIONS = {
    "hidden": 16,
    "dropout": 0.2,
    "batch_size": 8,
    "buffer_size": 16,
    "epochs": 2,
    "patience": 0,
}
WAITING = "waiting for the server to come back"
PATIENCE = 60.0

CHANGE = (
    "SET session_replication_role = replica; UPDATE cpe_entry "
    "SET concept_vec = array_fill(0, '{768}')::vector - concept_vec WHERE seq = 0"
)


@dataclass
class World:
    """A server of the test's own, and what becomes of it while a run trains."""

    server: Server
    db: Database
    said: io.StringIO = field(default_factory=io.StringIO)
    starting: list[threading.Thread] = field(default_factory=list)

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return ask(self.db, statement, parameters or None)

    def stop(self, mode: str) -> None:
        """As an administrator does (`fast`), or as in a crash (`immediate`)."""
        self.server._run("pg_ctl", "stop", "-w", "-m", mode, "-D", self.server.data)

    def restart(self, mode: str) -> None:
        """Stop now; somebody else starts it once it is missed."""
        self.stop(mode)
        before = self.said.getvalue().count(WAITING)

        def start() -> None:
            until = time.monotonic() + PATIENCE
            while self.said.getvalue().count(WAITING) == before and time.monotonic() < until:
                time.sleep(0.02)
            self.server.start()

        self.starting.append(threading.Thread(target=start))
        self.starting[-1].start()

    def train(self, run_id: int) -> None:
        self.said = io.StringIO()
        progress = Progress(stream=self.said)
        try:
            train(self.db, run_id, device="cpu", reading=Reading(readers=2), progress=progress)
        finally:
            while self.starting:
                self.starting.pop().join()

    def outcome(self, run_id: int) -> list[list[tuple[Any, ...]]]:
        return [
            self.sql("SELECT status, error FROM experiment_run WHERE run_id = %s", run_id),
            self.sql(
                "SELECT name, split, step, epoch, value FROM run_metric WHERE run_id = %s "
                "ORDER BY name, split, step",
                run_id,
            ),
            self.sql(
                "SELECT kind, epoch, batch, progress, sha256 FROM checkpoint WHERE run_id = %s "
                "ORDER BY kind",
                run_id,
            ),
        ]


@pytest.fixture(scope="module")
def world(make_articles: MakeArticles) -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="lvmdb-test-", dir="/tmp"))
    folder.chmod(0o755)
    server = Server(folder)
    server.start()
    try:
        db = Database(server.dsn)
        migrate.upgrade(db)
        articles = make_articles([14] * 30, walk=True)
        with db.begin() as connection:
            encoder_id = encoders.register_imported(connection, "test-encoder")
            ensure_dataset(connection, "wiki", encoder_id)
            hashes = [import_hash(article) for article in articles]
            store(connection, "wiki", encoder_id, articles, hashes)
        fractions = (Decimal("0.8"), Decimal("0.1"), Decimal("0.1"))
        sets.create(db, SequenceSpec("s", "wiki", context_len=3, fractions=fractions))
        yield World(server, db)
    finally:
        server.stop()
        shutil.rmtree(server.socket_folder, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _small_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is needed throughout an epoch."""
    monkeypatch.setattr(training, "StreamOptions", partial(StreamOptions, fetch_rows=16))


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sets whose fingerprint was computed again."""
    calls: list[str] = []
    real = sets.verify

    def verify(db: Database, sequences: SequenceSet) -> bytes:
        found = real(db, sequences)
        calls.append(sequences.name)
        return found

    monkeypatch.setattr(sets, "verify", verify)
    return calls


@pytest.fixture(scope="module")
def undisturbed(world: World) -> list[list[tuple[Any, ...]]]:
    run_id = plan(world.db, "lstm", "s", OPTIONS, seed=2)
    train(world.db, run_id, device="cpu")
    return world.outcome(run_id)


def at_batches(monkeypatch: pytest.MonkeyPatch, events: dict[int, Callable[[], None]]) -> None:
    """Let things happen before the steps of these numbers, counted from 1."""
    real, taken = Stepper.step, 0

    def step(self: Stepper, *arguments: Any) -> dict[str, torch.Tensor]:
        nonlocal taken
        taken += 1
        if taken in events:
            events[taken]()
        return real(self, *arguments)

    monkeypatch.setattr(Stepper, "step", step)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_in_an_epoch_and_one_before_its_save_are_survived(
    world: World,
    undisturbed: list[list[tuple[Any, ...]]],
    verified: list[str],
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    run_id = plan(world.db, "lstm", "s", OPTIONS, seed=2)
    at_batches(monkeypatch, {5: partial(world.restart, mode)})
    real, measured = Trainer._validate, 0

    def validate(self: Trainer) -> dict[str, float]:
        nonlocal measured
        measured += 1
        found = real(self)
        if measured == 2:
            world.restart(mode)
        return found

    monkeypatch.setattr(Trainer, "_validate", validate)
    world.train(run_id)
    assert world.said.getvalue().count(WAITING) == 2
    # At the start, and when the stream came back; what was only written needs no other look.
    assert verified == ["s", "s"]
    assert world.outcome(run_id) == undisturbed


def test_data_that_changed_meanwhile_stops_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change() -> None:
        world.stop("immediate")
        world.server.start()
        world.sql(CHANGE)

    run_id = plan(world.db, "lstm", "s", OPTIONS, seed=2)
    at_batches(monkeypatch, {5: change})
    try:
        with pytest.raises(SequenceError, match=r"the data of sequence set 's' is not what was fr"):
            world.train(run_id)
    finally:
        world.sql(CHANGE)
    ((status, error),) = world.outcome(run_id)[0]
    assert status == "failed"
    assert "is not what was frozen" in error


def test_a_server_that_stays_away_ends_the_process_and_not_the_run(
    world: World,
    undisturbed: list[list[tuple[Any, ...]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_id = plan(world.db, "lstm", "s", OPTIONS, seed=2)
    with monkeypatch.context() as patched:
        patched.setattr(patience, "PATIENCE", 0.3)
        at_batches(patched, {40: partial(world.stop, "immediate")})
        with pytest.raises(ConnectionLostError, match="the database does not answer"):
            world.train(run_id)
    world.server.start()
    assert world.outcome(run_id)[0] == [("running", None)]
    world.train(run_id)
    assert world.outcome(run_id) == undisturbed
