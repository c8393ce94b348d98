"""docs/architectures.md says what the registry says."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"


def test_the_sizes_on_the_page_are_those_that_are_counted() -> None:
    page = (DOCS / "architectures.md").read_text()
    made = runpy.run_path(str(DOCS / "generate_architectures.py"))["written"](page)
    assert made == page, "run 'python docs/generate_architectures.py'"
