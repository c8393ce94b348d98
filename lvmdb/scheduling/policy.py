"""What becomes of a run after a try: done, tried again, put back, or given up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from lvmdb.errors import (
    CorpusError,
    DivergedError,
    MissingDependencyError,
    ModelError,
    RevisionError,
    RunCancelledError,
    RunTakenError,
    SequenceError,
    SettingsError,
    UnknownNameError,
    UsageError,
)
from lvmdb.scheduling.queue import Job

MAX_LOST = 5
"""Workers that may die with a run before it is suspected of killing them."""

FIRST_DELAY, LONGEST_DELAY = 10.0, 600.0
"""Seconds before a run is tried again after its first error, and at most; each delay doubles."""

TAKEN_DELAY = 10.0
"""Seconds after which a run that another process has is offered again."""


class Ending(StrEnum):
    """How a try of a run ended."""

    DONE = "done"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Its process was asked to stop, or its worker died and it noticed."""
    TAKEN = "taken"
    """Another process has the run."""
    LOST = "lost"
    """Its worker is silent."""
    OUT_OF_TIME = "out of time"
    OUT_OF_MEMORY = "out of memory"
    REFUSED = "refused"
    """The same row, data and program would end the same way again."""
    ERROR = "error"


@dataclass(frozen=True)
class Ended:
    """How a try of a run ended, and what it left to be said.

    Attributes:
        ending: which way.
        message: why, in a line; empty where the run is done.
        traceback: of the error.
    """

    ending: Ending
    message: str = ""
    traceback: str | None = None


class Fate(StrEnum):
    """What becomes of a job."""

    END = "end"
    """There is nothing left to do."""
    PUT_BACK = "put back"
    """The same job is offered again; this try counts as nothing."""
    AGAIN = "again"
    """The run is tried again, and the try is counted."""
    GIVE_UP = "give up"
    """The run has failed."""


@dataclass(frozen=True)
class Verdict:
    """What is to be done.

    Attributes:
        fate: with the job.
        job: with the counts of the next try.
        message: what the run's row is to say; empty: nothing.
        delay: seconds before the run is offered again.
    """

    fate: Fate
    job: Job
    message: str = ""
    delay: float = 0.0


@dataclass(frozen=True)
class Limits:
    """How much a run may ask for.

    Attributes:
        time: seconds of a try.
        tries: tries that end in an error, the last of which fails the run.
        first_delay: seconds before the second try; each further delay doubles.
        taken_delay: seconds before a run that another process has is offered again.
    """

    time: float = 55 * 60.0
    tries: int = 3
    first_delay: float = FIRST_DELAY
    taken_delay: float = TAKEN_DELAY


DEFAULT = Limits()


REFUSALS = (
    CorpusError,
    DivergedError,
    MissingDependencyError,
    ModelError,
    RevisionError,
    SequenceError,
    SettingsError,
    UnknownNameError,
    UsageError,
)
"""Errors that another try meets again."""

_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")


def ending_of(error: BaseException) -> Ending:
    """Which way a try ended that this error ended."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return Ending.INTERRUPTED
    if any(_is_out_of_memory(each) for each in _chain(error)):
        return Ending.OUT_OF_MEMORY
    if isinstance(error, RunCancelledError):
        return Ending.CANCELLED
    if isinstance(error, RunTakenError):
        return Ending.TAKEN
    return Ending.REFUSED if isinstance(error, REFUSALS) else Ending.ERROR


def decide(job: Job, ended: Ended, limits: Limits) -> Verdict:
    """What becomes of a run whose try ended so."""
    why, run = ended.message, job.run_id
    match ended.ending:
        case Ending.DONE | Ending.CANCELLED:
            return Verdict(Fate.END, job)
        case Ending.INTERRUPTED:
            return Verdict(Fate.PUT_BACK, job)
        case Ending.TAKEN:
            return Verdict(Fate.PUT_BACK, job, delay=limits.taken_delay)
        case Ending.LOST:
            lost = replace(job, lost=job.lost + 1)
            if lost.lost < MAX_LOST:
                return Verdict(Fate.AGAIN, lost, why)
            return Verdict(Fate.GIVE_UP, lost, f"{why}, {lost.lost} times: {_on(run)}")
        case Ending.OUT_OF_TIME:
            return Verdict(Fate.GIVE_UP, job, f"{why}: {_on(run)}")
        case Ending.OUT_OF_MEMORY:
            if not job.alone:
                return Verdict(Fate.AGAIN, replace(job, alone=True), why)
            advice = (
                "so it did with nothing beside it: create a run with a smaller --set batch_size"
            )
            return Verdict(Fate.GIVE_UP, job, f"{why}; {advice}")
        case Ending.REFUSED:
            return Verdict(Fate.GIVE_UP, job, why)
        case Ending.ERROR:
            failed = replace(job, failures=job.failures + 1)
            if failed.failures >= limits.tries:
                return Verdict(Fate.GIVE_UP, failed, why)
            delay = limits.first_delay * 2 ** (failed.failures - 1)
            return Verdict(Fate.AGAIN, failed, why, min(delay, LONGEST_DELAY))


def _on(run_id: int) -> str:
    return (
        f"'lvmdb runs retry {run_id}', then 'lvmdb runs enqueue {run_id}', goes on from its last "
        "checkpoint"
    )


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    while error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__ or error
    return found


def _is_out_of_memory(error: BaseException) -> bool:
    # PyTorch says it with a RuntimeError of its own for GPUs, and with a plain one for the host.
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in said for phrase in _NO_MEMORY)
    )
