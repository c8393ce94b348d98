"""Contenders take turns; peaks are of one pass."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest

from lvmdb.db.benchmarks import PEAK
from lvmdb.sequences.memory import Peak
from lvmdb.sequences.turns import Contender, take_turns

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak")


def test_each_takes_its_turn_and_every_other_round_is_reversed() -> None:
    order: list[str] = []

    def contender(name: str, passes: int | None = None) -> Contender:
        def ready() -> Callable[[], int]:
            order.append(f"ready {name}")

            def work() -> int:
                order.append(name)
                return 5

            return work

        return Contender(name, "things/s", ready, "a", passes, {"k": name})

    found = take_turns([contender("a"), contender("b"), contender("slow", 1)], 3)
    made_ready, done = order[::2], order[1::2]
    assert made_ready == [f"ready {name}" for name in done]
    # The round that warms up, then three that count.
    assert done == ["b", "a", "a", "b", "slow", "b", "a", "a", "b"]
    assert [(m.contender, m.unit, len(m.samples), m.peer) for m in found] == [
        ("a", "things/s", 3, "a"),
        ("b", "things/s", 3, "a"),
        ("slow", "things/s", 1, "a"),
    ]
    assert [m.parameters for m in found] == [
        {"k": "a"},
        {"k": "b"},
        {"k": "slow", "warmed_up": False},
    ]
    assert all(sample > 0 for m in found for sample in m.samples)


@linux
def test_the_peak_is_of_one_pass_and_counts_what_making_ready_takes() -> None:
    def holding(megabytes: int) -> Callable[[], Callable[[], int]]:
        def ready() -> Callable[[], int]:
            held = np.ones(megabytes * 125_000)
            return lambda: len(held)

        return ready

    contenders = [Contender(str(mb), "numbers/s", holding(mb)) for mb in (200, 50)]
    found = take_turns(contenders, 2, peaks=True)
    peaks = {m.contender: m.samples for m in found if m.unit == PEAK}
    assert list(peaks) == ["200", "50"]
    for name, samples in peaks.items():
        assert len(samples) == 2
        assert all(abs(sample - int(name)) < 20 for sample in samples), peaks


@linux
def test_a_peak_that_is_over_is_still_told() -> None:
    peak = Peak()
    big = np.ones(8_000_000)
    del big
    told = peak.bytes()
    assert told is not None
    assert 60e6 < told < 90e6


def test_where_the_system_does_not_tell_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lvmdb.sequences.memory.sys.platform", "darwin")
    assert Peak().bytes() is None
    (only,) = take_turns([Contender("a", "things/s", lambda: lambda: 1)], 1, peaks=True)
    assert only.unit == "things/s"
