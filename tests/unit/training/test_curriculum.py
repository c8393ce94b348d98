"""Curriculum: coherence by hand, phases, and what each of them trains on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lvmdb.errors import ModelError
from lvmdb.sequences.batch import SequenceBatch
from lvmdb.training.curriculum import BANDS, Curriculum, coherence
from lvmdb.training.options import TrainingOptions


def windows(cosines: list[float], time: int = 2) -> SequenceBatch:
    """Contexts whose neighbours are at these cosines, all in one plane."""
    turned = torch.acos(torch.tensor(cosines)).unsqueeze(1) * torch.arange(time)  # (batch, time)
    context = torch.zeros(len(cosines), time, 768)
    context[..., 0], context[..., 1] = torch.cos(turned), torch.sin(turned)
    number = torch.arange(len(cosines))
    mask = torch.ones(len(cosines), time, dtype=torch.bool)
    return SequenceBatch(context, mask, torch.zeros(len(cosines), 768), number, number)


def chosen(curriculum: Curriculum, epoch: int, batch: SequenceBatch) -> list[int]:
    selected: Tensor = curriculum.select(epoch, batch).target_seq
    return selected.tolist()


def test_coherence_by_hand() -> None:
    torch.testing.assert_close(
        coherence(windows([0.9, 0.5, -1.0], time=4)), torch.tensor([0.9, 0.5, -1.0])
    )
    # Padding is no neighbour, and only the concept's own numbers count.
    batch = windows([0.7], time=4)
    batch.context[0, 0] = 9.0
    batch.mask[0, 0] = False
    torch.testing.assert_close(coherence(batch), torch.tensor([0.7]))
    wide = SequenceBatch(
        torch.cat([batch.context, torch.randn(1, 4, 16)], -1),
        *(batch.mask, batch.target, batch.article_id, batch.target_seq),
    )
    torch.testing.assert_close(coherence(wide), torch.tensor([0.7]))


def test_bands_and_then_all() -> None:
    batch = windows([0.95, 0.7, 0.5, 0.1, 0.85, 0.45])
    curriculum = Curriculum.measured("bands", 4, [batch])
    assert curriculum.bands == BANDS
    assert [chosen(curriculum, epoch, batch) for epoch in (1, 2, 3, 4)] == [
        [0, 4],
        [1],
        [2, 5],
        [0, 1, 2, 3, 4, 5],
    ]
    assert chosen(curriculum, 1, windows([0.1])) == []


def test_quantiles_are_thirds_of_this_corpus() -> None:
    cosines = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    batches = [windows(cosines[:2]), windows(cosines[2:])]
    curriculum = Curriculum.measured("quantiles", 8, batches)
    whole = windows(cosines)
    phases = [chosen(curriculum, epoch, whole) for epoch in range(1, 9)]
    assert phases[0] == phases[1] == [4, 5]
    assert phases[2] == phases[3] == [2, 3]
    assert phases[4] == phases[5] == [0, 1]
    assert phases[6] == phases[7] == list(range(6))


@pytest.mark.parametrize("epochs", [4, 5, 6, 7, 9, 20])
def test_phases_follow_each_other_and_are_as_equal_as_can_be(epochs: int) -> None:
    curriculum = Curriculum(BANDS, epochs)
    phases = [curriculum.phase(epoch) for epoch in range(1, epochs + 1)]
    assert phases == sorted(phases)
    sizes = [phases.count(phase) for phase in range(4)]
    assert curriculum.banded_epochs == epochs - sizes[3]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ModelError, match=r"coherence of 0\.8 or more .* curriculum=quantiles"):
        Curriculum.measured("bands", 4, [windows([0.7, 0.5])])
    with pytest.raises(ModelError, match="contexts of two concepts or more"):
        Curriculum.measured("quantiles", 4, [windows([0.7, 0.5], time=1)])
    with pytest.raises(ModelError, match="epochs must be at least 4, not 3"):
        TrainingOptions(curriculum="bands", epochs=3)
    with pytest.raises(ModelError, match="objective=last"):
        TrainingOptions(curriculum="bands", objective="every")
    assert math.isinf(BANDS[0][1])
