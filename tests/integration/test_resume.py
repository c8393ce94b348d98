"""Processes that die while they train: the same command goes on, to the very same numbers."""

from __future__ import annotations

import os
import random
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
import torch
from asking import ask

from lvmdb.cli import main as program
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

OPTIONS = {"hidden": 16, "layers": 2, "dropout": 0.2, "batch_size": 8, "epochs": 3, "patience": 0}
STEPS = 3 * 65
POSITION = "SELECT epoch, batch, step FROM checkpoint WHERE run_id = %s AND kind = 'last'"
PATIENCE = 120.0


@dataclass
class World:
    """A database with runs that take some seconds each."""

    db: Database

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return ask(self.db, statement, parameters)

    def planned(self) -> int:
        return plan(self.db, "lstm", "s", OPTIONS, seed=11)

    @contextmanager
    def process(self, run_id: int, *options: str) -> Iterator[Process]:
        """`lvmdb train` as a process of one thread."""
        threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        command = [sys.executable, "-m", "lvmdb", "train", "--run-id", str(run_id), *options]
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

    def position(self, run_id: int) -> tuple[int, int, int]:
        """Epochs done, batches of the next, and batches in all, at the last checkpoint."""
        found = self.sql(POSITION, run_id)
        return found[0] if found else (0, 0, 0)

    def wait_for_step(self, run_id: int, step: int, process: Process) -> None:
        """Return some moment after this batch was saved, with the process held still."""
        until = time.monotonic() + PATIENCE
        with self.db.raw_connection(autocommit=True) as connection:
            while (connection.execute(POSITION, [run_id]).fetchone() or (0, 0, 0))[2] < step:
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < until
                time.sleep(0.02)
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
                "SELECT kind, epoch, batch, step, progress, sha256 FROM checkpoint "
                "WHERE run_id = %s ORDER BY kind",
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


@contextmanager
def one_thread() -> Iterator[None]:
    """As the processes have."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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


def test_killed_at_random_batches_it_goes_on_bit_for_bit(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL, SIGINT and SIGTERM in the middle of epochs; while it runs nobody else may have it.

    It ends with the numbers of a run that nothing happened to, and that saved at epochs' ends only.
    """
    monkeypatch.setattr(claims, "CLAIM_PATIENCE", 0.3)
    undisturbed = world.planned()
    with one_thread():
        train(world.db, undisturbed, device="cpu")
    run_id = world.planned()
    kinds = {signal.SIGKILL: "0.05", signal.SIGINT: "0", signal.SIGTERM: "0"}
    went_on = (0, 0, 0)
    for kind, every in kinds.items():
        # Drawn anew each time: a batch more or less is the scheduler's anyway.
        place = went_on[2] + random.SystemRandom().randint(1, 50)
        with world.process(run_id, "--checkpoint-every", every) as process:
            world.wait_for_step(run_id, place, process)
            if kind == signal.SIGINT:
                with pytest.raises(RunError, match=rf"running elsewhere \(.*:{process.pid}\)"):
                    train(world.db, run_id, device="cpu")
                with pytest.raises(RunError, match="running elsewhere"):
                    runs.remove(world.db, run_id)
            process.send_signal(kind)
            process.send_signal(signal.SIGCONT)
            _, error = process.communicate(timeout=PATIENCE)
        assert "Traceback" not in error
        if kind == signal.SIGKILL:
            assert world.status(run_id) == ("running", None)
        else:
            assert process.returncode == (130 if kind == signal.SIGINT else 128 + kind)
            assert world.status(run_id) == ("failed", "interrupted")
        went_on = world.position(run_id)
        assert place <= went_on[2] < STEPS, "it was stopped within its run"
    epoch, batch, _ = went_on
    # The same command, in this process, which has loaded everything.
    command = ["train", "--run-id", str(run_id), "--device", "cpu", "--dsn", world.db.dsn]
    monkeypatch.setattr(sys, "argv", ["lvmdb", *command])
    capsys.readouterr()
    with one_thread(), pytest.raises(SystemExit) as ended:
        program.main()
    output, error = capsys.readouterr()
    assert not ended.value.code, error
    within = f" and {batch} of 65 batches" if batch else ""
    assert f"run {run_id} goes on after epoch {epoch}{within}\n" in error
    assert f"run {run_id} epoch {epoch}/3" not in error
    assert output.startswith(f"run {run_id}: 3 epochs")
    assert world.outcome(run_id) == world.outcome(undisturbed)
