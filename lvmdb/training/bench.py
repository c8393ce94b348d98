"""`lvmdb bench train`: windows a second, streamed from SQL and from batches held in memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
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
from lvmdb.training import losses, options
from lvmdb.training.environment import resolve_device
from lvmdb.training.step import Stepper

MEMORY = "batches held in memory"
SQL = "batches streamed from SQL"


def bench_train(
    db: Database,
    sequences: SequenceSet,
    architecture: str,
    *,
    batches: int = 100,
    repetitions: int = 3,
    device: str = "auto",
    progress: Progress = SILENT,
) -> list[Measured]:
    """Train on the same batches from both sources in turns; memory, the peer, comes first.

    Each repetition of a source trains a fresh model of the default configuration on the first
    `batches` batches of an epoch; opening the cursor counts.

    Raises:
        UsageError: the architecture is a baseline.
    """
    found = registry.get(architecture)
    config, training = options.resolve(found, {}, sequences.context_len)
    if training is None:
        raise UsageError(f"--architecture: {architecture} is a baseline and is not trained")
    place = resolve_device(device)
    stream = SequenceStream(
        db,
        sequences,
        "train",
        StreamOptions(
            batch_size=training.batch_size, shuffle=True, pin_memory=place.type == "cuda"
        ),
    )
    held = list(islice(stream, batches))
    sources: dict[str, Iterable[SequenceBatch]] = {MEMORY: held, SQL: _First(stream, batches)}
    samples: dict[str, list[float]] = {name: [] for name in sources}
    with progress.task("measuring", repetitions * len(sources), "passes") as advance:
        for repetition in range(repetitions + 1):
            for name, source in sources.items():
                torch.manual_seed(0)
                model = found.build(config)
                assert isinstance(model, LatentModel)
                stepper = Stepper(model.to(place), losses.get("mse"), training)
                began = time.perf_counter()
                windows = _train(stepper, source, training.lr, place)
                # The first round warms caches and is not counted.
                if repetition:
                    samples[name].append(windows / (time.perf_counter() - began))
                    advance(1)
    return [Measured(name, "windows/s", values) for name, values in samples.items()]


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


class _First:
    """The first batches of a stream, each time anew."""

    def __init__(self, stream: SequenceStream, batches: int) -> None:
        self._stream, self._batches = stream, batches

    def __iter__(self) -> Iterator[SequenceBatch]:
        return islice(iter(self._stream), self._batches)
