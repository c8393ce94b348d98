"""The Large Concept Model's options, and what is random about the variants that diffuse."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_models import TINY, architecture_of
from torch import Tensor

from lvmdb.errors import ModelError
from lvmdb.models import diffusion, registry
from lvmdb.models.base import LatentModel
from lvmdb.models.configs.lcm import LCMConfig
from lvmdb.models.lcm_diffusion import DiffusionLCM
from lvmdb.models.statistics import Statistics
from lvmdb.training import options
from lvmdb.training.catalogue import parameters
from lvmdb.training.step import seed_step

TOWERS = [name for name in TINY if architecture_of(name).configure(TINY[name]).generates]
DIM = 6


def build(name: str, **given: object) -> LatentModel:
    """As after training: nothing is zero, and so nothing is idle."""
    architecture = architecture_of(name)
    shared: dict[str, object] = {"input_dim": DIM + 2, "output_dim": DIM, "residual": False}
    torch.manual_seed(0)
    built = architecture.build(architecture.configure({**TINY[name], **shared, **given}))
    assert isinstance(built, LatentModel)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return built.double().eval()


def tower(name: str, **given: object) -> DiffusionLCM:
    built = build(name, **given)
    assert isinstance(built, DiffusionLCM)
    return built


def windows(batch: int, time: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    context = torch.randn(batch, time, DIM + 2, generator=generator, dtype=torch.float64)
    return context, torch.ones(batch, time, dtype=torch.bool)


def targets(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


class Asked:
    """Records what a denoiser is asked, and answers in its place."""

    def __init__(self, model: DiffusionLCM, monkeypatch: pytest.MonkeyPatch) -> None:
        self.noisy: list[Tensor] = []
        self.steps: list[Tensor] = []
        self.dropped: list[Tensor] = []

        def denoise(noisy: Tensor, step: Tensor, reading: Any, seen: Tensor) -> Tensor:
            self.noisy.append(noisy)
            self.steps.append(step)
            self.dropped.append((seen == reading.unseen).all(-1))
            return 0.5 * noisy

        monkeypatch.setattr(model, "denoise", denoise)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"variant": "three_tower"}, "variant must be one of base, one_tower, two_tower, not"),
        ({"heads": 3}, r"heads must divide d_model \(16\)"),
        ({"heads": 16}, "heads of an even width, not of 1"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"sampling_steps": 0}, "sampling_steps must be at least 1"),
        ({"sampling_steps": 101}, r"sampling_steps must be at most diffusion_steps \(100\)"),
        ({"diffusion_steps": 1, "sampling_steps": 1}, "diffusion_steps must be at least 2"),
        ({"context_dropout": 1}, "context_dropout must be at least 0 and below 1"),
        ({"context_dropout": 0}, "guidance needs a model that has learnt without"),
        ({"guidance": "-1"}, "guidance must be 0 or more"),
        ({"guidance": "nan"}, "guidance must be 0 or more"),
        ({"initial_noise": "inf"}, "initial_noise must be 0 or more"),
        ({"guidance_rescale": 1.1}, "guidance_rescale must be from 0 to 1"),
        ({"sample_seed": -1}, "sample_seed must be at least 0"),
        ({"sample_seed": 2**63}, "sample_seed must fit into 63 bits"),
        ({"variant": "base", "guidance": 1}, "guidance is for one_tower and two_tower, and base"),
        ({"contextualizer_layers": 3}, "contextualizer_layers is for two_tower, and one_tower"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(given: dict[str, object], why: str) -> None:
    shared = {"variant": "one_tower", "d_model": 16, "heads": 2}
    with pytest.raises(ModelError, match=why):
        registry.get("lcm").configure({**shared, **given})


def test_defaults_are_the_papers() -> None:
    config = LCMConfig()
    assert (config.diffusion_steps, config.sampling_steps) == (100, 40)
    assert (config.context_dropout, config.initial_noise) == (0.15, 0.6)
    assert (config.guidance, config.guidance_rescale) == (3.0, 0.7)
    assert not config.generates
    assert LCMConfig(context_dropout=0.0, guidance=1.0, variant="two_tower").generates


@pytest.mark.parametrize("variant", ["base", "one_tower", "two_tower"])
def test_every_variant_has_both_objectives(variant: str) -> None:
    given: dict[str, object] = {"variant": variant, "objective": "every"}
    model, training = options.resolve(registry.get("lcm"), given, context_len=5)
    assert training is not None
    assert training.objective == "every"
    assert model.generates is (variant != "base")


@pytest.mark.parametrize("name", TOWERS)
def test_context_is_dropped_target_by_target_at_the_right_rate(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in batches of three and in short sequences, where a share rounded down is nothing."""
    model = tower(name, context_dropout=0.15).train()
    asked = Asked(model, monkeypatch)
    context, mask = windows(3)
    readings = {every: model.read(context, mask, every) for every in (False, True)}
    monkeypatch.setattr(model, "read", lambda context, mask, every: readings[every])
    for shape in ((3, DIM), (3, 5, DIM)):
        asked.dropped.clear()
        for step in range(300):
            seed_step(0, step, 0)
            model.denoised(context, mask, targets(*shape))
        dropped = torch.stack(asked.dropped).double()
        assert dropped.shape == (300, *shape[:-1], *([1] if len(shape) == 2 else []))
        deviation = math.sqrt(0.15 * 0.85 / dropped.numel())
        assert abs(dropped.mean().item() - 0.15) < 4 * deviation
        # Neither whole batches nor whole sequences: some are parted.
        parted = dropped.flatten(1).mean(1)
        assert bool(((parted > 0) & (parted < 1)).any())


@pytest.mark.parametrize("name", TOWERS)
def test_times_are_uniform(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tower(name, diffusion_steps=10, sampling_steps=2).train()
    asked = Asked(model, monkeypatch)
    torch.manual_seed(0)
    model.denoised(*windows(4000, 1), targets(4000, DIM))
    counts = asked.steps[0].flatten().bincount()
    assert len(counts) == 10
    assert bool(((counts - 400).abs() < 5 * math.sqrt(400 * 0.9)).all())


@pytest.mark.parametrize("name", TOWERS)
def test_in_training_chance_is_the_steps_in_evaluation_there_is_none(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tower(name)
    given = (*windows(7), targets(7, DIM))

    def trained(step: int) -> Tensor:
        seed_step(3, step, 0)
        return model.denoised(*given)

    model.train()
    assert torch.equal(trained(1), trained(1))
    assert not torch.equal(trained(1), trained(2))
    model.eval()
    before = torch.get_rng_state()
    assert torch.equal(trained(1), trained(2))
    seed_step(3, 2, 0)
    after = torch.get_rng_state()
    model.denoised(*given)
    model(*given[:2])
    assert torch.equal(torch.get_rng_state(), after)
    assert not torch.equal(before, after)
    asked = Asked(model, monkeypatch)
    model.denoised(*given)
    assert not asked.dropped[0].any()


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", TOWERS)
def test_what_is_diffused_is_of_unit_order_and_comes_back(
    name: str, residual: bool, centre: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that denoises perfectly says the target, whatever is around it."""
    wide = {"input_dim": 768, "output_dim": 768, "residual": residual, "centre": centre}
    model = build(name, **wide)
    if centre:
        mean = F.normalize(torch.randn(768), dim=0).double() * 0.2
        model.fit(Statistics(mean, torch.eye(768).double()))
    body = next(module for module in model.modules() if isinstance(module, DiffusionLCM))
    diffused: list[Tensor] = []
    noised = diffusion.noised

    def spied(clean: Tensor, noise: Tensor, share: Tensor) -> Tensor:
        diffused.append(clean)
        return noised(clean, noise, share)

    monkeypatch.setattr(diffusion, "noised", spied)
    monkeypatch.setattr(body, "denoise", lambda *_: diffused[-1])
    mask = torch.arange(5) >= torch.tensor([[0], [0], [3]])
    context = F.normalize(torch.randn(3, 5, 768), dim=-1).double()
    for target in (targets(3, 768), targets(3, 5, 768)):
        said = model.denoised(context, mask, target)
        torch.testing.assert_close(said, target, rtol=1e-9, atol=1e-12)
        there = diffused[-1][mask] if target.dim() == 3 else diffused[-1]
        assert 0.7 < there.std().item() < 1.5


@pytest.mark.parametrize("name", TOWERS)
def test_the_start_is_one_vector_of_noise_for_all(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tower(name, guidance=1, initial_noise=0.6, sample_seed=3)
    asked = Asked(model, monkeypatch)
    model.every(*windows(4))
    drawn = torch.randn(DIM, generator=torch.Generator().manual_seed(3)).double()
    torch.testing.assert_close(asked.noisy[0], (0.6 * drawn).expand(4, 5, DIM))
    assert asked.steps[0].item() == 19


@pytest.mark.parametrize(("guidance", "times"), [(1, 40), (3, 80)])
@pytest.mark.parametrize("name", TOWERS)
def test_forty_steps_are_forty(
    name: str, guidance: float, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tower(name, diffusion_steps=100, sampling_steps=40, guidance=guidance)
    asked = Asked(model, monkeypatch)
    model(*windows(2))
    assert len(asked.steps) == times
    kept = [dropped for dropped in asked.dropped if not dropped.any()]
    assert len(kept) == 40
    assert len({int(step) for step in asked.steps}) == 40


@pytest.mark.parametrize("name", TOWERS)
def test_a_prediction_depends_on_its_own_context_alone(name: str) -> None:
    model = tower(name)
    context, mask = windows(6)
    together = model(context, mask)
    assert torch.equal(model(context, mask), together)
    for row in range(6):
        alone = model(context[row : row + 1], mask[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], rtol=1e-9, atol=1e-11)
    assert together.std(0).min() > 1e-3


@pytest.mark.parametrize("name", TOWERS)
def test_guidance_is_between_with_and_without_context(name: str) -> None:
    """0 is what is said without it; 1 with it; and in one step it is a straight line."""
    plain = tower(name, guidance=0, guidance_rescale=0, sampling_steps=1)
    context, mask = windows(3)

    def said(**given: object) -> Tensor:
        plain.config = replace(plain.config, **given)  # type: ignore[arg-type]
        predicted: Tensor = plain(context, mask)
        return predicted

    without = said(guidance=0)
    torch.testing.assert_close(without, without[:1].expand(3, -1))
    having = said(guidance=1)
    # A context of nothing but padding is no context.
    torch.testing.assert_close(plain(context, ~mask), without)
    torch.testing.assert_close(said(guidance=3), without + 3 * (having - without))
    torch.testing.assert_close(said(guidance=1 + 1e-12), having)


@pytest.mark.parametrize("name", TOWERS)
@pytest.mark.parametrize(
    "given",
    [
        {"diffusion_steps": 30},
        {"sampling_steps": 3},
        {"guidance": 2.0},
        {"guidance_rescale": 0.2},
        {"initial_noise": 1.0},
        {"sample_seed": 1},
        {"heads": 4},
    ],
)
def test_every_option_of_sampling_changes_a_prediction(name: str, given: dict[str, object]) -> None:
    model, other = tower(name), tower(name, **given)
    other.load_state_dict(model.state_dict())
    assert not torch.allclose(model(*windows(2)), other(*windows(2)), rtol=1e-4)


@pytest.mark.parametrize("name", TOWERS)
def test_every_option_of_training_changes_a_loss(name: str) -> None:
    def said(**given: object) -> Tensor:
        model = tower(name, **given).train()
        seed_step(0, 0, 0)
        return model.denoised(*windows(20), targets(20, DIM))

    usual = said()
    for given in ({"context_dropout": 0.9}, {"diffusion_steps": 30}, {"dropout": 0.5}):
        assert not torch.allclose(said(**given), usual)
    assert torch.equal(said(guidance=2.0, initial_noise=1.0, sampling_steps=3), usual)


def test_every_option_of_size_changes_a_model() -> None:
    def size(**given: object) -> int:
        architecture = registry.get("lcm")
        shared = {"variant": "two_tower", "d_model": 16, "layers": 2, "heads": 2}
        return registry.count_parameters(architecture.build(architecture.configure(shared | given)))

    sizes = [size(), size(d_model=32), size(layers=3), size(contextualizer_layers=3)]
    sizes += [size(variant=v) for v in ("base", "one_tower")]
    assert len(set(sizes)) == len(sizes)


def test_variants_of_equal_sizes_are_as_documented() -> None:
    architecture = registry.get("lcm")
    named = ("d_model", "layers", "heads", "contextualizer_layers")
    others = {
        "toy": ((152, 2, 4), (120, 2, 4, 1), 1.0e6, 0.05e6),
        "small": ((256, 5, 4), (240, 3, 4, 2), 5.0e6, 0.5e6),
        "full": ((768, 16, 12), (768, 10, 12, 2), 120e6, 10e6),
    }
    for preset, (one, two, about, within) in others.items():
        sizes = [parameters(architecture, preset)]
        for variant, values in (("one_tower", one), ("two_tower", two)):
            given = {"variant": variant, **dict(zip(named, values, strict=False))}
            with torch.device("meta"):
                built = architecture.build(architecture.configure(given))
            sizes.append(registry.count_parameters(built))
        assert all(abs(size - about) < within for size in sizes), (preset, sizes)


@pytest.mark.parametrize("name", TOWERS)
def test_there_is_no_state_to_ask_for(name: str) -> None:
    for residual in (False, True):
        model = build(name, residual=residual)
        for ask in (model.last_state, model.states):
            with pytest.raises(ModelError, match=r"Tower draws its predictions.*'diffusion'"):
                ask(*windows(2))


@pytest.mark.parametrize("name", TOWERS)
def test_every_position_is_denoised_as_after_a_shorter_context(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tower(name)
    context = windows(3)[0]
    mask = torch.arange(5) >= torch.tensor([[0], [2], [4]])
    given: list[tuple[Tensor, Tensor]] = []
    denoise = model.denoise

    def spied(noisy: Tensor, step: Tensor, *rest: Any) -> Tensor:
        given.append((noisy, step))
        return denoise(noisy, step, *rest)

    monkeypatch.setattr(model, "denoise", spied)
    together = model.denoised(context, mask, targets(3, 5, DIM))
    (noisy, step), *_ = given
    for row, first in enumerate((0, 2, 4)):
        for last in range(first, 5):
            here = slice(row, row + 1), slice(first, last + 1)
            reading = model.read(context[here], mask[here], every=False)
            asked = slice(row, row + 1), slice(last, last + 1)
            alone = denoise(noisy[asked], step[asked], reading, reading.seen) / math.sqrt(DIM)
            torch.testing.assert_close(together[row, last], alone[0, 0], rtol=1e-9, atol=1e-11)
