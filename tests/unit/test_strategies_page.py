"""The page of strategies: each of its options is one, and none is left out."""

from __future__ import annotations

import re
from pathlib import Path

from lvmdb.models import registry
from lvmdb.training.catalogue import options_of

PAGE = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text(encoding="utf-8")

STRATEGIES = {
    *("residual", "centre", "resolutions", "tmd", "objective", "curriculum", "half"),
    *("margin_soft", "margin_hard", "temperature", "context_negatives", "roundtrip_every", "init"),
    "infonce_weight",
}


def test_the_page_has_every_strategy() -> None:
    assert {name for name in STRATEGIES if not re.search(rf"`{name}\b", PAGE)} == set()


def test_what_the_page_sets_can_be_set() -> None:
    known = {
        str(row["option"])
        for name in registry.names(trained=True)
        for row in options_of(registry.get(name))
    }
    assert known >= STRATEGIES
    named = set(re.findall(r"`([a-z_]+)=", PAGE)) | set(re.findall(r"--set ([a-z_]+)=", PAGE))
    assert named <= known
