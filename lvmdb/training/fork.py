"""Runs that begin with the weights of another run: forks, and training in stages.

A fork has its parent's architecture and, where nothing else is asked for, its options, loss, data
and seed. It starts from the parent's best weights with a fresh optimiser, so that whatever decides
their shapes stays. The parent need not have been trained yet when a fork is planned: stages are
forks of each other, on sets that grow.

On other data the line of ancestors must not have trained on what the fork is validated or tested
on: that is refused when it is planned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from sqlalchemy import Connection

from lvmdb.db import checkpoints, needed, runs
from lvmdb.db.engine import Database
from lvmdb.db.queries import query
from lvmdb.db.runs import Run
from lvmdb.errors import ModelError, RunError, SequenceError, UsageError
from lvmdb.models import registry
from lvmdb.models.architecture import Architecture
from lvmdb.models.base import LatentModel
from lvmdb.models.config import ModelConfig
from lvmdb.models.options import to_options
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training import options
from lvmdb.training.checkpoint import unpack
from lvmdb.training.plan import Planned, prepare

INHERITED = "parent-"
"""Begins a stamp that a run has from what its weights rest on, not from its own data."""

_OF_DATA = ("scope=", "leaks=")


def fork(
    db: Database,
    parent_run_id: int,
    given: Mapping[str, object],
    *,
    sequences: str | None = None,
    loss: str | None = None,
    seed: int | None = None,
) -> int:
    """A planned run that starts from the weights of another; returns its id.

    Args:
        db: the database.
        parent_run_id: a model's run, trained or yet to be.
        given: options that are to differ from the parent's.
        sequences: another frozen sequence set than the parent's.
        loss, seed: others than the parent's.

    Raises:
        UnknownNameError: there is no such run, set, option or loss.
        RunError: the run is of a kind that has no weights to start from, or was cancelled.
        ModelError, UsageError: something of it cannot be, or its weights would have other shapes.
        SequenceError: an ancestor was trained on articles that the fork is validated or tested on.
    """
    with db.begin() as connection:
        parent = runs.read(connection, parent_run_id)
        if sequences is None:
            chosen = sets.get_by_id(connection, parent.sequence_set_id)
        else:
            chosen = sets.get(db, sequences)
        return _forked(connection, parent, given, chosen, loss=loss, seed=seed)


def stages(
    db: Database,
    architecture: str,
    sequences: Sequence[str],
    epochs: Sequence[int],
    given: Mapping[str, object],
    *,
    loss: str | None = None,
    seed: int = 0,
) -> list[int]:
    """Planned runs of one model on one set after another, each from the last one's weights.

    Args:
        db: the database.
        architecture, given, loss, seed: of all of them, as for `plan`.
        sequences: names of frozen sequence sets, as a rule each within the next.
        epochs: of each stage.

    Returns:
        Their ids, in order; all or none are made.

    Raises:
        UsageError: there are not as many numbers of epochs as sets.
        UnknownNameError, ModelError, SequenceError, UsageError, RunError: as for `plan` and `fork`.
    """
    if len(epochs) != len(sequences):
        raise UsageError(
            f"--epochs has {len(epochs)} numbers and --sequences {len(sequences)} sets: "
            "give one number for each"
        )
    if "epochs" in given:
        raise UsageError("--set epochs: the stages have theirs from --epochs")
    chosen = [sets.get(db, name) for name in sequences]
    first = prepare(architecture, chosen[0], {**given, "epochs": epochs[0]}, loss=loss, seed=seed)
    with db.begin() as connection:
        run_ids = [first.create(connection)]
        for found, count in zip(chosen[1:], epochs[1:], strict=True):
            parent = runs.read(connection, run_ids[-1])
            run_ids.append(_forked(connection, parent, {"epochs": count}, found))
    return run_ids


def start_from_parent(db: Database, run: Run, model: LatentModel, config: ModelConfig) -> None:
    """Give the model of a forked run its parent's best weights, if it has none of its own yet.

    The golden pair of the parent's checkpoint must come out: what a fork is before its first step
    is what its parent was.

    Raises:
        RunWaitsError: the parent is in the queue, or runs.
        RunError: it has not succeeded, and will not by itself.
        ModelError: its weights do not fit, or give other vectors in this model.
    """
    if run.parent_run_id is None:
        return
    with db.connect() as connection:
        if checkpoints.checkpoint_sha256(connection, run.run_id, "last") is not None:
            return
        parent = runs.read(connection, run.parent_run_id)
        if parent.status != "succeeded":
            what = f"run {run.run_id} starts from the weights of run {parent.run_id}, which is"
            raise needed.not_ready(connection, parent.run_id, parent.status, what)
        best = checkpoints.load(connection, parent.run_id, "best")
    if best is None:
        raise RunError(
            f"run {run.run_id} starts from the weights of run {parent.run_id}, which has none"
        )
    try:
        unpack(best.data, model, config)
    except ModelError as error:
        named = _differing(best.config, to_options(config))
        because = f" (it differs in {', '.join(named)})" if named else ""
        raise ModelError(
            f"run {run.run_id} cannot start from run {parent.run_id}{because}: {error}"
        ) from error


def _forked(
    connection: Connection,
    parent: Run,
    given: Mapping[str, object],
    sequences: SequenceSet,
    *,
    loss: str | None = None,
    seed: int | None = None,
) -> int:
    if parent.kind != "model":
        raise RunError(
            f"run {parent.run_id} is {'an' if parent.kind == 'ensemble' else 'a'} {parent.kind}: "
            "only the run of a model has weights that another can start from"
        )
    if parent.status == "cancelled":
        raise RunError(
            f"run {parent.run_id} was cancelled: 'lvmdb runs retry {parent.run_id}' plans it again"
        )
    if "preset" in given:
        raise UsageError("--set preset: a fork has its parent's options; name those to change")
    if "init" in given:
        raise UsageError("--set init: a fork starts from its parent's weights")
    left = {*options.FROM_SEQUENCES, "init"}
    kept = {n: v for n, v in parent.hyperparameters.items() if n not in left}
    planned = prepare(
        parent.architecture,
        sequences,
        {**kept, **given},
        loss=loss or parent.loss,
        seed=parent.seed if seed is None else seed,
    )
    _check_shapes(parent, planned)
    _check_leaks(connection, parent, sequences)
    return _stamped(parent, planned).create(connection, parent_run_id=parent.run_id)


def _check_shapes(parent: Run, planned: Planned) -> None:
    """Refuse options with which the parent's weights would not fit."""
    architecture = registry.get(parent.architecture)
    before, after = (
        options.from_row(architecture, row)[0]
        for row in (parent.hyperparameters, planned.configuration["hyperparameters"])
    )
    if before != after and _shapes(architecture, before) != _shapes(architecture, after):
        named = _differing(to_options(before), to_options(after))
        raise UsageError(
            f"run {parent.run_id} cannot be forked with other weights than it has, and "
            f"{', '.join(named)} changes their names or shapes: plan a new run instead"
        )


def _check_leaks(connection: Connection, parent: Run, sequences: SequenceSet) -> None:
    """Refuse data of which an ancestor has seen in training what is held out here."""
    found = connection.execute(
        query("runs", "trained_on_held_out"),
        {"parent_run_id": parent.run_id, "sequence_set_id": sequences.sequence_set_id},
    ).one()
    if found.articles:
        raise SequenceError(
            f"{found.articles} articles that '{sequences.name}' holds out for validation or test "
            f"were trained on by run {found.run_id} (set '{found.name}'), from which the fork "
            "would start: make one set within the other ('lvmdb sequences create --within'), so "
            "that each article keeps its split"
        )


def _stamped(parent: Run, planned: Planned) -> Planned:
    """The fork's numbers also rest on what its ancestors' weights rest on."""
    of_data = [s for s in parent.stamps if s.startswith(_OF_DATA) and s not in planned.stamps]
    inherited = [s for s in parent.stamps if s.startswith(INHERITED)]
    inherited += [INHERITED + stamp for stamp in of_data]
    return replace(planned, stamps=[*planned.stamps, *dict.fromkeys(inherited)])


def _shapes(architecture: Architecture, config: ModelConfig) -> dict[str, torch.Size]:
    """Names and shapes of a model's weights, which are given no memory."""
    with torch.device("meta"):
        model = cast("LatentModel", architecture.build(config))
    return {name: value.shape for name, value in model.state_dict().items()}


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The options that are not the same, as a user would set them."""
    return [f"{name}={after.get(name)}" for name in after if before.get(name) != after[name]]
