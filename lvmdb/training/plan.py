"""Run rows from what a user asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lvmdb.db import runs
from lvmdb.db.engine import Database
from lvmdb.errors import UsageError
from lvmdb.models import registry
from lvmdb.models.config import ModelConfig
from lvmdb.sequences import sets
from lvmdb.training import losses, options
from lvmdb.training.options import TrainingOptions

DEFAULT_LOSS = "mse"


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
        architecture: name in the registry.
        sequences: name of a frozen sequence set.
        given: options of the architecture and of training, by name.
        loss: name of a loss, by default `mse`, or `diffusion` of what generates; a baseline has
            none.
        seed: decides initial weights and the order of batches.
        reuse: return a run of the same configuration, data and seed if there is one.

    Raises:
        UnknownNameError, ModelError, SequenceError, UsageError: something of it cannot be.
    """
    found = registry.get(architecture)
    chosen = sets.get(db, sequences)
    if not -(2**63) <= seed < 2**63:
        raise UsageError("--seed must fit into 64 bits")
    model, training = options.resolve(found, given, chosen.context_len)
    loss = _loss(architecture, loss, model, training)
    if training is not None and training.objective == "every" and chosen.scope == "corpus":
        raise UsageError(
            "--set objective=every predicts every position of an article, and windows of "
            f"'{sequences}' run across articles: create the set with --scope article"
        )
    row: dict[str, Any] = {
        "architecture": architecture,
        "hyperparameters": options.to_row(model, training),
        "loss": loss,
        "sequence_set_id": chosen.sequence_set_id,
        "seed": seed,
    }
    fingerprint = chosen.frozen_fingerprint
    stamps = ["scope=corpus"] if chosen.scope == "corpus" else []
    if chosen.leaks:
        stamps.append(f"leaks={chosen.leaks}")
    with db.begin() as connection:
        if reuse and (same := runs.find_same(connection, **row)) is not None:
            return same
        return runs.create(
            connection,
            kind="model" if found.trained else "baseline",
            sequence_fingerprint=fingerprint,
            stamps=stamps,
            **row,
        )


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
    if training.context_negatives and not losses.contrastive(loss):
        raise UsageError(
            f"--set context_negatives=true is for a loss with infonce, such as mse+infonce, "
            f"not for {loss}"
        )
    return loss
