"""Forks: runs that start from the weights of another, and never from what they are tested on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lvmdb.corpus.articles import VectorArticle
from lvmdb.db import checkpoints, claims, needed, runs
from lvmdb.db.engine import Database
from lvmdb.errors import (
    ModelError,
    RunError,
    RunWaitsError,
    SequenceError,
    UnknownNameError,
    UsageError,
)
from lvmdb.models import lstm, registry
from lvmdb.models.base import LatentModel
from lvmdb.scheduling import queue
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSet, SequenceSpec
from lvmdb.training import options
from lvmdb.training.checkpoint import unpack
from lvmdb.training.fork import fork, stages, start_from_parent
from lvmdb.training.plan import plan
from lvmdb.training.train import train

Corpus = Callable[..., list[VectorArticle]]
MakeSet = Callable[..., SequenceSet]
Sql = Callable[..., list[tuple[Any, ...]]]

LSTM: dict[str, object] = {"hidden": 8, "layers": 1, "epochs": 1, "lr": 0.01}


@pytest.fixture
def data(corpus: Corpus, sequence_set: MakeSet) -> SequenceSet:
    """The set `s`, of twelve articles."""
    corpus([7] * 12, walk=True)
    return sequence_set()


def weights(db: Database, run_id: int, kind: str = "best") -> dict[str, torch.Tensor]:
    """The weights of a run's checkpoint."""
    with db.connect() as connection:
        saved = checkpoints.load(connection, run_id, kind)
    assert saved is not None
    architecture = registry.get(saved.architecture)
    config, _ = options.from_row(architecture, saved.config)
    model = architecture.build(config)
    assert isinstance(model, LatentModel)
    unpack(saved.data, model, config)
    return model.state_dict()


def begun(db: Database, run_id: int) -> dict[str, torch.Tensor]:
    """The weights with which a run begins its training."""
    run = runs.get(db, run_id)
    architecture = registry.get(run.architecture)
    config, _ = options.from_row(architecture, run.hyperparameters)
    model = architecture.build(config)
    assert isinstance(model, LatentModel)
    start_from_parent(db, run, model, config)
    return model.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_fork_starts_from_the_best_weights_of_its_parent(
    db: Database, data: SequenceSet, sql: Sql
) -> None:
    parent = plan(db, "lstm", "s", {**LSTM, "centre": True}, loss="cosine", seed=4)
    child = fork(db, parent, {"lr": 1e-6, "dropout": 0.1, "epochs": 2})
    with pytest.raises(RunError, match=f"run {parent}, which is planned: 'lvmdb train --run-id"):
        train(db, child, device="cpu")
    sql("UPDATE experiment_run SET status = 'queued' WHERE run_id = %s", [parent])
    with pytest.raises(RunWaitsError, match=f"run {parent}, which is queued"):
        train(db, child, device="cpu")
    assert runs.get(db, child).status == "planned"
    train(db, parent, device="cpu")
    assert same(begun(db, child), weights(db, parent))
    train(db, child, device="cpu")
    # At that rate two epochs move them by less than one step of the parent did.
    ours, theirs = weights(db, child), weights(db, parent)
    moved = max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
    assert 0 < moved < 1e-4
    assert torch.equal(ours["mean"], theirs["mean"])
    first, second = runs.get(db, parent), runs.get(db, child)
    assert second.parent_run_id == parent
    for name in ("architecture", "loss", "seed", "sequence_set_id", "stamps"):
        assert getattr(first, name) == getattr(second, name)
    changed = {"lr": 1e-6, "dropout": 0.1, "epochs": 2}
    assert second.hyperparameters == {**first.hyperparameters, **changed}
    # Its own last checkpoint is where it would go on, not its parent's best.
    assert not same(begun(db, child), weights(db, parent))
    # A fork with nothing changed is another run than a new one of the same configuration.
    twin = fork(db, parent, {})
    assert runs.get(db, twin).hyperparameters == first.hyperparameters
    sql("UPDATE experiment_run SET seed = 5 WHERE run_id = %s", [parent])
    other = plan(db, "lstm", "s", {**LSTM, "centre": True}, loss="cosine", seed=4, reuse=True)
    assert other not in (parent, twin)
    sql("UPDATE experiment_run SET seed = 4 WHERE run_id = %s", [parent])
    again = plan(db, "lstm", "s", {**LSTM, "centre": True}, loss="cosine", seed=4, reuse=True)
    assert again == parent


def test_a_parent_whose_process_is_gone_is_not_waited_for(
    db: Database, data: SequenceSet, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needed, "SILENT_AFTER", 0.5)
    parent = plan(db, "lstm", "s", LSTM)
    child = fork(db, parent, {})
    with db.begin() as connection:
        queue.enqueue(connection, parent)
        assert needed.awaited(connection, child) == parent
    silent = "UPDATE experiment_run SET status = 'running', heartbeat_at = now() - interval '1 min'"
    sql(f"{silent} WHERE run_id = %s", [parent])
    # The worker that takes its job back will offer it again.
    with pytest.raises(RunWaitsError, match=f"run {parent}, which is running"):
        train(db, child, device="cpu")
    sql("UPDATE procrastinate_jobs SET status = 'aborted'")
    gone = f"its process is gone: 'lvmdb train --run-id {parent}' goes on"
    with pytest.raises(RunError, match=gone) as caught:
        train(db, child, device="cpu")
    assert not isinstance(caught.value, RunWaitsError)
    with db.connect() as connection:
        assert needed.awaited(connection, child) is None
    with claims.claim(db, parent), db.connect() as connection:
        assert needed.awaited(connection, child) == parent


def test_what_decides_the_shapes_stays(db: Database, data: SequenceSet, sql: Sql) -> None:
    parent = plan(db, "lstm", "s", LSTM)
    for change, told in (
        ({"hidden": 16}, "hidden=16 changes their names or shapes"),
        ({"layers": 2, "lr": 0.1}, "layers=2 changes"),
        ({"residual": False}, "residual=False changes"),
    ):
        with pytest.raises(UsageError, match=f"run {parent} cannot be forked.*{told}"):
            fork(db, parent, change)
    with pytest.raises(UnknownNameError, match="option of lstm 'hiden'; did you mean 'hidden'"):
        fork(db, parent, {"hiden": 3})
    with pytest.raises(UsageError, match="a fork has its parent's options"):
        fork(db, parent, {"preset": "toy"})
    sets.create(db, SequenceSpec("longer", "wiki", context_len=3, within="s"))
    with pytest.raises(UsageError, match="context_len=3 changes"):
        fork(db, parent, {}, sequences="longer")
    baseline = plan(db, "copy-last", "s", {})
    with pytest.raises(RunError, match=f"run {baseline} is a baseline: only the run of a model"):
        fork(db, baseline, {})
    with pytest.raises(UnknownNameError, match="unknown run '99'"):
        fork(db, 99, {})
    runs.cancel(db, parent)
    with pytest.raises(RunError, match=f"run {parent} was cancelled"):
        fork(db, parent, {})
    assert sql("SELECT count(*) FROM experiment_run WHERE parent_run_id IS NOT NULL") == [(0,)]


def test_what_the_parents_weights_computed_must_come_out(
    db: Database, data: SequenceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = plan(db, "lstm", "s", LSTM)
    train(db, parent, device="cpu")
    child = fork(db, parent, {"dropout": 0.1})
    real = lstm.LSTM.last_state
    monkeypatch.setattr(lstm.LSTM, "last_state", lambda *given: 2 * real(*given))
    told = (
        rf"run {child} cannot start from run {parent} \(it differs in dropout=0.1\): .*do not give"
    )
    with pytest.raises(ModelError, match=told):
        train(db, child, device="cpu")
    assert runs.get(db, child).status == "planned"


def test_nothing_is_held_out_that_an_ancestor_was_trained_on(
    db: Database, data: SequenceSet, sequence_set: MakeSet, sql: Sql
) -> None:
    """Another cut of the same articles is refused, through all generations, with the count."""
    sequence_set("anew", seed=1)
    sets.create(db, SequenceSpec("inner", "wiki", context_len=2, within="s", max_concepts=60))
    ((overlap,),) = sql(
        "SELECT count(*) FROM sequence_article a JOIN sequence_article b USING (article_id) "
        "JOIN sequence_set s ON s.sequence_set_id = a.sequence_set_id AND s.name = 's' "
        "JOIN sequence_set t ON t.sequence_set_id = b.sequence_set_id AND t.name = 'anew' "
        "WHERE a.split = 'train' AND b.split IN ('val', 'test')"
    )
    assert overlap > 0
    parent = plan(db, "lstm", "s", LSTM)
    inner = fork(db, parent, {}, sequences="inner")
    grandchild = fork(db, inner, {}, sequences="inner")
    before = sql("SELECT count(*) FROM experiment_run")
    for ancestor in (parent, grandchild):
        with pytest.raises(
            SequenceError,
            match=rf"{overlap} articles that 'anew' holds out .* run {parent} \(set 's'\)"
            if ancestor == parent
            else "articles that 'anew' holds out",
        ):
            fork(db, ancestor, {}, sequences="anew")
    assert sql("SELECT count(*) FROM experiment_run") == before
    sequence_set("across", scope="corpus")
    with pytest.raises(SequenceError, match="articles that 'across' holds out"):
        fork(db, parent, {}, sequences="across")


def test_a_copy_of_the_text_in_another_dataset_is_the_same_text(
    db: Database, data: SequenceSet, corpus: Corpus, sequence_set: MakeSet
) -> None:
    corpus([7] * 12, walk=True, dataset="copy")
    corpus([7] * 12, walk=True, dataset="others", seed=9)
    for name in ("copy", "others"):
        sequence_set(name, dataset=name, seed=1)
    parent = plan(db, "lstm", "s", LSTM)
    with pytest.raises(SequenceError, match=r"\d articles that 'copy' holds out"):
        fork(db, parent, {}, sequences="copy")
    assert runs.get(db, fork(db, parent, {}, sequences="others")).parent_run_id == parent


def test_a_fork_rests_on_what_its_parent_rests_on(
    db: Database, data: SequenceSet, sql: Sql
) -> None:
    parent = plan(db, "lstm", "s", LSTM)
    sql("UPDATE experiment_run SET stamps = '{leaks=3,cache=2GB}'")
    child = fork(db, parent, {})
    assert runs.get(db, child).stamps == ("parent-leaks=3",)
    assert runs.get(db, fork(db, child, {})).stamps == ("parent-leaks=3",)


def test_stages_are_forks_of_each_other(db: Database, data: SequenceSet, sql: Sql) -> None:
    for name, most in (("small", 50), ("medium", 70)):
        sets.create(db, SequenceSpec(name, "wiki", context_len=2, within="s", max_concepts=most))
    names = ["small", "medium", "s"]
    made = stages(db, "lstm", names, [1, 2, 1], {**LSTM_STAGES}, seed=2)
    assert sql(
        "SELECT run_id, parent_run_id, s.name, (hyperparameters ->> 'epochs')::int, r.seed, loss "
        "FROM experiment_run r JOIN sequence_set s USING (sequence_set_id) ORDER BY run_id"
    ) == [
        (made[0], None, "small", 1, 2, "mse"),
        (made[1], made[0], "medium", 2, 2, "mse"),
        (made[2], made[1], "s", 1, 2, "mse"),
    ]
    for run_id in made:
        train(db, run_id, device="cpu")
    assert {runs.get(db, run_id).status for run_id in made} == {"succeeded"}
    with pytest.raises(UsageError, match="--epochs has 2 numbers and --sequences 3 sets"):
        stages(db, "lstm", names, [1, 2], {})
    with pytest.raises(UsageError, match="the stages have theirs"):
        stages(db, "lstm", names, [1, 1, 1], LSTM)


LSTM_STAGES = {name: value for name, value in LSTM.items() if name != "epochs"}


def test_all_stages_are_planned_or_none(
    db: Database, data: SequenceSet, sequence_set: MakeSet, sql: Sql
) -> None:
    sequence_set("anew", seed=1)
    with pytest.raises(SequenceError, match="holds out for validation or test"):
        stages(db, "lstm", ["s", "anew"], [1, 1], LSTM_STAGES)
    assert sql("SELECT count(*) FROM experiment_run") == [(0,)]
