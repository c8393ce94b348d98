"""What a run reads: its streams, and whether what they read is what the run was planned on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from sqlalchemy import Connection

from lvmdb.db.engine import Database
from lvmdb.db.runs import Run
from lvmdb.errors import SequenceError
from lvmdb.models.config import ModelConfig
from lvmdb.progress import Progress
from lvmdb.sequences import fingerprints, sets
from lvmdb.sequences.probes import ProbeStream
from lvmdb.sequences.sets import SequenceSet
from lvmdb.sequences.stream import SequenceStream, StreamOptions
from lvmdb.training.distributed import World
from lvmdb.training.options import PROBE, TrainingOptions
from lvmdb.training.reading import Reading

Measure = Callable[[Connection, SequenceSet], str]

_BESIDE: dict[str, tuple[str, Measure]] = {
    "tmd_fingerprint": ("TMD codes", fingerprints.tmd),
    "probe_fingerprint": ("probes", fingerprints.probes),
}
"""By the option that keeps it: what is read beside a set's texts and vectors."""

PREDICTING = ("tmd_fingerprint",)
"""What predictions are made from, too."""


def beside(
    connection: Connection, sequences: SequenceSet, row: Mapping[str, Any]
) -> dict[str, str]:
    """Fingerprints of what a run will read beside its set's own data, by option.

    Args:
        connection: to the database.
        sequences: the set.
        row: the run's options, as `options.to_row` gives them; what has its fingerprint is left.

    Raises:
        SequenceError: there is nothing of it.
    """
    found = {}
    if row.get("tmd", "none") != "none" and row.get("tmd_fingerprint") is None:
        fingerprints.require_tmd(connection, sequences)
        found["tmd_fingerprint"] = fingerprints.tmd(connection, sequences)
    if row.get("objective") == PROBE and row.get("probe_fingerprint") is None:
        fingerprints.require_probes(connection, sequences)
        found["probe_fingerprint"] = fingerprints.probes(connection, sequences)
    return found


def check_beside(
    db: Database, run: Run, sequences: SequenceSet, names: Sequence[str] = tuple(_BESIDE)
) -> None:
    """Hold what a run reads beside its set's own data against what it was planned on.

    Raises:
        SequenceError: it is another now.
    """
    for name in names:
        then = run.hyperparameters.get(name)
        if then is None:
            continue
        what, measure = _BESIDE[name]
        with db.connect() as connection:
            now = measure(connection, sequences)
        if now != then:
            raise SequenceError(
                f"the {what} of sequence set '{sequences.name}' are not those that run "
                f"{run.run_id} was planned on (fingerprint {now[:16]}, then {then[:16]}): create a "
                "new run"
            )


def streams(
    db: Database,
    run: Run,
    sequences: SequenceSet,
    model: ModelConfig,
    training: TrainingOptions,
    reading: Reading,
    world: World,
    place: torch.device,
    progress: Progress,
) -> tuple[SequenceStream, SequenceStream]:
    """What a run is trained on and what it is validated on, this process's part of each.

    Probes are validated on probes. Runs of the other objectives are validated on what they are
    there for, the vector that follows a context.
    """
    validation = StreamOptions(
        batch_size=training.batch_size,
        buffer_size=training.buffer_size,
        seed=run.seed,
        rank=world.rank,
        world_size=world.size,
        readers=reading.readers,
        tmd=model.reads_tmd,
        pin_memory=place.type == "cuda",
    )
    trained_on = replace(
        validation,
        shuffle=True,
        sequence_len=training.sequence_len,
        half=training.half,
        cache_bytes=reading.cache_bytes,
    )
    stream = SequenceStream
    if training.objective == PROBE:
        stream = ProbeStream
    else:
        trained_on = replace(trained_on, objective=training.objective)
    verify = partial(verify_all, db, run, sequences)
    return (
        stream(db, sequences, "train", trained_on, progress, verify),
        stream(db, sequences, "val", validation, progress, verify),
    )


def verify_all(db: Database, run: Run, sequences: SequenceSet) -> None:
    """Hold all that a run reads against what it was.

    Raises:
        SequenceError: the data changed.
    """
    sets.verify(db, sequences)
    check_beside(db, run, sequences)
