"""Runs that start from published blocks: planned, begun, gone on with, and refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db import checkpoints
from lvmdb.db.engine import Database
from lvmdb.errors import InputError, LvmdbError, ModelError, UsageError
from lvmdb.models import registry
from lvmdb.models.base import LatentModel
from lvmdb.models.published import core
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training import options
from lvmdb.training.checkpoint import unpack
from lvmdb.training.fork import fork
from lvmdb.training.plan import plan
from lvmdb.training.reading import Reading
from lvmdb.training.step import Stepper
from lvmdb.training.train import train

Sql = Callable[..., list[tuple[Any, ...]]]

BLOCKS = {"d_model": 16, "layers": 2, "d_state": 4, "headdim": 8}
GIVEN: dict[str, object] = {**BLOCKS, "batch_size": 8, "epochs": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny Mamba-2 as it would be published, made of our own blocks."""
    architecture = registry.get("mamba2")
    torch.manual_seed(4)
    built = architecture.build(architecture.configure(BLOCKS))
    assert isinstance(built, LatentModel)
    weights = {
        name.replace("blocks.", "layers.") if "blocks" in name else "norm_f.weight": value
        for name, value in core(built).state_dict().items()
        if name.startswith(("blocks.", "norm."))
    }
    path = tmp_path / "published"
    path.mkdir()
    save_file({**weights, "embeddings.weight": torch.ones(3, 16)}, path / "model.safetensors")
    (path / "config.json").write_text('{"model_type": "mamba2", "n_groups": 1}')
    return path


@pytest.fixture
def made(
    db: Database,
    corpus: Callable[..., list[VectorArticle]],
    sequence_set: Callable[..., SequenceSet],
) -> SequenceSet:
    corpus([9, 8, 7, 6, 8], walk=True)
    return sequence_set()


def best(db: Database, run_id: int, row: dict[str, Any]) -> dict[str, torch.Tensor]:
    architecture = registry.get("mamba2")
    config, _ = options.from_row(architecture, row)
    model = architecture.build(config)
    assert isinstance(model, LatentModel)
    with db.connect() as connection:
        found = checkpoints.load(connection, run_id, "best")
    assert found is not None
    unpack(found.data, model, config)
    return core(model).state_dict()


def test_a_run_starts_from_the_blocks_and_goes_on_without_them(
    db: Database, made: SequenceSet, sql: Sql, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**GIVEN, "init": str(folder), "lr": 1e-30, "weight_decay": 0}
    undisturbed, run_id = (plan(db, "mamba2", "s", given, seed=3) for _ in range(2))
    ((row,),) = sql("SELECT hyperparameters FROM experiment_run WHERE run_id = %s", [run_id])
    assert row["init"] == str(folder)
    assert len(row["init_sha256"]) == 64
    assert train(db, undisturbed, device="cpu").trained
    # At this rate nothing moves: what was trained is what it started from.
    published = load_file(folder / "model.safetensors")
    weights = best(db, undisturbed, row)
    for name in ("layers.1.mixer.in_proj.weight", "layers.0.norm.weight", "layers.0.mixer.A_log"):
        assert torch.equal(weights[name.replace("layers", "blocks")], published[name])
    assert torch.equal(weights["norm.weight"], published["norm_f.weight"])

    real, left = Stepper.step, iter(range(2))

    def failing(self: Stepper, *arguments: Any) -> dict[str, torch.Tensor]:
        if next(left, None) is None:
            raise OSError("the disk went away")
        return real(self, *arguments)

    monkeypatch.setattr(Stepper, "step", failing)
    with pytest.raises(OSError, match="disk went away"):
        train(db, run_id, device="cpu", reading=Reading(checkpoint_every=0))
    monkeypatch.setattr(Stepper, "step", real)
    # A fork starts from what it has learnt, and has no folder.
    forked = fork(db, undisturbed, {"lr": 0.01})
    ((other,),) = sql("SELECT hyperparameters FROM experiment_run WHERE run_id = %s", [forked])
    assert (other["init"], other["init_sha256"]) == (None, None)
    with pytest.raises(UsageError, match="--set init: a fork starts from its parent's weights"):
        fork(db, undisturbed, {"init": str(folder)})
    # What it goes on from is in the database.
    folder.rename(folder.with_name("elsewhere"))
    assert train(db, run_id, device="cpu").epochs == 1
    curves = [
        sql(
            "SELECT name, split, step, value FROM run_metric WHERE run_id = %s ORDER BY 1, 2, 3",
            [n],
        )
        for n in (undisturbed, run_id)
    ]
    assert curves[0] == curves[1]


def test_weights_that_changed_are_refused_before_anything_is_written(
    db: Database, made: SequenceSet, sql: Sql, folder: Path
) -> None:
    run_id = plan(db, "mamba2", "s", {**GIVEN, "init": str(folder)})
    weights = load_file(folder / "model.safetensors")
    path = folder / "model.safetensors"
    save_file({**weights, "norm_f.weight": 2 * weights["norm_f.weight"]}, path)
    with pytest.raises(ModelError, match=r"are not those that the run was planned with \(SHA-256"):
        train(db, run_id, device="cpu")
    path.unlink()
    with pytest.raises(InputError, match=r"has neither model.safetensors nor pytorch_model.bin"):
        train(db, run_id, device="cpu")
    assert sql("SELECT status, worker FROM experiment_run WHERE run_id = %s", [run_id]) == [
        ("planned", None)
    ]
    save_file(weights, path)
    assert train(db, run_id, device="cpu").trained


def test_what_does_not_fit_is_not_planned(
    db: Database, made: SequenceSet, sql: Sql, folder: Path
) -> None:
    for architecture, given, why in (
        ("mamba2", {**GIVEN, "layers": 3}, "have layers 2: give --set layers=2"),
        ("lstm", {}, "lstm starts from no published weights"),
        (
            "gpt2",
            {"d_model": 16, "heads": 4, "layers": 2},
            "has model_type mamba2, where only gpt2",
        ),
    ):
        with pytest.raises(LvmdbError, match=why):
            plan(db, architecture, "s", {**given, "init": str(folder)})
    assert sql("SELECT count(*) FROM experiment_run") == [(0,)]
