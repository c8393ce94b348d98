"""Training from SQL: it learns, its row says what ran, and one seed gives one result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answering_server import AnsweringServer, Request
from asking import ask
from click.testing import CliRunner

from lvmdb.cli.app import App
from lvmdb.cli.main import cli
from lvmdb.corpus import encoders
from lvmdb.corpus.articles import VectorArticle
from lvmdb.corpus.store import ensure_dataset, import_hash, store
from lvmdb.db import claims, runs
from lvmdb.db.engine import Database
from lvmdb.db.types import DIMENSION
from lvmdb.decoding.round_trip import round_trip_of
from lvmdb.decoding.spaces import fingerprint_of
from lvmdb.decoding.vec2text import packed, unpacked
from lvmdb.errors import (
    LvmdbError,
    ModelError,
    RunError,
    SequenceError,
    UnknownNameError,
    UsageError,
)
from lvmdb.models import registry
from lvmdb.models.rwkv import TimeMixing
from lvmdb.sequences import sets
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.sequences.sets import SequenceSet, SequenceSpec
from lvmdb.settings import Settings
from lvmdb.training import environment
from lvmdb.training.loop import Trainer
from lvmdb.training.plan import plan
from lvmdb.training.reading import Reading
from lvmdb.training.schedule import learning_rate
from lvmdb.training.step import Stepper, parameter_groups
from lvmdb.training.train import train

Fresh = Callable[..., AbstractContextManager[Database]]
Rows = list[tuple[Any, ...]]

SMALL: dict[str, dict[str, object]] = {
    "lstm": {"hidden": 32, "layers": 1, "batch_size": 16, "lr": 5e-3, "epochs": 4},
    "mamba2": {
        "d_model": 32,
        "layers": 1,
        "d_state": 16,
        "headdim": 32,
        "batch_size": 16,
        "lr": 5e-3,
        "epochs": 4,
    },
}


def rotating(articles: int, length: int) -> list[VectorArticle]:
    """`v[t+1] = normalise(R v[t] + b u + noise)`: R turns by 90 degrees in eight dimensions.

    What follows is at a right angle to what was last read: copying is worth little, and a linear
    map of the last vector nearly everything.
    """
    generator = np.random.default_rng(7)
    quarter = np.kron(np.eye(4), np.array([[0.0, -1.0], [1.0, 0.0]]))
    basis, _ = np.linalg.qr(generator.standard_normal((DIMENSION, 8)))
    made = []
    for number in range(articles):
        own = generator.standard_normal(DIMENSION) / math.sqrt(DIMENSION)
        state = basis @ generator.standard_normal(8)
        vectors = []
        for _ in range(length):
            noise = generator.standard_normal(DIMENSION) / math.sqrt(DIMENSION)
            state = basis @ quarter @ basis.T @ state + 0.2 * own + 0.1 * noise
            state /= np.linalg.norm(state)
            vectors.append(state.copy())
        made.append(
            VectorArticle(
                source_key=f"a{number}",
                title=f"Article {number}",
                url=None,
                texts=tuple(f"Concept {k} of article {number}." for k in range(length)),
                source="synthetic",
                vectors=np.array(vectors, dtype=np.float32),
            )
        )
    return made


@dataclass
class World:
    """A database with the synthetic corpus and a sequence set `turns` over it."""

    db: Database
    sequences: SequenceSet

    def sql(self, statement: str, *parameters: object) -> Rows:
        return ask(self.db, statement, parameters or None)

    def planned(
        self, architecture: str, seed: int = 0, loss: str | None = None, **given: object
    ) -> int:
        options = {**SMALL.get(architecture, {}), **given}
        return plan(self.db, architecture, "turns", options, loss=loss, seed=seed)

    def trained(
        self, architecture: str, seed: int = 0, loss: str | None = None, **given: object
    ) -> int:
        run_id = self.planned(architecture, seed, loss, **given)
        assert train(self.db, run_id, device="cpu").trained
        return run_id

    def row(self, run_id: int) -> dict[str, Any]:
        ((found,),) = self.sql("SELECT to_jsonb(r) FROM experiment_run r WHERE run_id = %s", run_id)
        return dict(found)

    def metrics(self, run_id: int) -> Rows:
        return self.sql(
            "SELECT name, split, step, epoch, value FROM run_metric WHERE run_id = %s "
            "ORDER BY name, split, step",
            run_id,
        )

    def curve(self, run_id: int, name: str, split: str) -> list[float]:
        return [m[4] for m in self.metrics(run_id) if m[:2] == (name, split)]

    def checkpoint(self, run_id: int, kind: str) -> dict[str, Any]:
        ((found,),) = self.sql(
            "SELECT to_jsonb(c) FROM checkpoint c WHERE run_id = %s AND kind = %s", run_id, kind
        )
        return dict(found)


@pytest.fixture(scope="module")
def world(fresh_database: Fresh) -> Iterator[World]:
    with fresh_database() as db:
        articles = rotating(40, 14)
        with db.begin() as connection:
            encoder_id = encoders.register_imported(connection, "synthetic")
            ensure_dataset(connection, "synthetic", encoder_id)
            hashes = [import_hash(article) for article in articles]
            store(connection, "synthetic", encoder_id, articles, hashes)
        spec = SequenceSpec(
            name="turns",
            dataset="synthetic",
            context_len=2,
            fractions=(Decimal("0.7"), Decimal("0.2"), Decimal("0.1")),
        )
        yield World(db, sets.create(db, spec))


@pytest.fixture(scope="module")
def lstm(world: World) -> int:
    """A trained LSTM; tests only read it."""
    return world.trained("lstm")


@pytest.mark.parametrize("architecture", ["lstm", "mamba2"])
def test_a_model_learns_what_copying_cannot(world: World, lstm: int, architecture: str) -> None:
    run_id = lstm if architecture == "lstm" else world.trained(architecture)
    copying = world.trained("copy-last")
    (copied,) = world.curve(copying, "mse", "val")
    loss, mse = world.curve(run_id, "loss", "val"), world.curve(run_id, "mse", "val")
    assert min(mse) < 0.5 * copied
    assert loss[-1] < 0.75 * loss[0]
    # The squared error of the loss is the sum over 768 dimensions, that of the curve the mean.
    assert loss == pytest.approx([DIMENSION * value for value in mse], rel=1e-5)
    (cosine,) = world.curve(copying, "cosine", "val")
    assert max(world.curve(run_id, "cosine", "val")) > cosine + 0.5


def test_a_rows_story_is_complete(world: World, lstm: int) -> None:
    row = world.row(lstm)
    assert row["status"] == "succeeded"
    assert (row["kind"], row["architecture"], row["loss"]) == ("model", "lstm", "mse")
    assert (row["device"], row["kernel"]) == ("cpu", "torch")
    architecture = registry.get("lstm")
    model = architecture.build(
        architecture.configure({"hidden": 32, "layers": 1, "context_len": 2})
    )
    assert row["parameter_count"] == registry.count_parameters(model)
    assert (row["code_version"], row["code_dirty"]) == environment.code_version()
    assert row["environment"]["packages"]["torch"] == torch.__version__
    assert row["environment"]["torch_threads"] == torch.get_num_threads()
    assert row["worker"] == claims.worker_name()
    assert row["error"] is row["traceback"] is None
    assert row["created_at"] <= row["started_at"] <= row["heartbeat_at"] == row["finished_at"]
    assert bytes.fromhex(row["sequence_fingerprint"][2:]) == world.sequences.fingerprint
    assert row["seen_fingerprint"] == row["sequence_fingerprint"]
    assert row["environment"]["world_size"] == 1


def test_every_option_is_on_the_row(world: World, lstm: int) -> None:
    assert world.row(lstm)["hyperparameters"] == {
        "input_dim": 768,
        "output_dim": 768,
        "context_len": 2,
        "residual": True,
        "centre": False,
        "dropout": 0.0,
        "tmd": "none",
        "resolutions": [],
        "hidden": 32,
        "layers": 1,
        "stack_residual": False,
        "epochs": 4,
        "batch_size": 16,
        "lr": 5e-3,
        "warmup": 0.05,
        "final_lr": 0.01,
        "weight_decay": 0.01,
        "clip": 1.0,
        "patience": 3,
        "buffer_size": 4096,
        "objective": "last",
        "sequence_len": 64,
        "temperature": 0.05,
        "context_negatives": False,
        "infonce_weight": 1.0,
        "curriculum": "none",
        "half": False,
        "margin_soft": 0.2,
        "margin_hard": 0.4,
        "roundtrip_every": 0,
        "init": None,
        "tmd_fingerprint": None,
        "probe_fingerprint": None,
        "init_sha256": None,
    }


def test_each_epoch_has_its_metrics(world: World, lstm: int) -> None:
    found = {(name, split, epoch): step for name, split, step, epoch, _ in world.metrics(lstm)}
    batches = math.ceil(world.sequences.window_count("train") / 16)
    expected = {
        (name, split, epoch): batches * epoch
        for epoch in (1, 2, 3, 4)
        for split, names in (
            ("train", ("loss", "mse_sum", "lr")),
            ("val", ("loss", "mse_sum", "mse", "cosine")),
        )
        for name in names
    }
    within = {key: found.pop(key) for key in list(found) if key[0] == "step_loss"}
    assert found == expected
    assert all(step % 50 == 0 for step in within.values())
    rates = world.curve(lstm, "lr", "train")
    assert rates == [
        learning_rate(batches * n - 1, batches * 4, lr=5e-3, warmup=0.05, final_lr=0.01)
        for n in (1, 2, 3, 4)
    ]
    assert rates[-1] == pytest.approx(5e-5)


def test_checkpoints_are_the_last_epoch_and_the_best(world: World, lstm: int) -> None:
    loss = world.curve(lstm, "loss", "val")
    best, last = world.checkpoint(lstm, "best"), world.checkpoint(lstm, "last")
    assert best["epoch"] == 1 + loss.index(min(loss))
    assert last["epoch"] == 4
    assert best["progress"]["best_loss"] == min(loss)
    assert last["config"]["hidden"] == 32
    # The last one has what going on needs, the best one only the weights.
    assert last["bytes"] > 2.5 * best["bytes"]
    assert world.sql(
        "SELECT kind, sha256(string_agg(data, ''::bytea ORDER BY ordinal)) = sha256, "
        "sum(length(data)) = bytes FROM checkpoint JOIN checkpoint_chunk USING (checkpoint_id) "
        "WHERE run_id = %s GROUP BY checkpoint_id ORDER BY kind",
        lstm,
    ) == [("best", True, True), ("last", True, True)]
    assert world.sql("SELECT epoch FROM run_curve WHERE run_id = %s AND best", lstm) == [
        (best["epoch"],)
    ]


@pytest.mark.parametrize("architecture", ["lstm", "mamba2"])
def test_one_seed_gives_one_result(world: World, architecture: str) -> None:
    """However it is read: the second time by two connections, and into a cache."""
    first, again = (world.planned(architecture, 3, epochs=2, dropout=0.2) for _ in range(2))
    train(world.db, first, device="cpu")
    reading = Reading(readers=2, cache_bytes=50_000_000)
    train(world.db, again, device="cpu", reading=reading)
    assert [world.row(run)["stamps"] for run in (first, again)] == [[], ["cache=50MB"]]
    other = world.trained(architecture, 4, epochs=2, dropout=0.2)
    assert first != again
    for kind in ("best", "last"):
        sha256 = [world.checkpoint(run, kind)["sha256"] for run in (first, again, other)]
        assert sha256[0] == sha256[1] != sha256[2]
    assert world.metrics(first) == world.metrics(again) != world.metrics(other)


@pytest.mark.parametrize(
    ("loss", "terms"),
    [("cosine", ["cosine_distance"]), ("mse+cosine", ["cosine_distance", "mse_sum"])],
)
def test_each_loss_logs_its_terms(world: World, loss: str, terms: list[str]) -> None:
    run_id = plan(world.db, "lstm", "turns", {**SMALL["lstm"], "epochs": 1}, loss=loss)
    train(world.db, run_id, device="cpu")
    names = {m[0] for m in world.metrics(run_id) if m[1] == "val"}
    assert names == {"loss", "mse", "cosine", *terms}
    (total,) = world.curve(run_id, "loss", "val")
    weights = {"mse_sum": 0.5, "cosine_distance": 1.0}
    parts = [weights[term] * world.curve(run_id, term, "val")[0] for term in terms]
    assert total == pytest.approx(sum(parts), rel=1e-6)


def test_training_stops_when_validation_gets_no_better(world: World) -> None:
    # At this rate the weights do not move: the second epoch measures what the first did.
    run_id = world.trained("lstm", lr=1e-30, patience=2, epochs=9)
    loss = world.curve(run_id, "loss", "val")
    assert len(loss) == 3
    assert loss[0] == loss[1] == loss[2]
    assert world.checkpoint(run_id, "best")["epoch"] == 1
    assert world.checkpoint(run_id, "last")["epoch"] == 3
    assert world.row(run_id)["status"] == "succeeded"
    assert len(world.curve(world.trained("lstm", lr=1e-30, patience=0), "loss", "val")) == 4


def test_a_loss_that_is_no_number_fails_the_run(world: World) -> None:
    run_id = world.planned("lstm", lr=0.9, weight_decay=1e30)
    with pytest.raises(RunError, match=r"training loss of run \d+ became (nan|inf).*--set lr="):
        train(world.db, run_id, device="cpu")
    row = world.row(run_id)
    assert row["status"] == "failed"
    assert "training loss" in row["error"]
    assert row["traceback"].startswith("Traceback")
    assert "DivergedError" in row["traceback"]
    assert row["finished_at"] is not None
    assert world.sql("SELECT count(*) FROM checkpoint WHERE run_id = %s", run_id) == [(0,)]
    assert world.metrics(run_id) == []
    # Planned again it is what it was; here it fails again.
    runs.retry(world.db, run_id)
    row = world.row(run_id)
    assert (row["status"], row["error"], row["traceback"]) == ("planned", None, None)
    with pytest.raises(RunError, match="training loss"):
        train(world.db, run_id, device="cpu")


def test_a_validation_loss_that_is_no_number_fails_the_run(world: World) -> None:
    """One step an epoch: its loss is measured before the step that breaks the weights."""
    run_id = world.planned(
        "lstm", lr=0.9, weight_decay=1e38, batch_size=4096, warmup=0.0, residual=False
    )
    with pytest.raises(RunError, match=r"validation loss of run \d+ became (nan|inf)"):
        train(world.db, run_id, device="cpu")
    assert "validation loss" in world.row(run_id)["error"]


def test_a_run_that_failed_goes_on_by_the_same_command(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = world.trained("lstm", 5, dropout=0.3, layers=2)
    run_id = world.planned("lstm", 5, dropout=0.3, layers=2)
    real, calls = Trainer._validate, 0

    def broken(trainer: Trainer) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError("the disk went away")
        return real(trainer)

    monkeypatch.setattr(Trainer, "_validate", broken)
    with pytest.raises(OSError, match="disk went away"):
        train(world.db, run_id, device="cpu")
    assert world.row(run_id)["status"] == "failed"
    assert "OSError: the disk went away" in world.row(run_id)["traceback"]
    assert world.checkpoint(run_id, "last")["epoch"] == 2
    torch.manual_seed(999)
    assert train(world.db, run_id, device="cpu").epochs == 4
    assert calls == 5
    row = world.row(run_id)
    assert (row["status"], row["error"], row["traceback"]) == ("succeeded", None, None)
    for kind in ("best", "last"):
        ours, theirs = (world.checkpoint(run, kind)["sha256"] for run in (run_id, undisturbed))
        assert ours == theirs
    assert world.metrics(run_id) == world.metrics(undisturbed)


def test_a_run_that_fails_at_many_batches_ends_as_if_it_had_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of epochs, after the last batch of one, and with or without a save there."""
    options: dict[str, object] = {"dropout": 0.3, "layers": 2, "batch_size": 8, "epochs": 3}
    undisturbed = world.trained("lstm", 6, None, **options)
    run_id = world.planned("lstm", 6, None, **options)
    batches = math.ceil(world.sequences.window_count("train") / 8)
    real, allowed = Stepper.step, iter(range(0))

    def failing(self: Stepper, *arguments: Any) -> dict[str, torch.Tensor]:
        if next(allowed, None) is None:
            raise OSError("the disk went away")
        return real(self, *arguments)

    monkeypatch.setattr(Stepper, "step", failing)
    seen = []
    for steps, every in ((batches, 0.0), (7, 300.0), (7, 0.0), (1, 0.0), (batches - 9, 0.0)):
        allowed = iter(range(steps))
        with pytest.raises(OSError, match="disk went away"):
            train(world.db, run_id, device="cpu", reading=Reading(checkpoint_every=every))
        last = world.checkpoint(run_id, "last")
        seen.append((last["epoch"], last["batch"]))
        assert last["step"] == last["epoch"] * batches + last["batch"]
    assert seen == [(1, 0), (1, 0), (1, 7), (1, 8), (1, batches - 1)]
    monkeypatch.setattr(Stepper, "step", real)
    # The first epoch that goes on has one batch left; here it has none.
    validate = Trainer._validate
    monkeypatch.setattr(Trainer, "_validate", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(world.db, run_id, device="cpu", reading=Reading(checkpoint_every=0))
    assert world.checkpoint(run_id, "last")["batch"] == batches
    monkeypatch.setattr(Trainer, "_validate", validate)
    assert train(world.db, run_id, device="cpu").epochs == 3
    for kind in ("best", "last"):
        ours, theirs = (world.checkpoint(run, kind) for run in (run_id, undisturbed))
        assert (ours["sha256"], ours["progress"]) == (theirs["sha256"], theirs["progress"])
    assert world.metrics(run_id) == world.metrics(undisturbed)


def test_what_was_measured_before_the_first_step_is_the_same_after_an_interruption(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Centring by the mean of the training targets, and a curriculum by thirds of the windows."""
    options: dict[str, object] = {
        **{"centre": True, "curriculum": "quantiles", "context_negatives": True},
        **{"batch_size": 8, "epochs": 4},
    }
    undisturbed = world.trained("lstm", 7, "cosine+infonce", **options)
    run_id = world.planned("lstm", 7, "cosine+infonce", **options)
    real, trained_on = Stepper.step, []

    def counting(self: Stepper, batch: SequenceBatch, *arguments: Any) -> dict[str, torch.Tensor]:
        trained_on.append(len(batch))
        if len(trained_on) == 40:
            raise OSError("the disk went away")
        return real(self, batch, *arguments)

    monkeypatch.setattr(Stepper, "step", counting)
    with pytest.raises(OSError, match="disk went away"):
        train(world.db, run_id, device="cpu", reading=Reading(checkpoint_every=0))
    assert train(world.db, run_id, device="cpu").epochs == 4
    # Three thirds, and once all of them; the batch that failed was given twice.
    assert sum(trained_on) == 2 * world.sequences.window_count("train") + trained_on[39]
    assert world.metrics(run_id) == world.metrics(undisturbed)
    assert world.curve(run_id, "infonce", "val")
    ours, theirs = (world.checkpoint(run, "best") for run in (run_id, undisturbed))
    assert ours["sha256"] == theirs["sha256"]


@pytest.mark.parametrize("objective", ["last", "every"])
def test_noise_after_an_interruption_is_the_noise_without_one(
    world: World, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times, noise and dropped contexts are the step's; and validation draws none of them."""
    options: dict[str, object] = {
        **{"variant": "two_tower", "d_model": 16, "layers": 1, "heads": 2, "sampling_steps": 3},
        **{"objective": objective, "batch_size": 16, "epochs": 2, "context_dropout": 0.4},
    }
    undisturbed = world.trained("lcm", 8, "diffusion", **options)
    run_id = world.planned("lcm", 8, "diffusion", **options)
    real, steps = Stepper.step, iter(range(2))

    def failing(self: Stepper, *arguments: Any) -> dict[str, torch.Tensor]:
        if next(steps, None) is None:
            raise OSError("the disk went away")
        return real(self, *arguments)

    monkeypatch.setattr(Stepper, "step", failing)
    with pytest.raises(OSError, match="disk went away"):
        train(world.db, run_id, device="cpu", reading=Reading(checkpoint_every=0))
    monkeypatch.setattr(Stepper, "step", real)
    torch.manual_seed(999)
    assert train(world.db, run_id, device="cpu").epochs == 2
    assert world.metrics(run_id) == world.metrics(undisturbed)
    assert len(world.curve(run_id, "denoising", "val")) == 2
    ours, theirs = (world.checkpoint(run, "best") for run in (run_id, undisturbed))
    assert ours["sha256"] == theirs["sha256"]


class Decoder:
    """Vectors to text and back, badly: it forgets all but some numbers, and counts."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        assert not vectors.requires_grad
        self.rows.append(len(vectors))
        return torch.cat([vectors[:, :600], torch.zeros(len(vectors), 168)], 1)


def test_predictions_go_through_text_and_back_every_so_many_steps(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, object] = {"epochs": 2, "dropout": 0.3, "layers": 2, "roundtrip_every": 3}
    undisturbed, run_id = (world.planned("lstm", 8, None, **options) for _ in range(2))
    decoder = Decoder()
    train(world.db, undisturbed, device="cpu", round_trip=decoder)
    steps = 2 * math.ceil(world.sequences.window_count("train") / 16)
    found = [m for m in world.metrics(undisturbed) if m[0] == "round_trip"]
    assert [step for _, _, step, _, _ in found] == list(range(3, steps + 1, 3))
    assert {(split, epoch) for _, split, _, epoch, _ in found} == {("train", 1), ("train", 2)}
    assert all(0 < value < 1 for *_, value in found)
    assert len(decoder.rows) == len(found)
    assert set(decoder.rows[:-1]) == {8}
    # It is part of what is trained on, and of nothing that is validated.
    without = world.trained("lstm", 8, None, **{**options, "roundtrip_every": 0})
    assert world.curve(without, "loss", "val") != world.curve(undisturbed, "loss", "val")
    assert not world.curve(undisturbed, "round_trip", "val")

    real, left = Stepper.step, iter(range(7))

    def failing(self: Stepper, *arguments: Any) -> dict[str, torch.Tensor]:
        if next(left, None) is None:
            raise OSError("the disk went away")
        return real(self, *arguments)

    monkeypatch.setattr(Stepper, "step", failing)
    reading = Reading(checkpoint_every=0)
    with pytest.raises(OSError, match="disk went away"):
        train(world.db, run_id, device="cpu", reading=reading, round_trip=Decoder())
    monkeypatch.setattr(Stepper, "step", real)
    train(world.db, run_id, device="cpu", round_trip=Decoder())
    assert world.metrics(run_id) == world.metrics(undisturbed)
    assert (
        world.checkpoint(run_id, "best")["sha256"]
        == (world.checkpoint(undisturbed, "best")["sha256"])
    )


def test_a_round_trip_without_a_decoder_is_refused(world: World) -> None:
    run_id = world.planned("lstm", roundtrip_every=5)
    before = world.row(run_id)
    with pytest.raises(RunError, match=rf"run {run_id} sends .* no decoder is installed: plan it"):
        train(world.db, run_id, device="cpu")
    assert world.row(run_id) == before
    assert before["status"] == "planned"

    def cut(vectors: torch.Tensor) -> torch.Tensor:
        return vectors[:, :5]

    with pytest.raises(ModelError, match=r"the round trip gave \(8, 5\), not a finite vector"):
        train(world.db, run_id, device="cpu", round_trip=cut)


def test_predictions_go_through_the_decoding_service(world: World, tmp_path: Path) -> None:
    run_id = world.planned("lstm", roundtrip_every=5)
    run = runs.get(world.db, run_id)
    with world.db.connect() as connection:
        sequences = sets.get_by_id(connection, run.sequence_set_id)
    probes = np.eye(2, 768, dtype=np.float32)
    for ordinal, row in enumerate(probes):
        world.sql(
            "INSERT INTO encoder_probe (encoder_id, ordinal, sentence, probe_vec) "
            "VALUES (%s, %s, 'a', %s::vector)",
            *(sequences.encoder_id, ordinal, str(row.tolist())),
        )
    half = {"name": "org/half", "revision": "0123456789abcdef"}

    def answer(request: Request) -> object:
        back = np.roll(unpacked(request.body["vectors"]), 1, axis=1)
        assert request.body["fingerprint"] == fingerprint_of(probes)
        return {"texts": ["t"] * len(back), "vectors": packed(back),
                "inverter": half, "corrector": half}  # fmt: skip

    with AnsweringServer(answer) as server:
        settings = Settings(tmp_path, decoding_url=server.url)
        with round_trip_of(world.db, settings, run) as trip:
            train(world.db, run_id, device="cpu", round_trip=trip)
    assert world.curve(run_id, "round_trip", "train")
    sent = [(len(r.body["vectors"]), r.body["steps"], r.body["beam"]) for r in server.requests]
    assert sent[:2] == [(1, 0, 1), (8, 5, 1)]
    (stamp,) = world.row(run_id)["stamps"]
    assert stamp == "round_trip=org/half@0123456789ab+org/half@0123456789ab,steps=5,beam=1"
    # The server is gone; a run that has succeeded needs none, and one that has not says so.
    with round_trip_of(world.db, settings, runs.get(world.db, run_id)) as trip:
        assert trip is None
    other = world.planned("lstm", seed=1, roundtrip_every=5)
    before = world.row(other)
    arguments = ["--dsn", world.db.dsn, "train", "--run-id", str(other)]
    found = CliRunner(env={"LVMDB_DECODING_URL": server.url}).invoke(cli, arguments, obj=App())
    assert isinstance(found.exception, RunError)
    assert "(roundtrip_every), for which 'lvmdb serve decoding' must" in str(found.exception)
    assert world.row(other) == before


def test_a_run_that_answers_in_coarser_numbers_too(world: World) -> None:
    run_id = world.trained("lstm", resolutions="8,4", centre=True)
    names = {m[0] for m in world.metrics(run_id) if m[1] == "val"}
    coarse = ["coarse_8", "coarse_4", "consistency"]
    assert names == {"loss", "mse", "cosine", "mse_sum", *coarse}
    total, main, *parts = (world.curve(run_id, n, "val") for n in ("loss", "mse_sum", *coarse))
    expected = [m / 2 + sum(more) for m, *more in zip(main, *parts, strict=True)]
    assert total == pytest.approx(expected, rel=1e-5)
    for name in coarse[:2]:
        values = world.curve(run_id, name, "val")
        assert values[-1] < 0.8 * values[0]


def test_a_succeeded_run_is_left_alone(world: World, lstm: int) -> None:
    before = world.row(lstm), world.checkpoint(lstm, "best"), world.metrics(lstm)
    assert not train(world.db, lstm, device="cpu").trained
    assert (world.row(lstm), world.checkpoint(lstm, "best"), world.metrics(lstm)) == before


def test_a_cancelled_run_is_refused_until_it_is_retried(world: World) -> None:
    run_id = world.planned("context-mean")
    runs.cancel(world.db, run_id)
    with pytest.raises(RunError, match=rf"was cancelled: 'lvmdb runs retry {run_id}'"):
        train(world.db, run_id)
    assert world.row(run_id)["status"] == "cancelled"
    runs.retry(world.db, run_id)
    assert train(world.db, run_id).trained


def test_what_cannot_be_trained_is_refused(world: World) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown run '999999'.*lvmdb runs list"):
        train(world.db, 999999)
    run_id = world.planned("lstm")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="--device cuda: no CUDA device"):
            train(world.db, run_id, device="cuda")
    assert world.row(run_id)["status"] == "planned"
    without = world.planned("mamba2", kernel="mamba_ssm")
    with pytest.raises(ModelError, match="mamba_ssm"):
        train(world.db, without, device="cpu")
    spec = SequenceSpec(
        name="no-val",
        dataset="synthetic",
        context_len=2,
        fractions=(Decimal("0.9"), Decimal(0), Decimal("0.1")),
    )
    sets.create(world.db, spec)
    blind = plan(world.db, "lstm", "no-val", SMALL["lstm"])
    with pytest.raises(SequenceError, match="no validation windows"):
        train(world.db, blind)


@pytest.mark.parametrize(
    ("architecture", "loss", "options", "why"),
    [
        ("lstm", "diffusion", {}, "does not generate: it has a loss other than 'diffusion'"),
        ("lstm", "mse", {"context_negatives": "true"}, "a loss with infonce"),
        ("lstm", "infonce", {"infonce_weight": "2"}, "infonce_weight=2.0 is for a mixture"),
        ("lstm", "mse+infonce", {"infonce_weight": "0"}, "infonce_weight must be above 0"),
        ("lstm", "mse", {"temperature": "0.1"}, "temperature=0.1 is for a loss with infonce"),
        ("lstm", "mse", {"sequence_len": "8"}, "sequence_len=8 is for objective=every"),
        ("lstm", "mse", {"margin_soft": "0.1"}, "margin_soft=0.1 is for objective=probe"),
        ("lcm", "mse", {"variant": "one_tower"}, "these options is trained by 'diffusion'"),
        ("lcm", "diffusion", {}, "does not generate"),
        ("copy-last", "mse", {}, "is a baseline and has no loss"),
        ("ensemble", "mse", {}, "one is made of runs, by 'lvmdb ensemble create"),
        ("lstm", "infonce", {"temperature": "0"}, "temperature must be above 0"),
        ("lstm", "mse", {"curriculum": "hard"}, "curriculum must be one of"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(
    world: World, architecture: str, loss: str, options: dict[str, object], why: str
) -> None:
    with pytest.raises(LvmdbError, match=why):
        plan(world.db, architecture, "turns", options, loss=loss)


def test_what_cannot_be_planned_is_refused(world: World) -> None:
    before = world.sql("SELECT count(*) FROM experiment_run")
    with pytest.raises(UnknownNameError, match=r"unknown architecture 'ltsm'; did you mean 'lstm'"):
        plan(world.db, "ltsm", "turns", {})
    with pytest.raises(UnknownNameError, match=r"unknown sequence set 'turn'.*'turns'"):
        plan(world.db, "lstm", "turn", {})
    with pytest.raises(UnknownNameError, match=r"unknown loss 'mae'; .*known: cosine, .*mse"):
        plan(world.db, "lstm", "turns", {}, loss="mae")
    with pytest.raises(UsageError, match="--loss: ridge is a baseline"):
        plan(world.db, "ridge", "turns", {}, loss="mse")
    with pytest.raises(UnknownNameError, match=r"option of lstm 'hiden'; did you mean 'hidden'"):
        plan(world.db, "lstm", "turns", {"hiden": "4"})
    with pytest.raises(UsageError, match="--seed"):
        plan(world.db, "lstm", "turns", {}, seed=2**63)
    assert world.sql("SELECT count(*) FROM experiment_run") == before


def test_the_same_run_is_found_again(world: World) -> None:
    first = plan(world.db, "lstm", "turns", {"hidden": 7}, seed=1, reuse=True)
    assert plan(world.db, "lstm", "turns", {"hidden": "7"}, seed=1, reuse=True) == first
    assert plan(world.db, "lstm", "turns", {"hidden": 7}, seed=2, reuse=True) != first
    assert plan(world.db, "lstm", "turns", {"hidden": 8}, seed=1, reuse=True) != first
    assert (
        plan(world.db, "lstm", "turns", {"hidden": 7}, seed=1, loss="cosine", reuse=True) != first
    )
    assert plan(world.db, "lstm", "turns", {"hidden": 7}, seed=1) != first


def test_data_that_changed_is_refused(world: World) -> None:
    """Not even a superuser's back door gets other data under a run's numbers."""
    run_id = world.planned("context-mean")
    swap = (
        "SET session_replication_role = replica; UPDATE cpe_entry "
        "SET concept_vec = array_fill(0, '{768}')::vector - concept_vec WHERE seq = 0"
    )
    world.sql(swap)
    try:
        with pytest.raises(SequenceError, match="is not what was frozen"):
            train(world.db, run_id)
    finally:
        world.sql(swap)
    assert world.row(run_id)["status"] == "planned"
    assert train(world.db, run_id).trained


def test_only_matrices_decay() -> None:
    architecture = registry.get("mamba2")
    model = architecture.build(architecture.configure({"d_model": 32, "headdim": 32}))
    assert isinstance(model, torch.nn.Module)
    decaying, free = parameter_groups(model, 0.25)
    assert (decaying["weight_decay"], free["weight_decay"]) == (0.25, 0.0)
    by_id = {id(p): name for name, p in model.named_parameters()}
    names = {by_id[id(p)] for p in free["params"]}
    assert len(decaying["params"]) + len(free["params"]) == len(by_id)
    for name in ("lag_weights", "A_log", "dt_bias", "D", "norm.weight", "bias"):
        assert any(found.endswith(name) for found in names), name
    assert all(p.ndim >= 2 for p in decaying["params"])
    assert all(p.ndim < 2 for p in free["params"])


def test_a_vector_that_lies_in_three_dimensions_does_not_decay() -> None:
    decaying, free = parameter_groups(TimeMixing(8), 0.25)
    assert sorted(tuple(p.shape) for p in free["params"]) == [(1, 1, 8)] * 3 + [(8,)] * 2
    assert [tuple(p.shape) for p in decaying["params"]] == [(8, 8)] * 4
