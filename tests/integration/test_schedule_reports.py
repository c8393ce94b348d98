"""How far a schedule is, and how it got on: rows by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from lvmdb.db.engine import Database
from lvmdb.reports.named import listing, run_report
from lvmdb.reports.pictures import picture

Result = Callable[..., int]
Sql = Callable[..., list[tuple[Any, ...]]]
Entry = Callable[..., int | None]


@pytest.fixture
def entry(result: Result, sql: Sql) -> Entry:
    """`entry(week, slot, "lstm", ...)`: a place in a schedule, with its run; the run's id."""
    sql("INSERT INTO experiment (name) VALUES ('five-weeks'), ('other'), ('empty')")

    def write(
        week: int,
        slot: int,
        architecture: str | None = None,
        *,
        reason: str | None = None,
        schedule: str = "five-weeks",
        **columns: Any,
    ) -> int | None:
        run_id = None
        if architecture is not None:
            run_id = result(architecture, {"slot": slot, "week": week}, **columns)
        rule = json.dumps({"kind": "best"}) if architecture is None and reason is None else None
        sql(
            "INSERT INTO schedule_entry (experiment_id, week, slot, stage, title, rule, run_id, "
            "reason) SELECT experiment_id, %s, %s, %s, 'x', %s, %s, %s FROM experiment "
            "WHERE name = %s",
            [week, slot, int(rule is not None), rule, run_id, reason, schedule],
        )
        return run_id

    return write


def status(db: Database, schedule: str | None = "five-weeks") -> dict[tuple[str, str], Any]:
    rows = run_report(db, "schedule_status", schedule=schedule).rows
    return {(row["week"], row["architecture"]): row for row in rows}


def test_done_left_hours_and_shares(db: Database, entry: Entry, sql: Sql) -> None:
    """LSTM: 1 h and 2 h done, one to come; Mamba-2: 1 h done, half an hour into another."""
    entry(1, 1, "lstm", seconds=3600)
    entry(1, 2, "lstm", seconds=7200)
    entry(1, 3, "lstm", status="planned")
    entry(1, 4, "gru", status="failed", error="broken", seconds=1800)
    entry(1, 5, "gru", status="cancelled")
    entry(2, 1, "mamba2", seconds=3600)
    alive = entry(2, 2, "mamba2", status="running", finished_at=None, seconds=1800)
    silent = entry(2, 3, "s4", status="running", finished_at=None, seconds=0)
    entry(2, 4, "s4", status="queued")
    entry(3, 1)
    entry(3, 2, reason="too large")
    entry(1, 1, "lstm", schedule="other", seconds=99)
    sql(
        "UPDATE experiment_run SET started_at = now() - interval '30 min', heartbeat_at = now() "
        "WHERE run_id = %s",
        [alive],
    )
    sql(
        "UPDATE experiment_run SET started_at = now() - interval '6 min', "
        "heartbeat_at = now() - interval '6 min' WHERE run_id = %s",
        [silent],
    )
    found = status(db)
    assert list(found) == [
        ("1", "gru"), ("1", "lstm"), ("2", "mamba2"), ("2", "s4"), ("3", "left out"), ("3", "open"),
        ("1", "all"), ("2", "all"), ("3", "all"),
        ("all", "gru"), ("all", "left out"), ("all", "lstm"), ("all", "mamba2"), ("all", "open"),
        ("all", "s4"), ("all", "all"),
    ]  # fmt: skip
    counts = ("entries", "done", "running", "waiting", "open", "failed", "left_out")
    assert [found["all", "all"][name] for name in counts] == [11, 3, 2, 2, 1, 1, 2]
    assert [found["1", "all"][name] for name in counts] == [5, 2, 0, 1, 0, 1, 1]
    # The mean of all that succeeded is 4/3 h: for what no architecture's own mean is known.
    hours = {
        ("1", "lstm"): (3, 1.5),
        ("1", "gru"): (0.5, 0),
        ("2", "mamba2"): (1.5, 0.5),
        ("2", "s4"): (0, 8 / 3),
        ("3", "open"): (0, 4 / 3),
        ("3", "left out"): (0, 0),
        ("all", "all"): (5, 6),
    }
    for key, (used, left) in hours.items():
        assert float(found[key]["hours_used"]) == pytest.approx(used, abs=0.005), key
        assert float(found[key]["hours_left"]) == pytest.approx(left, abs=0.005), key
    # One run is alive; the other has been silent for too long.
    assert (found["all", "all"]["at_once"], float(found["all", "all"]["by_the_clock"])) == (1, 6)
    assert found["all", "s4"]["at_once"] is found["1", "all"]["by_the_clock"] is None
    mamba = found["all", "mamba2"]
    assert (float(mamba["share"]), float(mamba["share_at_end"])) == (0.3, round(2 / 11, 4))
    assert float(mamba["share_planned"]) == 0.3
    assert [key for key, row in found.items() if row["share_planned"]] == [("all", "mamba2")]
    assert float(found["1", "all"]["share"]) == 0.7
    assert float(found["all", "all"]["share"]) == 1


def test_nothing_is_estimated_before_a_run_has_succeeded(db: Database, entry: Entry) -> None:
    entry(1, 1, "lstm", status="planned")
    entry(1, 2, "gru", status="failed", error="broken", seconds=60)
    found = status(db)
    assert found["all", "all"]["hours_left"] is None
    assert found["all", "all"]["by_the_clock"] is None
    assert found["all", "all"]["share_at_end"] is None
    assert float(found["all", "gru"]["hours_left"]) == 0


def test_several_runs_at_once_share_the_hours(db: Database, entry: Entry, sql: Sql) -> None:
    entry(1, 1, "lstm", seconds=3600)
    for slot in range(2, 5):
        entry(1, slot, "lstm", status="running", finished_at=None, seconds=0)
    for slot in range(5, 11):
        entry(1, slot, "lstm", status="planned")
    sql(
        "UPDATE experiment_run SET started_at = now(), heartbeat_at = now() "
        "WHERE status = 'running'"
    )
    row = status(db)["all", "all"]
    assert (row["at_once"], float(row["hours_left"]), float(row["by_the_clock"])) == (3, 9, 3)


def test_weeks_have_the_best_so_far(db: Database, entry: Entry, result: Result) -> None:
    result("copy-last", kind="baseline", cosine=0.45, val=0.5)
    result("random", kind="baseline", cosine=0.0, val=0.1)
    first = entry(1, 1, "lstm", val=0.60, cosine=0.55, seconds=1800)
    entry(1, 2, "gru", val=0.90, cosine=0.9, status="failed", error="broken", seconds=1800)
    entry(2, 1, "lstm", val=0.55, cosine=0.95, seconds=3600)
    entry(2, 2, "mamba2", status="running", finished_at=None, seconds=60)
    best = entry(3, 1, "mamba2", val=0.65, cosine=0.5)
    entry(3, 2, "mamba2", val=0.64)
    entry(3, 3)
    entry(3, 4, reason="too large")
    entry(1, 1, "lstm", schedule="other", val=0.99)
    rows = run_report(db, "weeks", schedule="five-weeks").rows
    counts = ("week", "entries", "succeeded", "failed", "running", "waiting", "open", "left_out")
    assert [tuple(row[name] for name in counts) for row in rows] == [
        (1, 2, 1, 1, 0, 0, 0, 0),
        (2, 2, 1, 0, 1, 0, 0, 0),
        (3, 4, 2, 0, 0, 0, 1, 1),
    ]
    assert [float(row["hours"]) for row in rows] == pytest.approx([1, 1 + 1 / 60, 0], abs=0.01)
    assert [row["best_run"] for row in rows] == [first, first, best]
    assert [row["of_week"] for row in rows] == [1, 1, 3]
    assert [float(row["val_cosine"]) for row in rows] == [0.6, 0.6, 0.65]
    # The best by validation, whatever the test windows say.
    assert [float(row["test_cosine"]) for row in rows] == [0.55, 0.55, 0.5]
    assert float(rows[2]["test_gain"]) == pytest.approx(0.05)
    assert {row["schedule"] for row in run_report(db, "weeks").rows} == {"five-weeks", "other"}
    # The picture is of the newest schedule that has runs, or of the one that was chosen.
    places = [
        [
            (row["schedule"], row["week"], row["slot"], row["baseline_cosine"])
            for row in listing(db, "pictures", "weeks", {"schedule": schedule})[1]
        ]
        for schedule in (None, "five-weeks")
    ]
    assert places[0] == [("other", 1, 1, 0.5)]
    assert [place[1:3] for place in places[1]] == [
        (1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (3, 4)
    ]  # fmt: skip
    assert picture(db, run_report(db, "weeks", schedule="five-weeks")).startswith(b"\x89PNG")


def test_a_week_in_which_nothing_succeeded_has_no_best(db: Database, entry: Entry) -> None:
    entry(1, 1, "lstm", status="planned")
    (row,) = run_report(db, "weeks").rows
    assert (row["best_run"], row["val_cosine"], float(row["hours"])) == (None, None, 0)
    assert run_report(db, "weeks", schedule="empty").rows == []
