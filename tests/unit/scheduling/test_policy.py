"""What becomes of a run, by how its try ended and how often that was so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lvmdb.errors import (
    ConnectionLostError,
    DatabaseError,
    DivergedError,
    EncoderError,
    ModelError,
    RunCancelledError,
    RunError,
    RunTakenError,
    RunWaitsError,
    SequenceError,
    UnknownNameError,
    UsageError,
)
from lvmdb.scheduling.policy import (
    LONGEST_DELAY,
    MAX_LOST,
    Ended,
    Ending,
    Fate,
    Limits,
    Verdict,
    decide,
    ending_of,
)
from lvmdb.scheduling.queue import Job

JOB = Job(job_id=1, run_id=7, priority=-2, failures=1, lost=2)
LIMITS = Limits(tries=3, first_delay=10.0, taken_delay=4.0)


def verdict(ending: Ending, job: Job = JOB) -> Verdict:
    return decide(job, Ended(ending, "it broke"), LIMITS)


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (KeyboardInterrupt(), Ending.INTERRUPTED),
        (SystemExit(143), Ending.INTERRUPTED),
        (RunCancelledError("x"), Ending.CANCELLED),
        (RunTakenError("x"), Ending.TAKEN),
        (RunWaitsError("its parent is queued"), Ending.TAKEN),
        (DivergedError("x"), Ending.REFUSED),
        (SequenceError("x"), Ending.REFUSED),
        (EncoderError("x"), Ending.REFUSED),
        (ModelError("x"), Ending.REFUSED),
        (UsageError("x"), Ending.REFUSED),
        (UnknownNameError("option", "x"), Ending.REFUSED),
        (MemoryError(), Ending.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to"), Ending.OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), Ending.OUT_OF_MEMORY),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), Ending.ERROR),
        (RunError("x"), Ending.ERROR),
        (ConnectionLostError("x"), Ending.ERROR),
        (DatabaseError("out of memory"), Ending.ERROR),
        (ZeroDivisionError(), Ending.ERROR),
    ],
)
def test_errors_are_of_a_kind(error: BaseException, ending: Ending) -> None:
    assert ending_of(error) == ending


def test_what_led_to_an_error_counts() -> None:
    """As where the model of a run cannot be made."""
    error = RunError("the model of run 7 cannot be made")
    error.__cause__ = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
    assert ending_of(error) == Ending.OUT_OF_MEMORY
    with pytest.raises(RuntimeError) as allocation:
        torch.empty(2**60)
    assert ending_of(allocation.value) == Ending.OUT_OF_MEMORY
    later = DatabaseError("later")
    later.__context__ = allocation.value
    assert ending_of(later) == Ending.OUT_OF_MEMORY


def test_what_needs_nothing_more() -> None:
    for ending in (Ending.DONE, Ending.CANCELLED):
        assert verdict(ending).fate == Fate.END


def test_what_is_not_the_runs_fault_counts_as_nothing() -> None:
    assert verdict(Ending.INTERRUPTED) == Verdict(Fate.PUT_BACK, JOB)
    assert verdict(Ending.TAKEN) == Verdict(Fate.PUT_BACK, JOB, delay=4.0)


def test_errors_are_tried_again_later_and_later_until_they_are_too_many() -> None:
    job, delays = replace(JOB, failures=0), []
    while (found := decide(job, Ended(Ending.ERROR, "it broke"), LIMITS)).fate == Fate.AGAIN:
        assert (found.job.failures, found.message) == (job.failures + 1, "it broke")
        job = found.job
        delays.append(found.delay)
    assert delays == [10.0, 20.0]
    assert found == Verdict(Fate.GIVE_UP, replace(JOB, failures=3), "it broke")
    many = Limits(tries=100)
    assert decide(replace(JOB, failures=50), Ended(Ending.ERROR), many).delay == LONGEST_DELAY
    assert decide(JOB, Ended(Ending.ERROR), Limits(tries=1)).fate == Fate.GIVE_UP


def test_what_would_end_the_same_way_is_not_tried_again() -> None:
    assert verdict(Ending.REFUSED) == Verdict(Fate.GIVE_UP, JOB, "it broke")


def test_memory_that_ran_out_is_tried_once_more_alone() -> None:
    again = verdict(Ending.OUT_OF_MEMORY)
    assert again == Verdict(Fate.AGAIN, replace(JOB, alone=True), "it broke")
    given_up = verdict(Ending.OUT_OF_MEMORY, again.job)
    assert given_up.fate == Fate.GIVE_UP
    assert given_up.message.startswith("it broke; so it did with nothing beside it: create a run")


def test_time_that_ran_out_is_not_tried_again() -> None:
    given_up = verdict(Ending.OUT_OF_TIME)
    assert given_up.fate == Fate.GIVE_UP
    assert given_up.message == (
        "it broke: 'lvmdb runs retry 7', then 'lvmdb runs enqueue 7', goes on from its last "
        "checkpoint"
    )


def test_workers_may_die_with_a_run_but_not_for_ever() -> None:
    job = replace(JOB, lost=0)
    for died in range(1, MAX_LOST):
        found = verdict(Ending.LOST, job)
        assert (found.fate, found.job) == (Fate.AGAIN, replace(JOB, lost=died))
        job = found.job
    assert verdict(Ending.LOST, job).fate == Fate.GIVE_UP
