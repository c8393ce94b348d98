"""The hundred runs: as many as the plan says, all different at every scale, and all possible."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lvmdb.models import registry
from lvmdb.scheduling.hundred import METHODS, SCALES, hundred
from lvmdb.sequences.sets import SequenceSet
from lvmdb.training.plan import prepare

ENTRIES = hundred()
FIXED = [entry for entry in ENTRIES if entry.architecture is not None]

PLAN = {
    1: {"lstm": 5 + 3, "gru": 5 + 2},
    2: {"mamba2": 10, "s4": 8, "rwkv": 8, "hybrid": 4},
    3: {"gpt2": 8, "linformer": 6, "performer": 6},
    4: {"hyena": 6, "retnet": 8, "lcm": 6},
}

SET = SequenceSet(
    sequence_set_id=1,
    name="s",
    dataset_source="wiki",
    encoder_id=1,
    context_len=5,
    stride=1,
    scope="article",
    seed=0,
    frozen=True,
    fingerprint=b"x",
    articles=9,
    concepts=99,
    windows={"train": 9, "val": 9, "test": 9},
)


def values(architecture: str, name: str, scale: str) -> list[object]:
    """What an option takes in the runs of an architecture, each value once, in order."""
    found = [e.at(scale).get(name) for e in FIXED if e.architecture == architecture]
    return list(dict.fromkeys(found))


def test_there_are_a_hundred_as_the_plan_says() -> None:
    assert len(ENTRIES) == 100
    for week, counts in PLAN.items():
        assert Counter(e.architecture for e in FIXED if e.week == week) == counts
    assert Counter(e.week for e in ENTRIES) == {1: 15, 2: 30, 3: 20, 4: 20, 5: 15}
    for week in range(1, 6):
        slots = [e.slot for e in ENTRIES if e.week == week]
        assert slots == list(range(1, len(slots) + 1))
    assert [e.week for e in ENTRIES] == sorted(e.week for e in ENTRIES)


def test_the_last_week_is_chosen() -> None:
    last = [e for e in ENTRIES if e.week == 5]
    assert all(e.architecture is None and e.rule is not None and e.stage > 0 for e in last)
    rules = [e.rule for e in last if e.rule is not None]
    assert Counter(str(rule["choose"]) for rule in rules) == {"seed": 9, "ensemble": 3, "again": 3}
    seeds = [(rule["rank"], rule["seed"]) for rule in rules if rule["choose"] == "seed"]
    assert seeds == [(rank, seed) for rank in (1, 2, 3) for seed in (1, 2, 3)]
    assert [rule["method"] for rule in rules if rule["choose"] == "ensemble"] == list(METHODS)
    assert [rule["rank"] for rule in rules if rule["choose"] == "again"] == [1, 2, 3]
    assert [e.stage for e in last] == [1] * 9 + [2] * 3 + [3] * 3


@pytest.mark.parametrize("scale", SCALES)
def test_all_are_different_at_every_scale(scale: str) -> None:
    rows = [(e.architecture, e.loss, *sorted(map(str, e.at(scale).items()))) for e in FIXED]
    assert len(set(rows)) == len(rows) == 85
    assert len({e.title for e in ENTRIES}) == 100
    # What the grids are over has as many values as in the plan.
    for architecture, name, count in (
        ("lstm", "hidden", 4), ("lstm", "layers", 4), ("gru", "hidden", 4), ("gru", "lr", 2),
        ("mamba2", "d_model", 3), ("mamba2", "layers", 3), ("mamba2", "d_state", 2),
        ("s4", "d_state", 4), ("s4", "layers", 2), ("rwkv", "d_model", 2), ("rwkv", "layers", 2),
        ("rwkv", "lr", 2), ("hybrid", "attention_every", 2), ("hybrid", "layers", 2),
        ("gpt2", "layers", 4), ("gpt2", "heads", 2), ("linformer", "rank", 3),
        ("linformer", "layers", 2), ("performer", "features", 3), ("performer", "heads", 2),
        ("hyena", "order", 2), ("hyena", "layers", 3), ("retnet", "heads", 2),
        ("retnet", "d_model", 2), ("retnet", "layers", 2), ("lcm", "variant", 3),
        ("lcm", "d_model", 2),
    ):  # fmt: skip
        assert len(values(architecture, name, scale)) == count, (architecture, name)
        if name not in ("variant", "lr"):
            found = [v for v in values(architecture, name, scale) if isinstance(v, int)]
            larger = [v for v in values(architecture, name, "full") if isinstance(v, int)]
            assert sorted(found) == [v for _, v in sorted(zip(larger, found, strict=True))]


def test_full_is_the_plans_own() -> None:
    assert values("lstm", "hidden", "full") == [256, 512, 1024, 768]
    assert values("mamba2", "d_model", "full") == [256, 512, 768]
    assert values("mamba2", "layers", "full") == [6, 12, 18]
    assert values("s4", "d_state", "full") == [16, 32, 64, 128]
    assert values("rwkv", "lr", "full") == [1e-3, 3e-4]
    assert values("hybrid", "attention_every", "full") == [4, 6]
    assert values("gpt2", "layers", "full") == [4, 6, 8, 10]
    assert values("linformer", "rank", "full") == [64, 128, 256]
    assert values("performer", "features", "full") == [128, 256, 512]
    assert values("hyena", "layers", "full") == [6, 8, 12]
    assert values("retnet", "heads", "full") == [4, 8]
    assert Counter(e.loss for e in FIXED if e.architecture == "lcm") == {"mse": 2, "diffusion": 4}


@pytest.mark.parametrize("architecture", registry.names(trained=True))
def test_every_option_is_one_that_the_architecture_has(architecture: str) -> None:
    entries = [e for e in FIXED if e.architecture == architecture]
    assert entries, "an architecture that the plan forgot"
    for entry in entries:
        for scale in SCALES:
            planned = prepare(architecture, SET, entry.at(scale), loss=entry.loss)
            assert planned.configuration["loss"] == entry.loss
            row = planned.configuration["hyperparameters"]
            assert {name: row[name] for name in entry.at(scale)} == entry.at(scale)


def test_the_page_shows_every_run() -> None:
    page = (Path(__file__).parents[3] / "docs" / "schedule.md").read_text(encoding="utf-8")
    for entry in FIXED:
        options = ", ".join(
            f"{name}={value}" for name, value in entry.at("full").items() if name != "epochs"
        )
        assert f"| {entry.slot} | {entry.title} | `{entry.architecture}` | {options} |" in page
