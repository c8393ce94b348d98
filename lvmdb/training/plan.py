"""Run rows from what a user asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import Connection

from lvmdb.db import runs
from lvmdb.db.engine import Database
from lvmdb.errors import UsageError
from lvmdb.models import registry
from lvmdb.models.architecture import Architecture
from lvmdb.models.config import ModelConfig, TrainedConfig
from lvmdb.sequences import sets
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training import initial, losses, options
from lvmdb.training.data import beside
from lvmdb.training.options import PROBE, TrainingOptions

DEFAULT_LOSS = "mse"

ENSEMBLE = "ensemble"
"""What the rows of ensembles have as architecture: none that could be trained."""


@dataclass(frozen=True)
class Planned:
    """A run that can be, and is no row yet.

    Attributes:
        configuration: architecture, options, loss, data and seed, as columns of `experiment_run`.
        kind: `model` or `baseline`.
        fingerprint: of the data.
        stamps: exceptions that its numbers rest on.
        sequences: its sequence set.
    """

    configuration: Mapping[str, Any]
    kind: str
    fingerprint: bytes
    stamps: Sequence[str]
    sequences: SequenceSet

    def measured(self, connection: Connection) -> Planned:
        """The same with fingerprints of what it reads beside the set's own data.

        Raises:
            SequenceError: there is nothing of it.
        """
        row = self.configuration["hyperparameters"]
        row = {**row, **beside(connection, self.sequences, row)}
        return replace(self, configuration={**self.configuration, "hyperparameters": row})

    def create(self, connection: Connection, **more: Any) -> int:
        """Make it a row, with `more` of the columns that `runs.create` takes; returns its id."""
        return runs.create(
            connection,
            kind=self.kind,
            sequence_fingerprint=self.fingerprint,
            stamps=self.stamps,
            **self.measured(connection).configuration,
            **more,
        )


def plan(
    db: Database,
    architecture: str,
    sequences: str,
    given: Mapping[str, object],
    *,
    loss: str | None = None,
    seed: int = 0,
    reuse: bool = False,
) -> int:
    """A planned run; returns its id.

    Args:
        db: the database.
        architecture, given, loss, seed: as for `prepare`.
        sequences: name of a frozen sequence set.
        reuse: return a run of the same configuration, data and seed if there is one.

    Raises:
        UnknownNameError, ModelError, SequenceError, UsageError: something of it cannot be.
    """
    planned = prepare(architecture, sets.get(db, sequences), given, loss=loss, seed=seed)
    with db.begin() as connection:
        planned = planned.measured(connection)
        if reuse and (same := runs.find_same(connection, **planned.configuration)) is not None:
            return same
        return planned.create(connection)


def prepare(
    architecture: str,
    sequences: SequenceSet,
    given: Mapping[str, object],
    *,
    loss: str | None = None,
    seed: int = 0,
) -> Planned:
    """What a run is to be, every option resolved.

    Args:
        architecture: name in the registry.
        sequences: a frozen sequence set.
        given: options of the architecture and of training, by name.
        loss: name of a loss, by default `mse`, or `diffusion` of what generates; a baseline has
            none.
        seed: decides initial weights and the order of batches.

    Raises:
        UnknownNameError, ModelError, SequenceError, UsageError: something of it cannot be.
    """
    if architecture == ENSEMBLE:
        raise UsageError(
            "--architecture ensemble: one is made of runs, by 'lvmdb ensemble create NAME "
            "--members 3,7,9'"
        )
    found = registry.get(architecture)
    if not -(2**63) <= seed < 2**63:
        raise UsageError("--seed must fit into 64 bits")
    model, training = options.resolve(found, given, sequences.context_len)
    loss = _loss(architecture, loss, model, training)
    if training is not None:
        _check_scope(training.objective, sequences)
        _check_conditioning(found, model)
        if training.init is not None:
            folder = str(Path(training.init).expanduser().absolute())
            found_sha256 = initial.weights_sha256(found, model, folder)
            training = replace(training, init=folder, init_sha256=found_sha256)
    return Planned(
        configuration={
            "architecture": architecture,
            "hyperparameters": options.to_row(model, training),
            "loss": loss,
            "sequence_set_id": sequences.sequence_set_id,
            "seed": seed,
        },
        kind="model" if found.trained else "baseline",
        fingerprint=sequences.frozen_fingerprint,
        stamps=exceptions(sequences),
        sequences=sequences,
    )


def exceptions(sequences: SequenceSet) -> list[str]:
    """Stamps of every run on a set: what anyone who reads its numbers must know of the data."""
    stamps = ["scope=corpus"] if sequences.scope == "corpus" else []
    return [*stamps, f"leaks={sequences.leaks}"] if sequences.leaks else stamps


def _check_scope(objective: str, sequences: SequenceSet) -> None:
    """Refuse what goes by articles on windows that run across them."""
    if sequences.scope != "corpus" or objective == "last":
        return
    reads = {"every": "predicts every position of an article", PROBE: "reads articles' probes"}
    raise UsageError(
        f"--set objective={objective} {reads[objective]}, and windows of '{sequences.name}' run "
        "across articles: create the set with --scope article"
    )


def _check_conditioning(architecture: Architecture, model: ModelConfig) -> None:
    """Refuse it where there is no shared backbone, which building shows; it takes no memory."""
    if isinstance(model, TrainedConfig) and model.tmd == "condition":
        with torch.device("meta"):
            architecture.build(model)


def _loss(
    architecture: str, given: str | None, model: ModelConfig, training: TrainingOptions | None
) -> str | None:
    """The loss that a run is trained on, if it can be."""
    if training is None:
        if given is not None:
            raise UsageError(f"--loss: {architecture} is a baseline and has no loss")
        return None
    loss = given or (losses.DIFFUSION if model.generates else DEFAULT_LOSS)
    losses.get(loss)
    if (loss == losses.DIFFUSION) != model.generates:
        must = "is trained by" if model.generates else "does not generate: it has a loss other than"
        raise UsageError(f"--loss {loss}: {architecture} with these options {must} 'diffusion'")
    _check_read(training, loss)
    return loss


def _check_read(training: TrainingOptions, loss: str) -> None:
    """Refuse options that nothing would read: who sets them believes that something does."""
    contrastive = losses.contrastive(loss), "a loss with infonce, such as mse+infonce"
    mixture = losses.contrastive(loss) and "+" in loss, "a mixture with infonce, as mse+infonce"
    probes = training.objective == PROBE, f"objective={PROBE}"
    readers = {
        "context_negatives": contrastive,
        "infonce_weight": mixture,
        "temperature": contrastive,
        "sequence_len": (training.objective == "every", "objective=every"),
        "margin_soft": probes,
        "margin_hard": probes,
    }
    defaults = TrainingOptions()
    for name, (read, reader) in readers.items():
        value = getattr(training, name)
        if not read and value != getattr(defaults, name):
            shown = str(value).lower() if isinstance(value, bool) else value
            raise UsageError(
                f"--set {name}={shown} is for {reader}, not for --loss {loss} with "
                f"objective={training.objective}"
            )
