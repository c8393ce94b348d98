"""Training on a GPU: page-locked batches, interruptions, and weights that a CPU reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lvmdb.db.engine import Database
from lvmdb.evaluation.evaluate import Evaluator
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.stream import SequenceStream, StreamOptions
from lvmdb.training.plan import plan
from lvmdb.training.reading import Reading
from lvmdb.training.step import Stepper
from lvmdb.training.train import train

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    # PyTorch's, of the first backward pass of a process.
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS, but there was no current CUDA"),
]

OPTIONS = {"batch_size": 8, "epochs": 3, "patience": 0, "lr": 5e-3, "dropout": 0.2}
SMALL: dict[str, dict[str, object]] = {
    "lstm": {"hidden": 16, "layers": 2},
    "gpt2": {"d_model": 16, "layers": 2, "heads": 2},
    "mamba2": {"d_model": 32, "layers": 1, "d_state": 16, "headdim": 32},
}

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def sequences(
    corpus: Callable[..., object], sequence_set: Callable[..., SequenceSet]
) -> SequenceSet:
    corpus([9] * 12, walk=True)
    return sequence_set()


def test_batches_for_a_gpu_are_page_locked(db: Database, sequences: SequenceSet) -> None:
    pinned = SequenceStream(db, sequences, "train", StreamOptions(batch_size=8, pin_memory=True))
    plain = SequenceStream(db, sequences, "train", StreamOptions(batch_size=8))
    for locked, batch in zip(pinned, plain, strict=True):
        assert locked.context.is_pinned()
        moved = locked.to(torch.device("cuda"), non_blocking=True)
        torch.testing.assert_close(moved.context.cpu(), batch.context, rtol=0, atol=0)
        torch.testing.assert_close(moved.target.cpu(), batch.target, rtol=0, atol=0)


@pytest.mark.parametrize("architecture", sorted(SMALL))
def test_weights_from_a_gpu_predict_the_same_on_a_cpu(
    db: Database, sequences: SequenceSet, sql: Rows, architecture: str
) -> None:
    for trained_on in ("cuda", "cpu"):
        run_id = plan(db, architecture, "s", {**SMALL[architecture], **OPTIONS})
        train(db, run_id, device=trained_on)
        # Loading holds the golden pair against what the weights say on this device.
        there = Evaluator(db, device="cuda").evaluate(run_id, "test", "corpus").scores
        here = Evaluator(db, device="cpu").evaluate(run_id, "test", "corpus").scores
        assert there["cosine"].value == pytest.approx(here["cosine"].value, abs=1e-4)
        found = sql("SELECT device FROM experiment_run WHERE run_id = %s", [run_id])
        assert found == [(trained_on,)]


def test_an_interrupted_run_goes_on_to_the_same_numbers(
    db: Database, sequences: SequenceSet, sql: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, interrupted = (
        plan(db, "lstm", "s", {**SMALL["lstm"], **OPTIONS}, seed=3) for _ in range(2)
    )
    train(db, undisturbed, device="cuda")
    steps = 0
    take = Stepper.step

    def fail(stepper: Stepper, *given: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 12:
            raise KeyboardInterrupt
        return take(stepper, *given)

    with monkeypatch.context() as patched:
        patched.setattr(Stepper, "step", fail)
        with pytest.raises(KeyboardInterrupt):
            train(db, interrupted, device="cuda", reading=Reading(checkpoint_every=0))
    train(db, interrupted, device="cuda")
    measured = (
        "SELECT name, step, value FROM run_metric WHERE run_id = %s AND name = 'loss' ORDER BY 2"
    )
    first, second = (sql(measured, [run_id]) for run_id in (undisturbed, interrupted))
    assert len(first) == len(second) > 0
    for (_, step, value), (_, other_step, other) in zip(first, second, strict=True):
        assert (step, value) == (other_step, pytest.approx(other, rel=1e-4))
