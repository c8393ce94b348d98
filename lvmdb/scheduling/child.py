"""The process that a worker starts for a run: `python -m lvmdb.scheduling.child RUN_ID ...`.

It trains the run and evaluates it, and tells the worker how that ended, on standard output, in one
line of JSON; it writes no failure to the run's row, since the worker does so together with the job.
Standard input is its lifeline: it ends when the worker does. What it says goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from lvmdb.db import claims, runs
from lvmdb.db.engine import Database
from lvmdb.errors import SettingsError
from lvmdb.progress import Progress
from lvmdb.scheduling.policy import Ended, Ending, ending_of
from lvmdb.settings import Settings

if TYPE_CHECKING:
    from lvmdb.db.runs import Run

SPLITS = ("val", "test")
"""What a run is evaluated on."""

GRACE = 60.0
"""Seconds that a process whose worker has died has to stop by itself."""

LONGEST_MESSAGE, LONGEST_TRACE = 2_000, 20_000
"""Characters of a message and of a traceback that are kept."""

LARGEST_REPORT = 32_000
"""Bytes of a report, which must fit into a pipe that nobody reads yet: Linux gives one 65,536."""


def attempt(
    db: Database, run_id: int, *, device: str, checkpoint_every: float, progress: Progress
) -> Ended:
    """Train a run and evaluate it, and say how that ended.

    Args:
        db: the database.
        run_id: of the run.
        device: where to compute.
        checkpoint_every: seconds between two checkpoints within an epoch.
        progress: told of epochs and windows.
    """
    try:
        with claims.failures_left_to_others():
            _work(db, run_id, device, checkpoint_every, progress)
    except BaseException as error:  # whatever it was, the worker is told
        trace = "".join(traceback.format_exception(error))
        ending = ending_of(error)
        message = " ".join(str(error).split()) or type(error).__name__
        if ending is Ending.INTERRUPTED:
            message = "its process was asked to stop"
        return Ended(ending, message[:LONGEST_MESSAGE], trace[-LONGEST_TRACE:])
    return Ended(Ending.DONE)


def report(ended: Ended) -> bytes:
    """How a try ended, as the worker reads it; a traceback loses its beginning where it must."""
    while True:
        # Half of a character that cannot be encoded alone stays as JSON's own escape for it.
        text = json.dumps(asdict(ended), ensure_ascii=False)
        data = text.encode(errors="backslashreplace")
        if len(data) <= LARGEST_REPORT or not ended.traceback:
            return data
        half = len(ended.traceback) // 2 + 1
        ended = replace(ended, traceback=ended.traceback[half:])


def _work(
    db: Database, run_id: int, device: str, checkpoint_every: float, progress: Progress
) -> None:
    from lvmdb.sequences import sets

    run = runs.get(db, run_id)
    _train(db, run, device, checkpoint_every, progress)
    from lvmdb.evaluation.evaluate import Evaluator

    evaluator = Evaluator(db, device=device, progress=progress)
    with db.connect() as connection:
        sequences = sets.get_by_id(connection, run.sequence_set_id)
    # Training has given the run back: whoever has it now evaluates it.
    with claims.claim(db, run_id):
        for split in SPLITS:
            if sequences.window_count(split) and not evaluator.done(run_id, split):
                evaluator.evaluate(run_id, split)


def _train(
    db: Database, run: Run, device: str, checkpoint_every: float, progress: Progress
) -> None:
    """By whatever makes a run of its kind; one that has succeeded is left as it is."""
    from lvmdb.decoding.round_trip import round_trip_of
    from lvmdb.evaluation import reproduce
    from lvmdb.training.reading import Reading
    from lvmdb.training.train import train

    reading = Reading(checkpoint_every=checkpoint_every, saves_when_stopped=True)
    if run.kind == "ensemble":
        from lvmdb.evaluation import ensembles

        ensembles.fit(db, run.run_id, device=device, progress=progress)
        return
    original = reproduce.original_of(run)
    if original is not None:
        reproduce.check_same_device(db, original, device)
    with round_trip_of(db, Settings.from_environment(), run) as round_trip:
        if original is None:
            train(
                db,
                run.run_id,
                device=device,
                reading=reading,
                progress=progress,
                round_trip=round_trip,
            )
            return
        reproduce.reproduce(
            db,
            original,
            again=run.run_id,
            device=device,
            reading=reading,
            keep=True,
            progress=progress,
            round_trip=round_trip,
        )


def _end_with_worker() -> None:
    """Wait until the worker's end of the pipe is closed; then stop as if asked to."""
    # Not through sys.stdin, whose lock the interpreter wants to have when it ends.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


def main() -> None:
    """Try the run that the arguments name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run_id", type=int)
    parser.add_argument("--device", required=True)
    parser.add_argument("--checkpoint-every", type=float, required=True)
    given = parser.parse_args()
    # Whatever a library prints goes to standard error: the report is alone on standard output.
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    threading.Thread(target=_end_with_worker, name="lvmdb-lifeline", daemon=True).start()
    dsn = Settings.from_environment().dsn
    if dsn is None:
        raise SettingsError("a worker's process is told by LVMDB_DSN where the database is")
    ended = attempt(
        Database(dsn),
        given.run_id,
        device=given.device,
        checkpoint_every=given.checkpoint_every,
        progress=Progress(),
    )
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with pipe:
        pipe.write(report(ended))
    sys.exit(0 if ended.ending == Ending.DONE else 1)


if __name__ == "__main__":
    main()
