"""What is wrong with a dataset, judged from its row of the view `corpus_health`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NORM_TOLERANCE = 0.01


def findings(row: Mapping[str, Any]) -> list[str]:
    """One line for each check that a dataset fails; repeated texts are a fact, not a fault."""
    name = row["dataset_source"]
    wrong: list[str] = []
    if row["article_gaps"]:
        wrong.append(f"dataset '{name}' has {row['article_gaps']} gaps in its articles' order")
    if row["articles_with_gaps"]:
        wrong.append(f"dataset '{name}' has {row['articles_with_gaps']} articles with gaps")
    if row["empty_articles"]:
        wrong.append(f"dataset '{name}' has {row['empty_articles']} articles without a concept")
    if row["vectors"] not in (0, row["concepts"]):
        missing = row["concepts"] - row["vectors"]
        wrong.append(f"dataset '{name}' has {missing} concepts without a vector")
    for norm in (row["min_norm"], row["max_norm"]):
        if norm is not None and abs(norm - 1) > NORM_TOLERANCE:
            wrong.append(f"dataset '{name}' has vectors of norm {norm:.4f}")
    return wrong
