"""Writes docs/architectures.md's table from the registry: sizes are counted, not copied."""

from __future__ import annotations

import sys
from pathlib import Path

from lvmdb.models import registry
from lvmdb.training.catalogue import parameters

PAGE = Path(__file__).with_name("architectures.md")
BEGIN, END = "<!-- sizes -->\n", "<!-- end of sizes -->\n"


def table() -> str:
    """Every architecture with its objectives and the size of each preset."""
    lines = [
        "| name | what | objectives | `toy` | `small` | `full` | from |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in registry.names(trained=True):
        found = registry.get(name)
        sizes = " | ".join(_shown(parameters(found, preset)) for preset in found.presets)
        objectives = ", ".join(found.objectives)
        lines.append(f"| `{name}` | {found.summary} | {objectives} | {sizes} | {found.reference} |")
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """The page with its table made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


def _shown(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count < 20e6 else f"{count / 1e6:.0f} M"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
    sys.stdout.write(f"wrote {PAGE}\n")
