"""The page of the questions: every report is on it, as it is asked."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lvmdb.cli.report import report
from lvmdb.db.queries import report_names, report_sql
from lvmdb.reports.named import comment
from lvmdb.reports.pictures import PICTURES

PAGE = (Path(__file__).parents[3] / "docs" / "reports.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())


@pytest.mark.parametrize("name", report_names())
def test_every_report_is_on_the_page(name: str) -> None:
    (line,) = re.findall(rf"^(?:\| |### )`{name}`.*$", PAGE, re.MULTILINE)
    assert ("(picture)" in line) == (name in PICTURES)
    # The question as the query asks it; what follows in brackets may be left out.
    question = comment(name)[0].split("?")[0].partition(":")[0]
    assert question in TEXT


def test_every_example_is_a_report_that_takes_it() -> None:
    examples = re.findall(r"lvmdb report ([a-z_]+)([^|`\n]*)", PAGE)
    assert len(examples) >= len(report_names())
    for name, options in examples:
        words = shlex.split(options)
        context = report.make_context("report", [name, *words])
        for setting in ("run_id", "split", "schedule"):
            if context.params[setting] is not None:
                assert f"'lvmdb.{setting}'" in report_sql(name), (name, setting)


def test_the_strategies_of_the_page_are_those_of_the_query() -> None:
    query = report_sql("strategies").partition("strategy (option, off)")[2].partition("quantile")[0]
    options = set(re.findall(r"\('([a-z_]+)',", query)) | {"ensemble"}
    table = PAGE.partition("| strategy | off | on |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z_]+)`", table, re.MULTILINE)) == options
