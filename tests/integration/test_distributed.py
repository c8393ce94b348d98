"""Two real processes, as torchrun starts them, against one: the same numbers, and clear ends."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from asking import ask

from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db.engine import Database
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSet, SequenceSpec
from lvmdb.training.plan import plan
from lvmdb.training.train import train

Fresh = Callable[..., AbstractContextManager[Database]]
MakeArticles = Callable[..., list[VectorArticle]]
Process = subprocess.Popen[str]

OPTIONS: dict[str, dict[str, object]] = {
    "lstm": {"hidden": 16},
    "mamba2": {"d_model": 16, "headdim": 16, "d_state": 8, "layers": 1},
}
PATIENCE = 60.0
TOLERANCE = 1e-4
"""Relative: gradients are added up in another order, and every step builds on the last."""

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lvmdb"]

FORKED = """
import torch._dynamo
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
import lvmdb.training.train
from lvmdb.cli.main import main

def train():
    try:
        main()
    except SystemExit as ended:
        # The launcher waits for what a process returns that ends well.
        if ended.code:
            raise

if __name__ == "__main__":
    there = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": "pair"}
    config = LaunchConfig(1, 1, 2, **there, start_method="fork", max_restarts=0)
    elastic_launch(config, train)()
"""
"""torchrun's own launcher, with processes that are forks of it: all is loaded once, not thrice."""


@dataclass
class World:
    """A database with a small set: its processes have unequal parts of a batch, or none."""

    db: Database
    sequences: SequenceSet

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return ask(self.db, statement, parameters or None)

    def planned(self, architecture: str = "lstm", loss: str | None = None, **given: object) -> int:
        options = {"batch_size": 7, "epochs": 2, "patience": 0, **OPTIONS.get(architecture, {})}
        return plan(self.db, architecture, "s", {**options, **given}, loss=loss, seed=3)

    @contextmanager
    def torchrun(
        self, run_id: int, *options: str, command: Sequence[str] = TORCHRUN
    ) -> Iterator[Process]:
        """Two processes of one thread each; they end with the block."""
        program = ["train", "--run-id", str(run_id), "--device", "cpu", "--dsn", self.db.dsn]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        with subprocess.Popen(
            [sys.executable, *command, *program, *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                for pid in [*workers(process), process.pid] if process.poll() is None else []:
                    os.kill(pid, signal.SIGKILL)

    def finished(self, run_id: int) -> tuple[int, str, str]:
        """Exit code, output and errors of two processes that are left alone."""
        with self.torchrun(run_id, command=["-c", FORKED]) as process:
            output, error = process.communicate(timeout=PATIENCE)
        return process.returncode, output, error

    def row(self, run_id: int) -> tuple[Any, ...]:
        return self.sql("SELECT status, error FROM experiment_run WHERE run_id = %s", run_id)[0]

    def metrics(self, run_id: int) -> dict[tuple[str, str, int, int], float]:
        rows = self.sql(
            "SELECT name, split, step, epoch, value FROM run_metric WHERE run_id = %s", run_id
        )
        return {(name, split, step, epoch): value for name, split, step, epoch, value in rows}

    def step(self, run_id: int) -> int:
        found = self.sql("SELECT step FROM checkpoint WHERE run_id = %s AND kind = 'last'", run_id)
        return found[0][0] if found else 0


@pytest.fixture(scope="module")
def world(fresh_database: Fresh, make_articles: MakeArticles) -> Iterator[World]:
    with fresh_database() as db:
        articles = make_articles([9, 4, 11, 6, 3, 13, 5, 8] * 4, walk=True)
        with db.begin() as connection:
            encoder_id = encoders.register_imported(connection, "test-encoder")
            ensure_dataset(connection, "wiki", encoder_id)
            hashes = [import_hash(article) for article in articles]
            store(connection, "wiki", encoder_id, articles, hashes)
        fractions = (Decimal("0.8"), Decimal("0.1"), Decimal("0.1"))
        spec = SequenceSpec("s", "wiki", context_len=2, fractions=fractions, shards=2)
        sets.create(db, spec)
        with db.raw_connection() as connection:
            connection.execute(
                "UPDATE cpe_entry SET domain_code = 1, task_code = 1, modifier_code = seq, "
                "tmd_source = 'given', tmd_vec = array_fill(.25, '{16}')::vector WHERE seq % 3 = 1"
            )
        yield World(db, sets.get(db, "s"))


def workers(process: Process) -> list[int]:
    """The processes that torchrun started; each is the head of a group of its own."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in children.read_text().split()] if children.exists() else []


def lines_of_lvmdb(error: str) -> list[str]:
    return [line for line in error.splitlines() if line.startswith("lvmdb: ")]


def test_two_processes_measure_what_one_does(world: World) -> None:
    """In batches of one there is always a process without a part, in training and validation."""
    given: dict[str, object] = {
        **{"objective": "every", "sequence_len": 3, "batch_size": 1},
        **{"tmd": "condition", "resolutions": "6,3"},
    }
    # Negatives are the targets of the whole global batch, whoever has them.
    loss = "mse+infonce"
    one, two = (world.planned("mamba2", loss, epochs=1, **given) for _ in range(2))
    train(world.db, one, device="cpu")
    code, output, error = world.finished(two)
    assert code == 0, error
    assert output.count("best validation loss") == 1
    assert error.count(f"run {two} epoch 1/1: train loss") == 1
    assert lines_of_lvmdb(error) == []
    expected = world.metrics(one)
    assert ("step_loss", "train", 50, 1) in expected
    assert {"coarse_6", "coarse_3", "consistency"} <= {name for name, *_ in expected}
    assert world.metrics(two) == pytest.approx(expected, rel=TOLERANCE)
    assert world.sql(
        "SELECT status, environment->>'world_size', seen_fingerprint = sequence_fingerprint "
        "FROM experiment_run WHERE run_id = %s",
        two,
    ) == [("succeeded", "2", True)]


def test_when_one_is_killed_the_other_says_so_and_one_goes_on(world: World) -> None:
    """In batches of seven, of which two processes have unequal parts, and a last one of fewer."""
    batches = math.ceil(world.sequences.window_count("train") / 7)
    assert world.sequences.window_count("train") % 7
    one, two = (world.planned(epochs=4) for _ in range(2))
    train(world.db, one, device="cpu")
    with world.torchrun(two, "--checkpoint-every", "0") as process:
        until = time.monotonic() + PATIENCE
        while world.step(two) <= batches:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.05)
        ((worker,),) = world.sql("SELECT worker FROM experiment_run WHERE run_id = %s", two)
        leader = int(worker.rpartition(":")[2])
        (other,) = {*workers(process)} - {leader}
        os.kill(other, signal.SIGKILL)
        _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    status, reason = world.row(two)
    assert status == "failed"
    if reason == "interrupted":  # torchrun was quicker to stop it than it was to notice
        assert lines_of_lvmdb(error) == ["lvmdb: stopped by SIGTERM"]
    else:
        assert "another process of this training ended without a word" in reason
        assert lines_of_lvmdb(error) == [f"lvmdb: {reason}"]
    assert world.step(two) < world.step(one)
    assert train(world.db, two, device="cpu").epochs == 4
    assert world.metrics(two) == pytest.approx(world.metrics(one), rel=TOLERANCE)


def test_an_error_of_both_is_told_once(world: World) -> None:
    run_id = world.planned(lr=0.9, weight_decay=1e30)
    code, output, error = world.finished(run_id)
    assert (code, output) == (1, "")
    (line,) = lines_of_lvmdb(error)
    assert f"the training loss of run {run_id} became" in line
    status, reason = world.row(run_id)
    assert (status, f"lvmdb: {reason}") == ("failed", line)
