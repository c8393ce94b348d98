"""`lvmdb bench train`: windows a second, streamed from SQL and from batches held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice

import torch

from lvmdb.db.benchmarks import Measured
from lvmdb.db.engine import Database
from lvmdb.errors import UsageError
from lvmdb.models import registry
from lvmdb.models.base import LatentModel
from lvmdb.progress import SILENT, Progress
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.stream import SequenceStream, StreamOptions
from lvmdb.sequences.turns import Contender, take_turns
from lvmdb.training import options
from lvmdb.training.environment import resolve_device
from lvmdb.training.step import Stepper

ARCHITECTURES = ("lstm", "mamba2")

MEMORY, SQL = "memory", "SQL"


def bench_train(
    db: Database,
    sequences: SequenceSet,
    architectures: Sequence[str] = ARCHITECTURES,
    *,
    batches: int = 400,
    repetitions: int = 3,
    readers: int = 1,
    device: str = "auto",
    progress: Progress = SILENT,
) -> list[Measured]:
    """Train each architecture on the same batches from both sources in turns.

    Each pass trains a fresh model of the default configuration on the first `batches` batches of
    a shuffled epoch; opening the stream counts. Memory is the peer.

    Args:
        db, sequences: what is read; the split is train.
        architectures: by name; none twice.
        batches, repetitions: of a pass, and measured passes.
        readers: connections of the stream.
        device: as for training.
        progress: told of every pass.

    Returns:
        Windows a second, by architecture from memory and then from SQL.

    Raises:
        UsageError: an architecture is a baseline.
    """
    place = resolve_device(device)
    contenders: list[Contender] = []
    for architecture in dict.fromkeys(architectures):
        contenders += _contenders(db, sequences, architecture, batches, readers, place)
    return take_turns(contenders, repetitions, progress=progress)


def _contenders(
    db: Database,
    sequences: SequenceSet,
    architecture: str,
    batches: int,
    readers: int,
    place: torch.device,
) -> list[Contender]:
    found = registry.get(architecture)
    config, training = options.resolve(found, {}, sequences.context_len)
    if training is None:
        raise UsageError(f"--architecture: {architecture} is a baseline and is not trained")
    stream = SequenceStream(
        db,
        sequences,
        "train",
        StreamOptions(
            batch_size=training.batch_size,
            shuffle=True,
            readers=readers,
            pin_memory=place.type == "cuda",
        ),
    )

    def ready(source: Callable[[], Iterable[SequenceBatch]]) -> Callable[[], int]:
        torch.manual_seed(0)
        model = found.build(config)
        assert isinstance(model, LatentModel)
        stepper = Stepper(model.to(place), "mse", training)
        return lambda: _train(stepper, source(), training.lr, place)

    def streamed() -> Iterator[SequenceBatch]:
        return islice(stream, batches)

    held = list(streamed())
    peer = f"{architecture}, from {MEMORY}"
    given = {"architecture": architecture, "model": asdict(config), "batch": training.batch_size}
    return [
        Contender(
            peer,
            "windows/s",
            partial(ready, lambda: held),
            parameters={**given, "kind": "memory"},
        ),
        Contender(
            f"{architecture}, from {SQL}",
            "windows/s",
            partial(ready, streamed),
            peer,
            parameters={**given, "kind": "lvmdb", "readers": readers},
        ),
    ]


def _train(
    stepper: Stepper, source: Iterable[SequenceBatch], rate: float, place: torch.device
) -> int:
    windows = 0
    for batch in source:
        stepper.step(batch, rate)
        windows += len(batch)
    if place.type == "cuda":
        torch.cuda.synchronize()
    return windows
