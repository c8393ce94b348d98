"""Processes that die while they train: the same command goes on, to the very same numbers."""

from __future__ import annotations

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

import pytest

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db import claims, runs
from lvmdb.db.engine import Database
from lvmdb.errors import RunError
from lvmdb.evaluation.evaluate import Evaluator
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSpec
from lvmdb.training.plan import plan
from lvmdb.training.train import train

Fresh = Callable[..., AbstractContextManager[Database]]
MakeArticles = Callable[..., list[VectorArticle]]
Process = subprocess.Popen[str]

OPTIONS = {"hidden": 32, "layers": 2, "dropout": 0.2, "batch_size": 8, "epochs": 5, "patience": 0}
PATIENCE = 120.0


@dataclass
class World:
    """A database with runs that take some seconds each."""

    db: Database

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self.db.raw_connection() as connection:
            return connection.execute(statement.encode(), parameters).fetchall()

    def planned(self) -> int:
        return plan(self.db, "lstm", "s", OPTIONS, seed=11)

    @contextmanager
    def process(self, run_id: int) -> Iterator[Process]:
        """`lvmdb train` as a process of one thread."""
        threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        command = [sys.executable, "-m", "lvmdb", "train", "--run-id", str(run_id)]
        with subprocess.Popen(
            [*command, "--device", "cpu", "--dsn", self.db.dsn],
            env={**os.environ, **threads},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def completed(self, run_id: int) -> str:
        """What the command says that trains the run to its end."""
        with self.process(run_id) as process:
            output, error = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, error
        return output

    def epoch(self, run_id: int) -> int:
        return int(
            self.sql("SELECT coalesce(max(epoch), 0) FROM run_metric WHERE run_id = %s", run_id)[0][
                0
            ]
        )

    def wait_for_epoch(self, run_id: int, epoch: int, process: Process) -> None:
        """Return in the middle of the epoch after `epoch`, with the process held still."""
        until = time.monotonic() + PATIENCE
        while self.epoch(run_id) < epoch:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.02)
        time.sleep(0.1)
        process.send_signal(signal.SIGSTOP)

    def status(self, run_id: int) -> tuple[Any, ...]:
        statement = "SELECT status, error FROM experiment_run WHERE run_id = %s"
        return self.sql(statement, run_id)[0]

    def outcome(self, run_id: int) -> dict[str, Any]:
        """All that a run leaves behind that must not depend on what happened to it."""
        Evaluator(self.db, device="cpu").evaluate(run_id)
        return {
            "status": self.status(run_id),
            "metrics": self.sql(
                "SELECT name, split, step, epoch, value FROM run_metric WHERE run_id = %s "
                "ORDER BY name, split, step",
                run_id,
            ),
            "checkpoints": self.sql(
                "SELECT kind, epoch, step, progress, sha256 FROM checkpoint WHERE run_id = %s "
                "ORDER BY kind",
                run_id,
            ),
            "evaluation": self.sql(
                "SELECT pool, metric, split, value, chance, checkpoint_sha256 FROM evaluation "
                "WHERE run_id = %s ORDER BY pool, metric",
                run_id,
            ),
            "predictions": self.sql(
                "SELECT target_cpe_id, predicted_vec::text, better FROM prediction "
                "WHERE run_id = %s ORDER BY target_cpe_id",
                run_id,
            ),
        }


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


@pytest.fixture(scope="module")
def undisturbed(world: World) -> dict[str, Any]:
    """What the run comes to when nothing happens to it."""
    run_id = world.planned()
    output = world.completed(run_id)
    assert output.startswith(f"run {run_id}: 5 epochs, best validation loss ")
    return world.outcome(run_id)


def test_killed_in_an_epoch_it_goes_on_bit_for_bit(
    world: World, undisturbed: dict[str, Any]
) -> None:
    run_id = world.planned()
    with world.process(run_id) as process:
        world.wait_for_epoch(run_id, 1, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = world.epoch(run_id)
    assert 1 <= done < 5
    assert world.status(run_id) == ("running", None)
    with world.process(run_id) as process:
        output, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, error
    assert f"run {run_id} goes on after epoch {done}" in error
    assert f"run {run_id} epoch {done}/5" not in error
    assert f"run {run_id} epoch {done + 1}/5" in error
    assert output.startswith(f"run {run_id}: 5 epochs")
    assert world.outcome(run_id) == undisturbed


def test_stopped_by_signals_it_says_so_and_goes_on_bit_for_bit(
    world: World, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGINT in one epoch, SIGTERM in a later one; while it runs nobody else may have it."""
    monkeypatch.setattr(claims, "CLAIM_PATIENCE", 0.3)
    run_id = world.planned()
    with world.process(run_id) as process:
        world.wait_for_epoch(run_id, 1, process)
        with pytest.raises(RunError, match=rf"running elsewhere \(.*:{process.pid}\)"):
            train(world.db, run_id, device="cpu")
        with pytest.raises(RunError, match="running elsewhere"):
            runs.remove(world.db, run_id)
        with pytest.raises(RunError, match="is running and cannot be cancelled"):
            runs.cancel(world.db, run_id)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert error.splitlines()[-1] == "lvmdb: interrupted"
    assert "Traceback" not in error
    assert world.status(run_id) == ("failed", "interrupted")
    done = world.epoch(run_id)
    assert 1 <= done < 5
    with world.process(run_id) as process:
        world.wait_for_epoch(run_id, done + 1, process)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in error
    assert world.status(run_id) == ("failed", "interrupted")
    world.completed(run_id)
    assert world.outcome(run_id) == undisturbed
