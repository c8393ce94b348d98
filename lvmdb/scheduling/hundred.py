"""The hundred runs of five weeks, as data.

Weeks 1 to 4 are fixed: grids over sizes, depths and rates, one architecture beside the other. Week
5 is chosen by SQL from what they gave, when its turn has come. The scale changes sizes and epochs:
`full` is the plan's own, `small` a quarter of the width, `toy` an eighth of the width and about a
third of the depth. Whatever tells two runs of a grid apart does so at every scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

from lvmdb.training.losses import DIFFUSION

SCALES = ("toy", "small", "full")

EPOCHS = {"toy": 2, "small": 5, "full": 20}
"""At most; training stops where validation stops getting better."""

RATE = 5e-4
"""Learning rate of what stands in a residual backbone; recurrent stacks have training's default."""

BEST = 3
"""Architectures that go on to week 5, and seeds that each has there."""

METHODS = ("mean", "weighted", "vote")


class Sized(dict[str, object]):
    """A value for each scale."""


@dataclass(frozen=True)
class Entry:
    """One of the hundred.

    Attributes:
        week: 1 to 5.
        slot: place within the week, from 1.
        title: what it is, by the plan's own sizes.
        architecture: in the registry; None: chosen later.
        options: of model and training; a `Sized` has a value for each scale.
        loss: by name; None: what is fitted, and has no epochs.
        stage: 0 for what is fixed; what has a later one is chosen when all before are settled.
        rule: how it is chosen: `seed`, `ensemble` or `again`, and its place among the best.
    """

    week: int
    slot: int
    title: str
    architecture: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    loss: str | None = None
    stage: int = 0
    rule: Mapping[str, object] | None = None

    def at(self, scale: str) -> dict[str, object]:
        """The options of a scale."""
        chosen = {
            name: value[scale] if isinstance(value, Sized) else value
            for name, value in self.options.items()
        }
        return {**chosen, "epochs": EPOCHS[scale]} if self.loss else chosen


@dataclass(frozen=True)
class _Run:
    """An entry of weeks 1 to 4 without its place."""

    architecture: str
    title: str
    options: Mapping[str, object]
    loss: str = "mse"


def hundred() -> tuple[Entry, ...]:
    """All entries, in the order in which they are to run."""
    fixed = [
        Entry(week, slot, run.title, run.architecture, run.options, run.loss)
        for week, runs in enumerate((_week_1(), _week_2(), _week_3(), _week_4()), start=1)
        for slot, run in enumerate(runs, start=1)
    ]
    return (*fixed, *_week_5())


def _week_1() -> Iterator[_Run]:
    """LSTM 5, GRU 5, deeper stacks 5."""
    for architecture, name in (("lstm", "LSTM"), ("gru", "GRU")):
        for hidden, layers in ((256, 2), (512, 2), (1024, 2), (512, 4)):
            title = f"{name} {hidden} x {layers}"
            yield _Run(architecture, title, {"hidden": _width(hidden), "layers": layers})
        slow = {"hidden": _width(512), "layers": 2, "lr": 1e-4}
        yield _Run(architecture, f"{name} 512 x 2, rate 1e-4", slow)
    deep = (("lstm", 4), ("lstm", 5), ("lstm", 6), ("gru", 4), ("gru", 6))
    for architecture, layers in deep:
        yield _Run(
            architecture,
            f"{architecture.upper()} 768 x {layers}, residual",
            {"hidden": _width(768), "layers": layers, "stack_residual": True},
        )


def _week_2() -> Iterator[_Run]:
    """Mamba-2 10, S4 8, RWKV 8, hybrid 4."""
    depths = {6: _depth(2, 6), 12: _depth(4, 12), 18: _depth(6, 18)}
    mamba = [(width, layers, 64) for width, layers in product((256, 512, 768), depths)]
    for width, layers, state in [*mamba, (512, 12, 128)]:
        yield _Run(
            "mamba2",
            f"Mamba-2 {width} x {layers}" + (f", state {state}" if state != 64 else ""),
            {"d_model": _width(width), "layers": depths[layers], **_mamba(state), "lr": RATE},
        )
    for state, layers in product((16, 32, 64, 128), (4, 8)):
        yield _Run(
            "s4",
            f"S4 512 x {layers}, state {state}",
            {
                "d_model": _width(512),
                "layers": _depth(layers // 2, layers),
                "d_state": _depth(state // 4, state),
                "lr": RATE,
            },
        )
    for width, layers, rate in product((512, 768), (8, 12), (1e-3, 3e-4)):
        yield _Run(
            "rwkv",
            f"RWKV {width} x {layers}, rate {'1e-3' if rate == 1e-3 else '3e-4'}",
            {"d_model": _width(width), "layers": _depth(layers // 4, layers), "lr": rate},
        )
    for every, layers in product((4, 6), (12, 18)):
        yield _Run(
            "hybrid",
            f"Hybrid 512 x {layers}, attention every {every}",
            {
                "d_model": _width(512),
                "layers": depths[layers],
                "attention_every": _depth(every // 2, every),
                **_mamba(64),
                "lr": RATE,
            },
        )


def _week_3() -> Iterator[_Run]:
    """DistilGPT-2 8, Linformer 6, Performer 6."""
    for layers, heads in product((4, 6, 8, 10), (8, 12)):
        yield _Run(
            "gpt2",
            f"DistilGPT-2 768 x {layers}, {heads} heads",
            {
                "d_model": _width(768),
                "layers": _depth(layers // 2, layers),
                "heads": heads,
                "lr": RATE,
            },
        )
    for rank, layers in product((64, 128, 256), (6, 8)):
        yield _Run(
            "linformer",
            f"Linformer 512 x {layers}, rank {rank}",
            {
                "d_model": _width(512),
                "layers": _depth(layers // 2 - 1, layers),
                "heads": 8,
                "rank": _depth(rank // 8, rank),
                "lr": RATE,
            },
        )
    for features, heads in product((128, 256, 512), (4, 8)):
        yield _Run(
            "performer",
            f"Performer 512 x 6, {features} features, {heads} heads",
            {
                "d_model": _width(512),
                "layers": _depth(2, 6),
                "heads": heads,
                "features": _depth(features // 8, features),
                "lr": RATE,
            },
        )


def _week_4() -> Iterator[_Run]:
    """Hyena 6, RetNet 8, LCM 6: by squared error against by diffusion."""
    for order, layers in product((2, 3), (6, 8, 12)):
        yield _Run(
            "hyena",
            f"Hyena 512 x {layers}, order {order}",
            {
                "d_model": _width(512),
                "layers": _depth({6: 2, 8: 3, 12: 4}[layers], layers),
                "order": order,
                "lr": RATE,
            },
        )
    for heads, width, layers in product((4, 8), (512, 768), (6, 12)):
        yield _Run(
            "retnet",
            f"RetNet {width} x {layers}, {heads} heads",
            {
                "d_model": _width(width),
                "layers": _depth(layers // 3, layers),
                "heads": heads,
                "lr": RATE,
            },
        )
    names = {"base": "Base", "one_tower": "One-Tower", "two_tower": "Two-Tower"}
    for variant, (width, layers, heads) in product(names, ((512, 6, 8), (768, 12, 12))):
        # What a variant does not read it refuses.
        more: dict[str, object] = {} if variant == "base" else {"sampling_steps": _depth(10, 40)}
        if variant == "two_tower":
            more["contextualizer_layers"] = _depth(layers // 6, layers // 3)
        yield _Run(
            "lcm",
            f"LCM {names[variant]} {width} x {layers}",
            {
                "variant": variant,
                "d_model": _width(width),
                "layers": _depth(layers // 3, layers),
                "heads": heads,
                **more,
                "lr": RATE,
            },
            loss="mse" if variant == "base" else DIFFUSION,
        )


def _week_5() -> Iterable[Entry]:
    """The best three with three seeds each, ensembles of them, and all three trained again."""
    rules: list[tuple[int, str, dict[str, object]]] = [
        (
            1,
            f"Architecture {rank} of the best, its best configuration, seed {seed}",
            {"choose": "seed", "rank": rank, "seed": seed},
        )
        for rank, seed in product(range(1, BEST + 1), range(1, BEST + 1))
    ]
    rules += [
        (2, f"Ensemble of the best, {method}", {"choose": "ensemble", "method": method})
        for method in METHODS
    ]
    rules += [
        (3, f"The best run of architecture {rank}, again", {"choose": "again", "rank": rank})
        for rank in range(1, BEST + 1)
    ]
    for slot, (stage, title, rule) in enumerate(rules, start=1):
        yield Entry(5, slot, title, stage=stage, rule=rule)


def _width(full: int) -> Sized:
    return Sized(toy=full // 8, small=full // 4, full=full)


def _depth(toy: int, full: int) -> Sized:
    """What shrinks in the toy only."""
    return Sized(toy=toy, small=full, full=full)


def _mamba(state: int) -> dict[str, object]:
    """State and head of Mamba-2, which must divide twice the width."""
    return {"d_state": _depth(state // 8, state), "headdim": _depth(16, 64)}
