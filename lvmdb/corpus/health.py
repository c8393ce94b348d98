"""What is wrong with a dataset, judged from what `lvmdb verify` asks of its tables.

A check fails, is met, is short of what is wanted, or is a fact. Only what fails is a fault: texts
that are repeated, say, may be what the corpus is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lvmdb.db.types import DIMENSION

NORM_TOLERANCE = 0.01


class State(StrEnum):
    """What became of a check."""

    OK = "ok"
    FAILED = "FAILED"
    SHORT = "below"
    FACT = ""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        dataset: whose.
        check: what was looked at.
        value: what was found.
        wanted: what would be right; empty for facts.
        state: what became of it.
        finding: one line that says so; None unless it failed.
    """

    dataset: str
    check: str
    value: object
    wanted: str = ""
    state: State = State.FACT
    finding: str | None = None


def must(
    dataset: str, check: str, value: object, wanted: str, wrong: object, finding: str
) -> Check:
    """A check that fails where `wrong`; its finding begins with the dataset."""
    if not wrong:
        return Check(dataset, check, value, wanted, State.OK)
    return Check(dataset, check, value, wanted, State.FAILED, f"dataset '{dataset}' {finding}")


def findings(row: Mapping[str, Any]) -> list[str]:
    """One line for each check of `order_checks` that fails."""
    return [check.finding for check in order_checks(row) if check.finding is not None]


def order_checks(row: Mapping[str, Any]) -> list[Check]:
    """Counts, order, norms and repetitions, from a row of the view `corpus_health`."""
    name = row["dataset_source"]
    missing = row["concepts"] - row["vectors"]
    checks = [
        Check(name, "articles", row["articles"]),
        Check(name, "concepts", row["concepts"]),
        must(
            name, "concepts with a vector", row["vectors"], "all or none",
            row["vectors"] not in (0, row["concepts"]), f"has {missing} concepts without a vector",
        ),
        must(
            name, "gaps between articles", row["article_gaps"], "0", row["article_gaps"],
            f"has {row['article_gaps']} gaps in its articles' order",
        ),
        must(
            name, "articles with gaps", row["articles_with_gaps"], "0", row["articles_with_gaps"],
            f"has {row['articles_with_gaps']} articles with gaps",
        ),
        must(
            name, "articles without a concept", row["empty_articles"], "0", row["empty_articles"],
            f"has {row['empty_articles']} articles without a concept",
        ),
    ]  # fmt: skip
    for which in ("min", "max"):
        norm = row[f"{which}_norm"]
        if norm is not None:
            wrong = abs(norm - 1) > NORM_TOLERANCE
            finding = f"has vectors of norm {norm:.4f}"
            checks.append(must(name, f"{which} norm", norm, "0.99 to 1.01", wrong, finding))
    verified = bool(row["encoder_verified"])
    checks += [
        Check(name, "encoder", row["encoder"]),
        Check(
            name, "encoder held against its vectors", verified, "yes",
            State.OK if verified else State.SHORT,
        )
        if row["encoder"]
        else Check(name, "encoder held against its vectors", None),
        Check(name, "repeated articles", row["repeated_articles"]),
        Check(name, "repeated texts", row["repeated_texts"]),
    ]  # fmt: skip
    return checks


def content_checks(row: Mapping[str, Any], commonest: int) -> list[Check]:
    """Texts, dimensions, codes and probes, from a row of the query `content_health`.

    Args:
        row: of one dataset.
        commonest: concepts that have its commonest code.
    """
    name, concepts = row["dataset_source"], row["concepts"]
    if not concepts:
        return []
    checks = [
        must(
            name, "blank texts", row["blank_texts"], "0", row["blank_texts"],
            f"has {row['blank_texts']} concepts of blanks alone",
        ),
        *(
            Check(name, f"{which} {what}", row[f"{which}_{what}"])
            for what in ("words", "characters")
            for which in ("min", "median", "max")
        ),
    ]  # fmt: skip
    if row["max_tokens"]:
        # A word is a token at least, so that these are certain.
        check = "texts longer than the encoder reads"
        state = State.SHORT if row["cut_texts"] else State.OK
        checks.append(Check(name, check, row["cut_texts"], "0", state))
    if row["min_dimension"] is not None:
        dimensions = {row["min_dimension"], row["max_dimension"]}
        wrong = dimensions != {DIMENSION}
        finding = f"has vectors of {row['min_dimension']} to {row['max_dimension']} numbers"
        checks.append(must(name, "dimension", row["max_dimension"], str(DIMENSION), wrong, finding))
    checks.append(Check(name, "concepts with a TMD code", row["tmd_codes"]))
    if row["tmd_codes"]:
        checks += [
            Check(name, "different TMD codes", row["distinct_codes"]),
            Check(name, "commonest TMD code", row["commonest_code"]),
            Check(name, "its share of the codes", commonest / row["tmd_codes"]),
        ]
    checks.append(Check(name, "probe questions", row["probe_questions"]))
    if row["probe_questions"] or row["probe_vectors"]:
        checks += [
            must(
                name, "probes without a vector", row["probes_without_vector"], "0",
                row["probes_without_vector"],
                f"has {row['probes_without_vector']} probe questions without a vector",
            ),
            must(
                name, "vectors of no probe", row["vectors_without_probe"], "0",
                row["vectors_without_probe"],
                f"has {row['vectors_without_probe']} probe vectors without a question",
            ),
        ]  # fmt: skip
    return checks
