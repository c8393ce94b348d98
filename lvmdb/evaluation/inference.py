"""A run as a function of vectors alone, for whoever has a context that is in no sequence set.

Evaluation reads batches from a set, with the place of each target. What is asked later, by a
command or a service, are a few vectors: `Inference` makes the batch of them.

    infer = load_inference(db, run_id, torch.device("cpu"))
    (following,) = infer([context])                     # (t, 768) -> (768,)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import select

from lvmdb.corpus.articles import Vectors
from lvmdb.db import runs
from lvmdb.db.engine import Database
from lvmdb.db.schema.runs import experiment_run
from lvmdb.db.types import DIMENSION, TMD_DIMENSION
from lvmdb.errors import ModelError
from lvmdb.evaluation.predictor import Predict, load_predictor
from lvmdb.sequences import sets
from lvmdb.sequences.batch import SequenceBatch


@dataclass(frozen=True)
class Inference:
    """A run as a function of vectors alone: for one thread at a time.

    Attributes:
        run_id: of the run.
        architecture: its name.
        dataset: whose concepts it was trained on.
        encoder_id: of the vectors that it reads and predicts.
        context_len: the concepts of a context that it reads, at most.
        parameters: how many it has; of an ensemble, its members'; 0 for what is not trained.
        kernel: the implementation that runs.
        checkpoint_sha256: of the weights in use.
        tmd: whether it reads TMD codes behind the concepts.
        predict: from a batch on the host to `(batch, 768)` on the host.
    """

    run_id: int
    architecture: str
    dataset: str
    encoder_id: int
    context_len: int
    parameters: int
    kernel: str
    checkpoint_sha256: bytes
    tmd: bool
    predict: Predict

    def __call__(self, contexts: Sequence[Vectors]) -> Vectors:
        """The vectors `(n, 768)` that follow n contexts, in one forward pass.

        They are as the run gives them, of whatever length.

        Args:
            contexts: each `(t, 768)` float32, oldest concept first, t at least 1; the last
                `context_len` are read, and of shorter ones what is missing is masked. Or
                `(t, 784)`, with TMD codes: a run that reads none leaves them out, and for one that
                does a context without them has none, like concepts that no tagger has seen.

        Raises:
            ModelError: a context has another shape, or holds what is no number.
        """
        if not len(contexts):
            return np.empty((0, DIMENSION), dtype=np.float32)
        time, width = self.context_len, DIMENSION + TMD_DIMENSION * self.tmd
        context = np.zeros((len(contexts), time, width), dtype=np.float32)
        mask = np.zeros((len(contexts), time), dtype=np.bool_)
        for row, given in enumerate(contexts):
            read = _checked(np.asarray(given))[-time:, :width]
            context[row, time - len(read) :, : read.shape[1]] = read
            mask[row, time - len(read) :] = True
        nowhere = torch.zeros(len(contexts), dtype=torch.int64)
        batch = SequenceBatch(
            context=torch.from_numpy(context),
            mask=torch.from_numpy(mask),
            target=torch.zeros(len(contexts), DIMENSION),
            article_id=nowhere,
            target_seq=nowhere,
        )
        predicted: Vectors = self.predict(batch).numpy()
        return predicted


def load_inference(db: Database, run_id: int, device: torch.device) -> Inference:
    """A run that has succeeded, whatever its kind, ready to be asked.

    An ensemble that votes holds the vectors of its dataset in memory, and lets nobody vote for a
    concept that has a vector of the context.

    Args:
        db: the database; of what is loaded nothing asks it again.
        run_id: of a model, a baseline or an ensemble.
        device: where models predict.

    Raises:
        UnknownNameError: there is no such run.
        RunError: it has not succeeded, or of an ensemble a member is not what it was.
        ModelError: its checkpoint does not give the output that was stored with it.
        SequenceError: the TMD codes that it reads are not those that it was planned on.
    """
    run = runs.get(db, run_id)
    with db.connect() as connection:
        sequences = sets.get_by_id(connection, run.sequence_set_id)
    predictor = load_predictor(db, run, sequences, device, placed=False)
    return Inference(
        run_id=run_id,
        architecture=run.architecture,
        dataset=sequences.dataset_source,
        encoder_id=sequences.encoder_id,
        context_len=sequences.context_len,
        parameters=_parameters(db, run_id),
        kernel=predictor.kernel,
        checkpoint_sha256=predictor.checkpoint_sha256,
        tmd=predictor.tmd,
        predict=predictor.predict,
    )


def _checked(context: NDArray[np.floating]) -> NDArray[np.floating]:
    widths = (DIMENSION, DIMENSION + TMD_DIMENSION)
    if context.ndim != 2 or not len(context) or context.shape[1] not in widths:
        raise ModelError(
            f"a context is one vector of {DIMENSION} numbers or more, oldest first, "
            f"not {context.shape}"
        )
    if not np.isfinite(context).all():
        raise ModelError("a vector of the context holds what is no number")
    return context


def _parameters(db: Database, run_id: int) -> int:
    with db.connect() as connection:
        counted = connection.execute(
            select(experiment_run.c.parameter_count).where(experiment_run.c.run_id == run_id)
        ).scalar_one()
    return int(counted or 0)
