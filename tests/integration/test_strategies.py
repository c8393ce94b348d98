"""What a strategy does: pairs of runs, differences and intervals, by hand."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable
from typing import Any

import pytest
from scipy import stats

from lvmdb.db.engine import Database
from lvmdb.db.queries import report_sql
from lvmdb.reports.named import run_report
from lvmdb.reports.pictures import picture

Result = Callable[..., int]
Sql = Callable[..., list[tuple[Any, ...]]]

OPTIONS: dict[str, object] = {"hidden": 4, "epochs": 5, "residual": True, "input_dim": 768}
"""Of the runs here: `residual` is on in all of them unless a test says otherwise."""


def compared(db: Database) -> dict[tuple[str, str, str | None], dict[str, Any]]:
    """The rows by strategy, value and configuration."""
    rows = run_report(db, "strategies").rows
    found = {(row["strategy"], row["value"], row["configuration"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def test_three_seeds_have_students_interval(db: Database, result: Result) -> None:
    """Differences by hand: +.02, +.01 and +.03 of cosine; -.01, 0 and +.01 of MRR."""
    runs, controls = [], []
    for seed, (cosine, mrr) in enumerate([(0.02, -0.01), (0.01, 0.0), (0.03, 0.01)]):
        # An option that a run does not name is off.
        off = {} if seed == 0 else {"centre": False, "resolutions": [], "init": None}
        controls.append(
            result(options=OPTIONS | off, cosine=0.5 + seed / 10, mrr=0.2, r5=0.4, seed=seed)
        )
        runs.append(
            result(
                options=OPTIONS | {"centre": True, "roundtrip_every": 0},
                cosine=0.5 + seed / 10 + cosine,
                mrr=0.2 + mrr,
                r5=0.41,
                seed=seed,
            )
        )
    # Another seed, architecture or option has no partner.
    result(options=OPTIONS | {"centre": True}, cosine=0.9, seed=7)
    result("gru", OPTIONS | {"centre": True}, cosine=0.9)
    result(options=OPTIONS | {"centre": True, "hidden": 8}, cosine=0.9)
    (row,) = run_report(db, "strategies").rows
    assert (row["strategy"], row["value"], row["architecture"]) == ("centre", "true", "lstm")
    assert (row["seeds"], row["configuration"]) == (3, None)
    assert float(row["cosine_with"]) == pytest.approx(0.62)
    assert float(row["cosine_without"]) == pytest.approx(0.6)
    assert float(row["cosine_difference"]) == pytest.approx(0.02)
    assert (float(row["cosine_min"]), float(row["cosine_max"])) == (0.01, 0.03)
    half = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    assert float(row["cosine_low"]) == pytest.approx(0.02 - half, abs=2e-6)
    assert float(row["cosine_high"]) == pytest.approx(0.02 + half, abs=2e-6)
    assert row["verdict"] == row["mrr_verdict"] == "not distinguishable"
    assert float(row["mrr_difference"]) == pytest.approx(0)
    assert (float(row["mrr_low"]), float(row["mrr_high"])) == pytest.approx((-half, half), abs=2e-6)
    assert float(row["r_5_difference"]) == pytest.approx(0.01)
    assert row["runs"] == " ".join(map(str, runs))
    assert row["controls"] == " ".join(map(str, controls))
    assert [float(value) for value in row["cosine_by_seed"]] == [0.02, 0.01, 0.03]
    assert picture(db, run_report(db, "strategies")).startswith(b"\x89PNG")


def test_the_quantiles_are_students() -> None:
    found = dict(re.findall(r"\((\d+), (\d\.\d+)\)", report_sql("strategies")))
    assert list(map(int, found)) == list(range(2, 31))
    for freedom, quantile in found.items():
        assert float(quantile) == pytest.approx(stats.t.ppf(0.975, int(freedom)), abs=1e-6)


@pytest.mark.parametrize(("seeds", "sign"), [(4, 1), (33, -1)])
def test_a_verdict_is_that_of_the_interval(
    db: Database, result: Result, seeds: int, sign: int
) -> None:
    differences = [sign * (0.01 + k / 1000) for k in range(seeds)]
    for seed, difference in enumerate(differences):
        result(options=OPTIONS, cosine=0.5, seed=seed)
        result(options=OPTIONS | {"curriculum": "bands"}, cosine=0.5 + difference, seed=seed)
    (row,) = run_report(db, "strategies").rows
    error = statistics.stdev(differences) / math.sqrt(seeds)
    half = stats.t.ppf(0.975, seeds - 1) * error
    assert row["seeds"] == seeds
    assert float(row["cosine_low"]) == pytest.approx(statistics.mean(differences) - half, abs=2e-6)
    assert row["verdict"] == ("better" if sign > 0 else "worse")
    assert row["mrr_difference"] is row["mrr_verdict"] is None


def test_two_seeds_are_too_few(db: Database, result: Result) -> None:
    for seed in range(2):
        off = {"tmd_fingerprint": None, "init_sha256": None}
        result(options=OPTIONS | off, cosine=0.5, mrr=0.1, seed=seed)
        # What follows from the strategy is no other difference.
        on = {"tmd": "input", "input_dim": 784, "tmd_fingerprint": "ab"}
        result(options=OPTIONS | on, cosine=0.6, mrr=0.2, seed=seed)
    (row,) = run_report(db, "strategies").rows
    assert (row["strategy"], row["value"], row["seeds"]) == ("tmd", "input", 2)
    assert float(row["cosine_difference"]) == pytest.approx(0.1)
    assert row["cosine_low"] is row["cosine_high"] is row["mrr_low"] is None
    assert row["verdict"] == row["mrr_verdict"] == "too few seeds"


def test_each_strategy_and_value_is_a_question_of_its_own(db: Database, result: Result) -> None:
    plain = result(options=OPTIONS, cosine=0.5)
    on: dict[str, list[object]] = {
        "centre": [True],
        "tmd": ["input", "output"],
        "resolutions": [[2, 4]],
        "curriculum": ["bands", "length"],
        "context_negatives": [True],
        "infonce_weight": [2.0],
        "roundtrip_every": [2],
        "init": ["ridge"],
        "objective": ["every"],
    }
    for option, values in on.items():
        for value in values:
            result(options=OPTIONS | {option: value}, cosine=0.6)
    result(options=OPTIONS, cosine=0.7, loss="cosine")
    result(options=OPTIONS | {"residual": False}, cosine=0.45)
    rows = run_report(db, "strategies").rows
    found = {(row["strategy"], row["value"]): row for row in rows}
    assert set(found) == {
        ("centre", "true"), ("tmd", "input"), ("tmd", "output"), ("resolutions", "[2, 4]"),
        ("curriculum", "bands"), ("curriculum", "length"), ("context_negatives", "true"),
        ("infonce_weight", "2.0"),
        ("roundtrip_every", "2"), ("init", "ridge"), ("objective", "every"), ("loss", "cosine"),
        ("residual", "true"),
    }  # fmt: skip
    assert len(rows) == len(found)
    for key, row in found.items():
        difference = {"residual": 0.05, "loss": 0.2}.get(key[0], 0.1)
        assert float(row["cosine_difference"]) == pytest.approx(difference), key
        assert row["seeds"] == 1
    assert all(row["controls"] == str(plain) for key, row in found.items() if key[0] != "residual")
    # What is on beside the strategy is said: these rows differ in it.
    assert found["residual", "true"]["configuration"] is None
    assert found["centre", "true"]["configuration"] == "residual=true"


def test_two_strategies_at_once_are_compared_one_by_one(db: Database, result: Result) -> None:
    result(options=OPTIONS, cosine=0.5)
    result(options=OPTIONS | {"centre": True}, cosine=0.52)
    both = result(options=OPTIONS | {"centre": True, "curriculum": "bands"}, cosine=0.57)
    found = compared(db)
    assert set(found) == {
        ("centre", "true", None),
        ("curriculum", "bands", "centre=true"),
    }
    row = found["curriculum", "bands", "centre=true"]
    assert float(row["cosine_difference"]) == pytest.approx(0.05)
    assert row["runs"] == str(both)


def test_configurations_are_kept_apart(db: Database, result: Result) -> None:
    for hidden in (4, 8):
        result(options=OPTIONS | {"hidden": hidden}, cosine=0.5)
        result(options=OPTIONS | {"hidden": hidden, "centre": True}, cosine=0.5 + hidden / 100)
    found = compared(db)
    assert {key[2] for key in found} == {"hidden=4", "hidden=8"}
    assert float(found["centre", "true", "hidden=8"]["cosine_difference"]) == pytest.approx(0.08)


def test_only_what_was_measured_alike_is_paired(db: Database, result: Result) -> None:
    on = OPTIONS | {"centre": True}
    result(options=on, cosine=0.6)
    result(options=OPTIONS, cosine=0.5, pool=b"y")
    result(options=OPTIONS, cosine=0.5, split="val")
    result(options=OPTIONS, cosine=0.5, stamps=["reproduces=1"])
    result(options=OPTIONS, cosine=0.5, status="failed", error="broken")
    assert run_report(db, "strategies").rows == []
    result(options=OPTIONS, cosine=0.3)
    # Of two that are the same, the newest counts.
    newest = result(options=OPTIONS, cosine=0.4)
    (row,) = run_report(db, "strategies").rows
    assert float(row["cosine_difference"]) == pytest.approx(0.2)
    assert row["controls"] == str(newest)


def test_a_stage_is_paired_with_a_run_of_as_many_epochs(db: Database, result: Result) -> None:
    first = result(options=OPTIONS | {"epochs": 3, "lr": 0.1}, cosine=0.4)
    middle = result(options=OPTIONS | {"epochs": 3}, parent_run_id=first)  # not evaluated
    last = result(options=OPTIONS | {"epochs": 4}, parent_run_id=middle, cosine=0.6)
    short, right, long = (
        result(options=OPTIONS | {"epochs": epochs}, cosine=epochs / 100) for epochs in (5, 9, 40)
    )
    result(options=OPTIONS | {"epochs": 10, "centre": True}, cosine=0.9)
    rows = [row for row in run_report(db, "strategies").rows if row["strategy"] == "parent"]
    (row,) = rows
    assert (row["value"], row["runs"], row["controls"]) == ("s > s > s", str(last), str(right))
    assert float(row["cosine_difference"]) == pytest.approx(0.51)
    assert short < right < long


def test_what_came_before_a_fork_tells_forks_apart_and_a_seed_counts_once(
    db: Database, result: Result
) -> None:
    probes = [result(options=OPTIONS | {"objective": "probe"}) for _ in range(2)]
    plain = result(options=OPTIONS)
    result(options=OPTIONS, cosine=0.4)
    result(options=OPTIONS, parent_run_id=probes[0], cosine=0.5)
    newest = result(options=OPTIONS, parent_run_id=probes[1], cosine=0.6)
    forked = result(options=OPTIONS, parent_run_id=plain, cosine=0.3)
    rows = [row for row in run_report(db, "strategies").rows if row["strategy"] == "parent"]
    found = {row["value"]: (row["seeds"], row["runs"]) for row in rows}
    assert found == {"probe > s": (1, str(newest)), "s > s": (1, str(forked))}


def test_an_ensemble_is_held_against_the_mean_of_its_members(
    db: Database, result: Result, sql: Sql
) -> None:
    def ensemble(name: str, members: list[int], **worth: float) -> None:
        options = {"name": name, "method": "vote"}
        run_id = result("ensemble", options, kind="ensemble", **worth)
        for member in members:
            sql("INSERT INTO ensemble_member VALUES (%s, %s, .5)", [run_id, member])

    pairs = []
    for seed in range(3):
        lstm = result("lstm", OPTIONS, cosine=0.5, mrr=0.1, seed=seed)
        # An older one of the same configuration is a member all the same.
        gru = result("gru", OPTIONS, cosine=0.6, mrr=0.2, seed=seed)
        result("gru", OPTIONS, cosine=0.9, mrr=0.9, seed=seed)
        pairs.append([lstm, gru])
        ensemble(f"e{seed}", pairs[-1], cosine=0.57 + seed / 100, mrr=0.15)
    ensemble("unmeasured", [pairs[0][0], result("lstm", OPTIONS, seed=9)], cosine=0.9)
    (row,) = run_report(db, "strategies").rows
    assert (row["strategy"], row["value"], row["architecture"]) == ("ensemble", "vote", "gru+lstm")
    assert (row["seeds"], row["configuration"]) == (3, None)
    assert float(row["cosine_without"]) == pytest.approx(0.55)
    assert [float(value) for value in row["cosine_by_seed"]] == pytest.approx([0.02, 0.03, 0.04])
    assert float(row["mrr_difference"]) == pytest.approx(0)
    assert row["controls"] == " ".join(f"{lstm}+{gru}" for lstm, gru in pairs)
    assert row["verdict"] == "better"
    # The same members under another name are no further seed; shared ones give no interval.
    ensemble("again", pairs[2], cosine=0.6, mrr=0.15)
    (row,) = run_report(db, "strategies").rows
    assert row["seeds"] == 3
    assert [float(value) for value in row["cosine_by_seed"]] == pytest.approx([0.02, 0.03, 0.05])
    ensemble("mixed", [pairs[0][0], pairs[1][1]], cosine=0.6, mrr=0.15)
    (row,) = run_report(db, "strategies").rows
    assert (row["seeds"], row["verdict"], row["mrr_verdict"]) == (
        4,
        "shared members",
        "shared members",
    )
    assert row["cosine_low"] is row["mrr_high"] is None
