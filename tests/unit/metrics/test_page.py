"""The page on metrics says what the registry says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lvmdb.metrics.definitions import METRICS, Metric

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
BETTER = {1: "higher", -1: "lower", 0: "gauge"}


def rows() -> dict[tuple[str, str], list[str]]:
    """Cells of the table by pool and metric."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 6:
            for name in re.findall(r"`([^`]+)`", cells[0]):
                found[cells[1], name] = [cell.replace("\\|", "|") for cell in cells[2:5]]
    return found


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_metric_is_described_as_it_is_computed(metric: Metric) -> None:
    formula = metric.formula
    if metric.name.startswith("recall@"):
        k = metric.name.removeprefix("recall@")
        formula = formula.replace(f"({k} - ", "(k - ").replace(f"than {k} cand", "than k cand")
    described = rows()[metric.pool, metric.name]
    assert described == [str(metric.version), BETTER[metric.direction], formula]


def test_no_metric_is_described_that_is_not_there() -> None:
    assert set(rows()) == {(metric.pool, metric.name) for metric in METRICS.values()}
