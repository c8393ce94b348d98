"""The page on text measures says what their registry says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lvmdb.metrics.text_definitions import TEXT_METRICS

PAGE = Path(__file__).parents[3] / "docs" / "text-measures.md"
BETTER = {1: "higher", -1: "lower", 0: "gauge"}
TIMES = {key: metric for key, metric in TEXT_METRICS.items() if metric.per_query is None}


def rows() -> dict[str, list[str]]:
    """Cells of the table by the key of the measure; times have a row for all."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 5 and (name := re.fullmatch(r"`(\w+)`", cells[0])):
            for pool in cells[1].split(", "):
                found[f"{pool}/{name[1]}"] = [cell.replace("\\|", "|") for cell in cells[2:]]
    return found


def test_measures_are_described_as_they_are_computed() -> None:
    assert rows() == {
        key: [str(metric.version), BETTER[metric.direction], metric.formula]
        for key, metric in TEXT_METRICS.items()
        if not metric.name.startswith("ms_")
    }


@pytest.mark.parametrize("stage", ["vectors", "search", "decode", "smooth"])
def test_times_are_named(stage: str) -> None:
    assert any(metric.name == f"ms_{stage}_p95" for metric in TIMES.values())
    assert f"`{stage}`" in PAGE.read_text(encoding="utf-8") or stage == "vectors"
