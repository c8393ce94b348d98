"""Every architecture by each of its objectives, and every loss by each objective, learns a process
that is known.

A loss sees predictions and targets, not what made them, so not every architecture is tried with
every loss: each has two by each objective, which take turns (one that generates has one loss).

The process is that of `corpus.synthetic` in sixteen dimensions: v[t+1] = normalise(a R v[t] + s e).
What follows is the last concept turned by R, which copying misses and a model can learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice

import pytest
import torch
import torch.nn.functional as F
from tiny_models import TINY, architecture_of
from torch import Tensor

from lvmdb.models.base import LatentModel
from lvmdb.sequences.batch import OBJECTIVES, SequenceBatch
from lvmdb.training import losses
from lvmdb.training.checkpoint import pack, unpack
from lvmdb.training.options import TrainingOptions
from lvmdb.training.step import Stepper

DIM, TIME = 16, 5
ANGLE, NOISE = 0.9, 0.3
STEPS, AT_A_TIME = 400, 8


@cache
def articles() -> Tensor:
    """`(512, 12, 16)`."""
    generator = torch.Generator().manual_seed(0)
    turn = torch.eye(DIM)
    for plane in range(0, DIM, 2):
        cos, sin = torch.cos(torch.tensor(ANGLE)), torch.sin(torch.tensor(ANGLE))
        turn[plane : plane + 2, plane : plane + 2] = torch.tensor([[cos, -sin], [sin, cos]])
    v = F.normalize(torch.randn(512, DIM, generator=generator), dim=-1)
    seen = []
    for _ in range(12):
        noise = torch.randn(512, DIM, generator=generator) / DIM**0.5
        v = F.normalize(v @ turn.T + NOISE * noise, dim=-1)
        seen.append(v)
    return torch.stack(seen, 1)


def batches(objective: str, seed: int, size: int = 32) -> Iterator[SequenceBatch]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        article = torch.randint(0, 448, (size,), generator=generator)
        yield window(article, int(torch.randint(0, 12 - TIME, (), generator=generator)), objective)


def window(article: Tensor, start: int, objective: str) -> SequenceBatch:
    context = articles()[article, start : start + TIME]
    following = articles()[article, start + 1 : start + TIME + 1]
    return SequenceBatch(
        context=context,
        mask=torch.ones(context.shape[:2], dtype=torch.bool),
        target=following if objective == "every" else following[:, -1],
        article_id=article,
        target_seq=torch.full_like(article, start + TIME),
    )


def combinations() -> Iterator[tuple[str, str, str]]:
    several = [loss for loss in losses.names() if loss != losses.DIFFUSION]
    turns = {objective: cycle(several) for objective in OBJECTIVES}
    for name in TINY:
        architecture = architecture_of(name)
        for objective in architecture.objectives:
            if architecture.configure(TINY[name]).generates:
                yield name, objective, losses.DIFFUSION
            else:
                yield from ((name, objective, loss) for loss in islice(turns[objective], 2))


def cosine(model: LatentModel, batch: SequenceBatch) -> float:
    model.eval()
    with torch.no_grad():
        predicted = model(batch.context, batch.mask)
    model.train()
    return float(F.cosine_similarity(predicted, batch.target).mean())


@pytest.mark.parametrize(("name", "objective", "loss"), list(combinations()))
def test_it_learns_and_reloads(name: str, objective: str, loss: str) -> None:
    architecture = architecture_of(name)
    shape: dict[str, object] = {"input_dim": DIM, "output_dim": DIM, "context_len": TIME}
    config = architecture.configure({**TINY[name], **shape})
    torch.manual_seed(0)
    model = architecture.build(config)
    assert isinstance(model, LatentModel)
    options = TrainingOptions(lr=1e-2, temperature=0.2, context_negatives=True)
    stepper = Stepper(model, loss, options, context_len=TIME)
    held_out = window(torch.arange(448, 512), 3, "last")
    copied = float(F.cosine_similarity(held_out.context[:, -1], held_out.target).mean())
    given = batches(objective, 1)
    first: list[float] = []
    last: list[float] = []
    for step in range(STEPS):
        value = float(stepper.step(next(given), 1e-2)["loss"])
        (first if step < AT_A_TIME else last).append(value)
        if step % AT_A_TIME == AT_A_TIME - 1 and step > AT_A_TIME:
            fell = sum(last[-AT_A_TIME:]) < 0.97 * sum(first)
            if fell and cosine(model, held_out) > copied + 0.05:
                break
    assert sum(last[-AT_A_TIME:]) < sum(first)
    assert cosine(model, held_out) > copied + 0.05
    again = architecture.build(config)
    assert isinstance(again, LatentModel)
    unpack(pack(model, config), again, config)
    assert cosine(again, held_out) == cosine(model, held_out)
