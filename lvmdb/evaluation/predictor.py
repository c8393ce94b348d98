"""A trained run as a function from batches to predicted vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from lvmdb.db import checkpoints, ensembles, needed, runs
from lvmdb.db.checkpoints import Checkpoint
from lvmdb.db.engine import Database
from lvmdb.db.runs import Run
from lvmdb.db.types import DIMENSION
from lvmdb.errors import ModelError, RunError
from lvmdb.evaluation import combining
from lvmdb.evaluation.pool import ContextRows, Ints, Pool, SameVectors, load_pool
from lvmdb.metrics.ranking import duplicate_groups
from lvmdb.models import registry
from lvmdb.models.base import LatentModel
from lvmdb.models.baselines.base import Baseline
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training import options
from lvmdb.training.checkpoint import pack_state, unpack, unpack_state
from lvmdb.training.data import PREDICTING, check_beside
from lvmdb.training.train import fit

Predict = Callable[[SequenceBatch], Tensor]


@dataclass(frozen=True)
class Predictor:
    """What a run predicts.

    Attributes:
        predict: from a batch on the host to `(batch, 768)` on the host.
        checkpoint_sha256: of the weights in use.
        kernel: the implementation that runs; of an ensemble, each that does.
        tmd: whether it reads TMD codes behind the concepts; one that does not leaves them out.
    """

    predict: Predict
    checkpoint_sha256: bytes
    kernel: str
    tmd: bool = False


def load_predictor(
    db: Database,
    run: Run,
    sequences: SequenceSet,
    device: torch.device,
    *,
    pool: Pool | None = None,
    placed: bool = True,
) -> Predictor:
    """The best checkpoint of a run, ready to predict.

    Args:
        db: the database.
        run: which has succeeded.
        sequences: the run's set.
        device: where models predict.
        pool: of the set's dataset, if it is in memory already: an ensemble that votes needs it.
        placed: whether batches say truly where their targets are; as for `combined`.

    Raises:
        RunError: the run has not succeeded, or of an ensemble a member is not what it was.
        ModelError: its checkpoint does not give the output that was stored with it.
        SequenceError: the TMD codes that it reads are not those that it was planned on.
    """
    if run.status != "succeeded":
        raise RunError(
            f"run {run.run_id} is {run.status}: 'lvmdb train --run-id {run.run_id}' comes first"
        )
    with db.connect() as connection:
        best = checkpoints.load(connection, run.run_id, "best")
    if best is None:
        raise RunError(f"run {run.run_id} has no checkpoint: 'lvmdb runs retry' trains it again")
    if run.kind == "ensemble":
        return _load_ensemble(db, run, sequences, device, best, pool, placed)
    check_beside(db, run, sequences, PREDICTING)
    architecture = registry.get(best.architecture)
    config, _ = options.from_row(architecture, best.config)
    built = architecture.build(config)
    if not architecture.trained:
        baseline = cast("Baseline", built)
        if baseline.refit_on_load:
            fit(db, run, baseline, sequences)
        else:
            baseline.load_state(unpack_state(best.data))
        return Predictor(
            lambda batch: baseline.predict(_cut(batch, config.input_dim)),
            best.sha256,
            baseline.kernel,
        )
    model = cast("LatentModel", built).to(device)
    unpack(best.data, model, config)
    model.eval()

    @torch.no_grad()
    def predict(batch: SequenceBatch) -> Tensor:
        moved = _cut(batch, config.input_dim).to(device)
        output: Tensor = model(moved.context, moved.mask)
        return output.float().cpu()

    return Predictor(predict, best.sha256, model.kernel, config.reads_tmd)


def load_members(
    db: Database, ensemble: Run, sequences: SequenceSet, device: torch.device
) -> dict[int, Predictor]:
    """The members of an ensemble, ready to predict, by run.

    Raises:
        RunWaitsError: one is in the queue, or runs.
        RunError: one has not succeeded, and will not by itself.
        ModelError: as for `load_predictor`.
    """
    with db.connect() as connection:
        members = ensembles.members(connection, ensemble.run_id)
    found: dict[int, Predictor] = {}
    for member in members:
        if member.status != "succeeded":
            what = f"run {member.run_id}, a member of ensemble {ensemble.run_id}, is"
            with db.connect() as connection:
                raise needed.not_ready(connection, member.run_id, member.status, what)
        run = runs.get(db, member.run_id)
        found[member.run_id] = load_predictor(db, run, sequences, device)
    return found


def combined(
    db: Database,
    sequences: SequenceSet,
    method: str,
    members: Mapping[int, Predictor],
    weights: Mapping[int, float],
    *,
    pool: Pool | None = None,
    placed: bool = True,
) -> Predict:
    """What an ensemble predicts.

    Args:
        db: to read the pool from, where members vote.
        sequences: the ensemble's set.
        method: one of `combining.METHODS`.
        members, weights: by run.
        pool: as for `load_predictor`.
        placed: nobody votes for what was read, which the targets' places tell; of contexts that
            have no place, nobody votes for a concept that has a vector of theirs.
    """
    functions = [member.predict for member in members.values()]
    if method != "vote":
        by = [weights[run_id] for run_id in members]
        return lambda batch: combining.weighted_sum([each(batch) for each in functions], by)
    concepts = load_pool(db, sequences.dataset_source) if pool is None else pool
    groups = duplicate_groups(concepts.vectors)
    was_read = _was_read(db, sequences, concepts) if placed else _looks_read(concepts)

    def predict(batch: SequenceBatch) -> Tensor:
        predictions = [each(batch) for each in functions]
        return combining.vote(predictions, concepts.vectors, groups, was_read(batch))

    return predict


def _was_read(
    db: Database, sequences: SequenceSet, concepts: Pool
) -> Callable[[SequenceBatch], Ints]:
    """From a batch to the rows of the concepts that it is read from."""
    with db.connect() as connection:
        context = ContextRows(connection, sequences, concepts)

    def rows(batch: SequenceBatch) -> Ints:
        # The target's place tells which concepts were read; the target itself is not looked at.
        target = concepts.rows(
            batch.article_id.numpy().astype(np.int64), batch.target_seq.numpy().astype(np.int64)
        )
        return context.of(target)

    return rows


def _looks_read(concepts: Pool) -> Callable[[SequenceBatch], Ints]:
    """The same by the vectors alone."""
    same = SameVectors(concepts)
    return lambda batch: same.of(batch.context[..., :DIMENSION].numpy(), batch.mask.numpy())


def kernels(members: Mapping[int, Predictor]) -> str:
    """The implementations that run in an ensemble, each once."""
    return "+".join(sorted({member.kernel for member in members.values()}))


def reads_tmd(members: Mapping[int, Predictor]) -> bool:
    """Whether any of them reads TMD codes; then all are given them, and others leave them out."""
    return any(member.tmd for member in members.values())


def pack_ensemble(
    method: str, members: Mapping[int, Predictor], weights: Mapping[int, float]
) -> bytes:
    """All that decides what an ensemble predicts, as bytes: their hash is that of its weights."""
    hashes = [list(member.checkpoint_sha256) for member in members.values()]
    return pack_state(
        {
            "method": torch.tensor(list(method.encode()), dtype=torch.uint8),
            "members": torch.tensor(list(members), dtype=torch.int64),
            "sha256": torch.tensor(hashes, dtype=torch.uint8),
            "weights": torch.tensor([weights[run_id] for run_id in members], dtype=torch.float64),
        }
    )


def _load_ensemble(
    db: Database,
    run: Run,
    sequences: SequenceSet,
    device: torch.device,
    best: Checkpoint,
    pool: Pool | None,
    placed: bool,
) -> Predictor:
    """An ensemble as it was fitted, or an error."""
    method = str(run.hyperparameters["method"])
    with db.connect() as connection:
        weights = {m.run_id: m.weight for m in ensembles.members(connection, run.run_id)}
    members = load_members(db, run, sequences, device)
    if pack_ensemble(method, members, weights) != best.data:
        stored = unpack_state(best.data)
        then = dict(zip(stored["members"].tolist(), stored["sha256"].tolist(), strict=True))
        others = [r for r, m in members.items() if then.get(r) != list(m.checkpoint_sha256)]
        what = f"the weights of run {others[0]} are" if others else "its method or weights are"
        raise ModelError(
            f"ensemble {run.run_id} is not what was fitted: {what} others than then; make a new "
            "ensemble ('lvmdb ensemble create')"
        )
    predict = combined(db, sequences, method, members, weights, pool=pool, placed=placed)
    return Predictor(predict, best.sha256, kernels(members), reads_tmd(members))


def _cut(batch: SequenceBatch, width: int) -> SequenceBatch:
    """Without the TMD codes, where a member of an ensemble does not read what others do."""
    if batch.context.shape[-1] == width:
        return batch
    return replace(batch, context=batch.context[..., :width])
