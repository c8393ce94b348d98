"""A trained run as a function from batches to predicted vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from lvmdb.db import checkpoints
from lvmdb.db.engine import Database
from lvmdb.db.runs import Run
from lvmdb.errors import RunError
from lvmdb.models import registry
from lvmdb.models.base import LatentModel
from lvmdb.models.baselines.base import Baseline
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training import options
from lvmdb.training.checkpoint import unpack, unpack_state
from lvmdb.training.train import fit


@dataclass(frozen=True)
class Predictor:
    """What a run predicts.

    Attributes:
        predict: from a batch on the host to `(batch, 768)` on the host.
        checkpoint_sha256: of the weights in use.
    """

    predict: Callable[[SequenceBatch], Tensor]
    checkpoint_sha256: bytes


def load_predictor(
    db: Database, run: Run, sequences: SequenceSet, device: torch.device
) -> Predictor:
    """The best checkpoint of a run, ready to predict.

    Raises:
        RunError: the run has not succeeded.
        ModelError: its checkpoint does not give the output that was stored with it.
    """
    if run.status != "succeeded":
        raise RunError(
            f"run {run.run_id} is {run.status}: 'lvmdb train --run-id {run.run_id}' comes first"
        )
    with db.connect() as connection:
        best = checkpoints.load(connection, run.run_id, "best")
    if best is None:
        raise RunError(f"run {run.run_id} has no checkpoint: 'lvmdb runs retry' trains it again")
    architecture = registry.get(best.architecture)
    config, _ = options.from_row(architecture, best.config)
    built = architecture.build(config)
    if not architecture.trained:
        baseline = cast("Baseline", built)
        if baseline.refit_on_load:
            fit(db, run, baseline, sequences)
        else:
            baseline.load_state(unpack_state(best.data))
        return Predictor(baseline.predict, best.sha256)
    model = cast("LatentModel", built).to(device)
    unpack(best.data, model, config)
    model.eval()

    @torch.no_grad()
    def predict(batch: SequenceBatch) -> Tensor:
        moved = batch.to(device)
        output: Tensor = model(moved.context, moved.mask)
        return output.float().cpu()

    return Predictor(predict, best.sha256)
