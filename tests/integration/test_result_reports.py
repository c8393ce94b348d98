"""Architectures, hyperparameters and cost: rows by hand, and answers that are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lvmdb.db.engine import Database
from lvmdb.reports.named import run_report

Result = Callable[..., int]
Sql = Callable[..., list[tuple[Any, ...]]]


def rows(db: Database, name: str, **settings: Any) -> list[dict[str, Any]]:
    """A report's rows, decimals as plain numbers."""
    return [
        {k: float(v) if hasattr(v, "is_finite") else v for k, v in row.items()}
        for row in run_report(db, name, **settings).rows
    ]


def times(sql: Sql, run_id: int) -> tuple[float, float, int]:
    ((seconds, wall, epochs),) = sql(
        "SELECT seconds, wall_seconds, epochs FROM run_time WHERE run_id = %s", [run_id]
    )
    return seconds, wall, epochs


@pytest.fixture
def epochs(sql: Sql) -> Callable[..., None]:
    """`epochs(run_id, [(10, 60), (20, 120)])`: validation after a step, so many seconds after."""

    def write(run_id: int, ended: list[tuple[int, float]]) -> None:
        for epoch, (step, after) in enumerate(ended, start=1):
            sql(
                "INSERT INTO run_metric (run_id, name, split, step, epoch, value, recorded_at) "
                "SELECT run_id, 'loss', 'val', %s, %s, 1, started_at + make_interval(secs => %s) "
                "FROM experiment_run WHERE run_id = %s",
                [step, epoch, after, run_id],
            )

    return write


def test_an_interruption_is_no_training(
    result: Result, sql: Sql, epochs: Callable[..., None]
) -> None:
    run_id = result(seconds=1000)
    # 10 steps in 60 s, 10 in 50 s, 20 in 110 s; 10 more after a pause, of 5.5 s a step or so.
    epochs(run_id, [(10, 60), (20, 110), (40, 220), (50, 998)])
    pace = (5.5 + 6.0) / 2
    assert times(sql, run_id) == pytest.approx((60 + 50 + 110 + 10 * pace + 2, 1000, 4))


def test_of_few_epochs_nothing_is_taken_for_a_pause(
    result: Result, sql: Sql, epochs: Callable[..., None]
) -> None:
    run_id = result(seconds=1000)
    epochs(run_id, [(10, 60), (20, 990)])
    assert times(sql, run_id) == pytest.approx((1000, 1000, 2))
    # A baseline has no epochs, a run that never began no time.
    assert times(sql, result(kind="baseline", seconds=7)) == pytest.approx((7, 7, 0))
    assert sql("SELECT FROM run_time WHERE run_id = %s", [result(status="planned")]) == []


def test_an_epoch_under_way_is_at_most_as_long_as_the_longest(
    result: Result, sql: Sql, epochs: Callable[..., None]
) -> None:
    alive = result(seconds=230, status="running", finished_at=None)
    paused = result(seconds=9000, status="running", finished_at=None)
    for run_id in (alive, paused):
        epochs(run_id, [(10, 60), (20, 120), (30, 200)])
    assert times(sql, alive) == pytest.approx((230, 230, 3))
    assert times(sql, paused) == pytest.approx((280, 9000, 3))


def test_an_architecture_has_a_best_run_and_a_mean(db: Database, result: Result, sql: Sql) -> None:
    result("copy-last", kind="baseline", cosine=0.5, mrr=0.3, val=0.5, parameter_count=0)
    small = {"hidden": 4}
    result(options=small, cosine=0.52, mrr=0.2, r5=0.4, val=0.6, seed=0, seconds=1800)
    best = result(
        options=small, cosine=0.54, mrr=0.3, r5=0.5, val=0.7, seed=1, seconds=3600,
        parameter_count=99,
    )  # fmt: skip
    # The best on the test windows is not the best on those of validation.
    result(options={"hidden": 8}, cosine=0.56, mrr=0.1, r5=0.6, val=0.65, seed=1, seconds=1800)
    result(options={"hidden": 8}, cosine=0.9, split="val")
    first, second = rows(db, "architectures")
    assert (first["architecture"], second["architecture"]) == ("lstm", "copy-last")
    assert (first["runs"], first["configurations"], first["seeds"]) == (3, 2, 2)
    assert (first["best_run"], first["val_cosine"], first["cosine"]) == (best, 0.7, 0.54)
    assert (first["cosine_mean"], first["cosine_spread"]) == (0.54, 0.02)
    assert (first["mrr_10"], first["mrr_mean"], first["mrr_spread"]) == (0.3, 0.2, 0.1)
    assert (first["r_5"], first["r_5_mean"], first["r_5_spread"]) == (0.5, 0.5, 0.1)
    assert (first["cosine_gain"], first["best_baseline"]) == (0.04, "copy-last")
    assert (first["parameters"], first["seconds"], first["hours_of_all"]) == (99, 3600, 2)
    assert second["cosine_spread"] is None
    assert second["verdict"] == "best baseline"
    # Ensembles of other members are others, though they are configured alike.
    two = [
        result("ensemble", kind="ensemble", cosine=cosine, val=cosine) for cosine in (0.57, 0.58)
    ]
    sql("INSERT INTO ensemble_member VALUES (%s, %s, 1)", [two[0], best])
    ensemble = rows(db, "architectures")[0]
    assert (ensemble["architecture"], ensemble["runs"], ensemble["configurations"]) == (
        "ensemble",
        2,
        2,
    )
    # Its own split, when asked for.
    (row,) = rows(db, "architectures", split="val")
    assert (row["split"], row["cosine"]) == ("val", 0.9)


def test_options_that_vary_have_differences(db: Database, result: Result) -> None:
    """Runs by hand: hidden 4 and 8, one of lr .1 only at 4, so that lr is mixed with hidden."""
    base = {"hidden": 4, "lr": 0.5, "layers": 2}
    result(options=base, cosine=0.50, mrr=0.10)
    result(options=base, cosine=0.52, mrr=0.12, seed=1)
    result(options=base | {"hidden": 8}, cosine=0.60, mrr=0.20)
    result(options=base | {"lr": 0.1}, cosine=0.40, mrr=0.06)
    result("copy-last", {"hidden": 9}, kind="baseline", cosine=0.5)
    result("gru", base, cosine=0.5)
    found = {(row["option"], row["value"]): row for row in rows(db, "hyperparameters")}
    assert list(found) == [("hidden", "4"), ("hidden", "8"), ("lr", "0.1"), ("lr", "0.5")]
    four, eight = found["hidden", "4"], found["hidden", "8"]
    assert (four["runs"], four["cosine"]) == (3, round(1.42 / 3, 4))
    assert four["cosine_difference"] == round(1.42 / 3 - 0.6, 4)
    assert (eight["runs"], eight["cosine_difference"]) == (1, round(0.6 - 1.42 / 3, 4))
    # One pair only differs in hidden alone: seed 0 at lr .5.
    assert (eight["pairs"], eight["cosine_paired"], eight["mrr_paired"]) == (1, 0.1, 0.1)
    assert (four["pairs"], four["cosine_paired"]) == (1, -0.1)
    slow = found["lr", "0.1"]
    assert slow["cosine_difference"] == -0.14
    assert (slow["pairs"], slow["cosine_paired"], slow["mrr_paired"]) == (1, -0.1, -0.04)


def test_the_loss_is_an_option_and_missing_ranks_are_missing(db: Database, result: Result) -> None:
    result(options={"hidden": 4}, cosine=0.5, mrr=0.1)
    result(options={"hidden": 4, "input_dim": 784}, cosine=0.7, loss="cosine")
    first, second = rows(db, "hyperparameters")
    assert (first["option"], first["value"], first["cosine_paired"]) == ("loss", "cosine", 0.2)
    assert second["mrr_10"] == 0.1
    assert first["mrr_10"] is first["mrr_difference"] is first["mrr_paired"] is None


def test_cost_says_what_nothing_beats_for_less(db: Database, result: Result) -> None:
    small = result("gru", cosine=0.5, parameter_count=10, seconds=60)
    large = result("lstm", cosine=0.6, parameter_count=100, seconds=30)
    result("mamba2", cosine=0.55, parameter_count=100, seconds=45)
    slow = result("mamba2", cosine=0.55, parameter_count=50, seconds=90, seed=1)
    # As large as the best, and worse.
    worse = result("lstm", cosine=0.45, parameter_count=10, seconds=60, seed=1)
    unknown = result("rwkv", cosine=0.9)
    found = {row["run"]: row for row in rows(db, "cost")}
    assert [row["cosine"] for row in found.values()] == [0.9, 0.6, 0.55, 0.55, 0.5, 0.45]
    assert {run: row["nothing_cheaper"] for run, row in found.items()} == {
        unknown: None,
        large: "parameters, seconds",
        large + 1: None,
        slow: "parameters",
        small: "parameters",
        worse: None,
    }
    assert (found[small]["seconds"], found[small]["wall_seconds"]) == (60, 60)
    assert found[unknown]["seconds"] is None


def test_results_that_do_not_count(db: Database, result: Result, sql: Sql) -> None:
    counts = result(cosine=0.5)
    result(cosine=0.9, status="failed", error="broken")
    result(cosine=0.9, stamps=["reproduces=1"])
    other = result("gru", cosine=0.9)
    sql("UPDATE evaluation SET checkpoint_sha256 = 'x' WHERE run_id = %s", [other])
    assert sql("SELECT run_id FROM run_result") == [(counts,)]
    newest = result(cosine=0.6)
    assert sql("SELECT run_id FROM run_result") == [(newest,)]


def test_the_best_epoch_is_that_of_the_lowest_loss(result: Result, sql: Sql) -> None:
    run_id = result()
    for epoch, loss, cosine in ((1, 0.5, 0.6), (2, 0.3, 0.7), (3, 0.3, 0.9)):
        for name, value in (("loss", loss), ("cosine", cosine)):
            sql(
                "INSERT INTO run_metric (run_id, name, split, step, epoch, value) "
                "VALUES (%s, %s, 'val', %s, %s, %s)",
                [run_id, name, 10 * epoch, epoch, value],
            )
    baseline = result(kind="baseline")
    sql("INSERT INTO run_metric VALUES (%s, 'cosine', 'val', 1, 1, .4)", [baseline])
    evaluated = result(cosine=0.8, split="val", val=0.7)
    other = result(cosine=0.8, split="val", val=0.7)
    sql("UPDATE evaluation SET checkpoint_sha256 = 'x' WHERE run_id = %s", [other])
    assert sql("SELECT run_id, epoch, loss, cosine FROM run_validation ORDER BY 1") == [
        (run_id, 2, 0.3, 0.7),
        (baseline, None, None, 0.4),
        (evaluated, 1, 1 - 0.7, 0.8),
        (other, 1, 1 - 0.7, 0.7),
    ]
