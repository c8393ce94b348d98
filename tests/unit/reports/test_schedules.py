"""How far a schedule is, in words."""

from __future__ import annotations

from typing import Any

from lvmdb.reports.schedules import in_words


def row(architecture: str, week: str = "all", **more: Any) -> dict[str, Any]:
    return {
        "schedule": "five-weeks", "week": week, "architecture": architecture, "entries": 100,
        "done": 40, "failed": 0, "hours_left": 12.0, "at_once": None, "by_the_clock": None,
        "share": 0.3333, "share_at_end": 0.25, "share_planned": None, **more,
    }  # fmt: skip


def test_the_whole_and_the_planned_share() -> None:
    rows = [
        row("mamba2", week="2"),
        row("mamba2", share_planned=0.3),
        row("lstm"),
        row("all", at_once=3, by_the_clock=4.0, failed=2),
    ]
    assert list(in_words(rows)) == [
        "five-weeks: mamba2 has had 33.3% of the compute, 25.0% when all is done; "
        "the plan gives it 30%",
        "five-weeks: 40 of 100 done, 2 failed ('lvmdb runs retry' plans them again); about 12 h "
        "left, 4 h by the clock with 3 at once, as they run now",
    ]


def test_none_or_one_under_way() -> None:
    one, none = (row("all", at_once=count, by_the_clock=12.0) for count in (1, 0))
    assert list(in_words([one, none])) == [
        "five-weeks: 40 of 100 done; about 12 h left, 12 h by the clock with one at a time",
        "five-weeks: 40 of 100 done; about 12 h left, 12 h by the clock with one at a time; "
        "none is running now",
    ]


def test_all_is_done() -> None:
    rows = [row("all", at_once=0, hours_left=0.0, by_the_clock=0.0, done=100)]
    assert list(in_words(rows)) == ["five-weeks: 100 of 100 done"]


def test_what_is_not_known_yet() -> None:
    rows = [
        row("mamba2", share_planned=0.3, share=0.2, share_at_end=None),
        row("all", at_once=0, hours_left=None),
    ]
    assert list(in_words(rows)) == [
        "five-weeks: mamba2 has had 20.0% of the compute; the plan gives it 30%",
        "five-weeks: 40 of 100 done; hours left are not known before a run has succeeded",
    ]
    assert list(in_words([row("mamba2", share_planned=0.3, share=None)])) == []
