"""The Large Concept Model against transformers' Llama, and against its paper step by step.

Base-LCM is Llama between two projections. Of the towers there is no other implementation that reads
concepts as this one does: they are written out here a second time, vector by vector, without masks,
batches or matrices of positions, as the paper has them (arXiv 2412.08821, sections 2.3.3, 2.3.4).
"""

from __future__ import annotations

import cmath
import importlib
import math
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lvmdb.models import registry
from lvmdb.models.base import LatentModel
from lvmdb.models.lcm_diffusion import DiffusionLCM

INPUT, OUTPUT, WIDTH, HEADS = 10, 6, 16, 2
TIME, LENGTHS = 6, (6, 4, 1)
STEPS, SAMPLING, GUIDANCE, RESCALE, START = 12, 5, 2.5, 0.6, 0.7
SIZE: dict[str, object] = {
    **{"d_model": WIDTH, "layers": 2, "heads": HEADS},
    **{"input_dim": INPUT, "output_dim": OUTPUT, "residual": False},
}
SAMPLED: dict[str, object] = {
    **{"diffusion_steps": STEPS, "sampling_steps": SAMPLING, "initial_noise": START},
    **{"guidance": GUIDANCE, "guidance_rescale": RESCALE, "sample_seed": 4},
}
same = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-10)


def build(**given: object) -> LatentModel:
    """As after training: no gate is closed."""
    architecture = registry.get("lcm")
    torch.manual_seed(0)
    built = architecture.build(architecture.configure({**SIZE, **given}))
    assert isinstance(built, LatentModel)
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.4)
    return built.double().eval()


def padded() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    context = torch.randn(len(LENGTHS), TIME, INPUT, generator=generator, dtype=torch.float64)
    return context, torch.arange(TIME) >= torch.tensor([[TIME - n] for n in LENGTHS])


def same_gradients(model: LatentModel, found: Tensor, expected: Tensor) -> None:
    """Of every parameter, for an arbitrary gradient of the output."""
    same(found, expected)
    upstream = torch.randn(found.shape, dtype=torch.float64)
    parameters = dict(model.named_parameters())
    got = torch.autograd.grad(found, list(parameters.values()), upstream)
    wanted = torch.autograd.grad(expected, list(parameters.values()), upstream)
    for name, one, other in zip(parameters, got, wanted, strict=True):
        assert one.abs().sum() > 0, name
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9, msg=f"{name}: {{}}".format)


@pytest.fixture
def in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers works in float32 inside, whatever it is given; here it stays in float64."""
    real_to = Tensor.to

    def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        wanted = args[0] if args else kwargs.get("dtype")
        if self.dtype == torch.float64 and wanted in (torch.float32, torch.float):
            return self
        return real_to(self, *args, **kwargs)

    monkeypatch.setattr(Tensor, "float", Tensor.double)
    monkeypatch.setattr(Tensor, "to", to)


def llama(base: LatentModel) -> nn.Module:
    """transformers' Llama with the weights of Base-LCM (shared: gradients reach them)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever importing transformers says about itself
        library: Any = importlib.import_module("transformers.models.llama")
        config = library.LlamaConfig(
            **{"vocab_size": 3, "hidden_size": WIDTH, "intermediate_size": 64},
            **{"num_hidden_layers": 2, "num_attention_heads": HEADS, "rms_norm_eps": 1e-5},
            attn_implementation="sdpa",
        )
        model: nn.Module = library.LlamaModel(config).double().eval()
    pair = torch.arange(0, WIDTH // HEADS, 2, dtype=torch.float64)
    model.get_submodule("rotary_emb").inv_freq = 10_000 ** (-pair / (WIDTH // HEADS))
    places = {"norm": "norm"}
    for layer in range(2):
        attention, feed_forward = f"blocks.{2 * layer}.", f"blocks.{2 * layer + 1}."
        places |= {
            f"layers.{layer}.input_layernorm": attention + "norm",
            f"layers.{layer}.post_attention_layernorm": feed_forward + "norm",
        }
        for short, long in zip("qkvo", ("query", "key", "value", "output"), strict=True):
            places[f"layers.{layer}.self_attn.{short}_proj"] = f"{attention}mixer.{long}"
        for part in ("gate", "up", "down"):
            places[f"layers.{layer}.mlp.{part}_proj"] = f"{feed_forward}mixer.{part}"
    for theirs, ours in places.items():
        model.get_submodule(theirs).weight = base.get_submodule(ours).weight
    assert {id(p) for p in model.parameters()} - {id(p) for p in base.parameters()} == {
        id(model.get_submodule("embed_tokens").weight)
    }
    return model


@pytest.mark.usefixtures("in_double")
@pytest.mark.filterwarnings("ignore::UserWarning:transformers.*")
@pytest.mark.parametrize("padding", [False, True])
def test_base_is_llama_between_two_projections(padding: bool) -> None:
    base = build()
    theirs = llama(base)
    context, mask = padded()
    if not padding:
        mask = torch.ones_like(mask)
    enters = base.get_submodule("input_projection")(context * math.sqrt(OUTPUT))
    hidden = theirs(inputs_embeds=enters, attention_mask=mask.long()).last_hidden_state
    expected = base.get_submodule("output_projection")(hidden) / math.sqrt(OUTPUT)
    same_gradients(base, base.every(context, mask)[mask], expected[mask])
    same(base(context, mask), expected[:, -1])


# The towers, written out. A vector is `(width,)`, a sequence a list of them.

Vectors = Sequence[Tensor]


def normed(x: Tensor, weight: Tensor | None = None) -> Tensor:
    y = x / torch.sqrt((x * x).sum() / len(x) + 1e-5)
    return y if weight is None else y * weight


def rotated(x: Tensor, position: int) -> Tensor:
    """Pairs as complex numbers, each times e^(i p w)."""
    half = len(x) // 2
    pairs = torch.complex(x[:half], x[half:])
    turns = [cmath.exp(1j * position * 10_000 ** (-2 * i / len(x))) for i in range(half)]
    turned = pairs * torch.tensor(turns, dtype=torch.complex128)
    return torch.cat([turned.real, turned.imag])


def attention(
    p: dict[str, Tensor], name: str, asks: Tensor, at: int, read: Vectors, places: Sequence[int]
) -> Tensor:
    """One query at a position, over what it reads."""
    found = []
    size = WIDTH // HEADS
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        query = rotated((p[name + ".query.weight"] @ asks)[part], at)
        scores = []
        for vector, place in zip(read, places, strict=True):
            key = rotated((p[name + ".key.weight"] @ vector)[part], place)
            scores.append((query @ key) / math.sqrt(size))
        largest = max(float(score.detach()) for score in scores)
        weights = [torch.exp(score - largest) for score in scores]
        values = [(p[name + ".value.weight"] @ vector)[part] for vector in read]
        mixed = sum(w * v for w, v in zip(weights, values, strict=True))
        found.append(torch.as_tensor(mixed) / torch.as_tensor(sum(weights)))
    return p[name + ".output.weight"] @ torch.cat(found)


def feed_forward(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    gate = p[name + ".gate.weight"] @ x
    return p[name + ".down.weight"] @ (gate * torch.sigmoid(gate) * (p[name + ".up.weight"] @ x))


def affine(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return p[name + ".weight"] @ x + p[name + ".bias"]


def pre_norm_layers(p: dict[str, Tensor], name: str, count: int, sequence: Vectors) -> list[Tensor]:
    """A causal transformer over a whole sequence."""
    stream = list(sequence)
    for layer in range(count):
        at = f"{name}.{layer}"
        ready = [normed(x, p[at + ".attention_norm.weight"]) for x in stream]
        stream = [
            x + attention(p, at + ".attention", ready[t], t, ready[: t + 1], range(t + 1))
            for t, x in enumerate(stream)
        ]
        stream = [
            x
            + feed_forward(p, at + ".feed_forward", normed(x, p[at + ".feed_forward_norm.weight"]))
            for x in stream
        ]
    return stream


def time_embedding(p: dict[str, Tensor], step: int) -> Tensor:
    angles = [step * 10_000 ** (-i / 128) for i in range(128)]
    waves = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
    inner = affine(p, "time.inner", torch.tensor(waves, dtype=torch.float64))
    return affine(p, "time.outer", inner * torch.sigmoid(inner))


def one_tower(p: dict[str, Tensor], concepts: Vectors, noisy: Tensor, step: int) -> Tensor:
    """The noisy concept behind those of its context, if it has one, in one sequence."""
    sequence = [affine(p, "input_projection", math.sqrt(OUTPUT) * x) for x in concepts]
    sequence.append(affine(p, "noisy_projection", noisy) + time_embedding(p, step))
    # Without its context it stands alone, wherever: attention knows distances only.
    last = pre_norm_layers(p, "layers", 2, sequence)[-1]
    return affine(p, "output_projection", normed(last, p["norm.weight"]))


def two_tower(p: dict[str, Tensor], concepts: Vectors, noisy: Tensor, step: int) -> Tensor:
    """The contextualizer's output, of a zero vector first, read by the denoiser."""
    given = [torch.zeros(INPUT, dtype=torch.float64), *concepts]
    sequence = [affine(p, "input_projection", math.sqrt(OUTPUT) * x) for x in given]
    encoded = [
        normed(x, p["context_norm.weight"])
        for x in pre_norm_layers(p, "contextualizer", 2, sequence)
    ]
    time = time_embedding(p, step)
    time = time * torch.sigmoid(time)
    x = affine(p, "noisy_projection", noisy)
    for layer in range(2):
        at = f"denoiser.{layer}"
        modulation = affine(p, at + ".modulation", time).view(6, WIDTH)
        asks = (1 + modulation[1]) * normed(x) + modulation[0]
        places = range(len(encoded))
        x = x + modulation[2] * attention(p, at + ".attention", asks, len(encoded), encoded, places)
        ready = (1 + modulation[4]) * normed(x) + modulation[3]
        x = x + modulation[5] * feed_forward(p, at + ".feed_forward", ready)
    return affine(p, "output_projection", normed(x, p["norm.weight"]))


WRITTEN_OUT = {"one_tower": one_tower, "two_tower": two_tower}


def build_tower(variant: str, **given: object) -> tuple[DiffusionLCM, dict[str, Tensor]]:
    model = build(variant=variant, **SAMPLED, **given)
    assert isinstance(model, DiffusionLCM)
    return model, dict(model.named_parameters())


@pytest.mark.parametrize("variant", list(WRITTEN_OUT))
def test_a_tower_is_what_the_paper_says(variant: str) -> None:
    """With a context and without, after every position of padded sequences: values, gradients."""
    model, parameters = build_tower(variant)
    written_out = WRITTEN_OUT[variant]
    context, mask = padded()
    shape = len(LENGTHS), TIME
    noisy = torch.randn(*shape, OUTPUT, dtype=torch.float64)
    step = torch.randint(STEPS, shape)
    dropped = torch.rand(shape) < 0.4
    reading = model.read(context, mask, every=True)
    seen = torch.where(dropped.unsqueeze(-1), reading.unseen, reading.seen)
    found = model.denoise(noisy, step, reading, seen)[mask]
    expected = []
    for row, length in enumerate(LENGTHS):
        for last in range(TIME - length, TIME):
            concepts = list(context[row, TIME - length : last + 1])
            given = [] if dropped[row, last] else concepts
            asked = noisy[row, last], int(step[row, last])
            expected.append(written_out(parameters, given, *asked))
    assert dropped[mask].any()
    assert not dropped[mask].all()
    same_gradients(model, found, torch.stack(expected))


@pytest.mark.parametrize("variant", list(WRITTEN_OUT))
def test_a_prediction_is_sampling_written_out(variant: str) -> None:
    model, parameters = build_tower(variant)
    context, mask = padded()
    # The schedule of the paper: cosine, moved so that nothing is left at the end.
    f = [math.cos((t / STEPS + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(STEPS + 1)]
    left, shares = 1.0, []
    for t in range(STEPS):
        left *= max(f[t + 1] / f[t], 0.001)
        shares.append(left)
    first, last = math.sqrt(shares[0]), math.sqrt(shares[-1])
    shares = [((math.sqrt(a) - last) * first / (first - last)) ** 2 for a in shares]
    # 12 steps in 5: after 12, 9.6, 7.2, 4.8 and 2.4 of them.
    times = [11, 9, 6, 4, 1]
    drawn = torch.randn(OUTPUT, generator=torch.Generator().manual_seed(4)).double()
    expected = []
    for row, length in enumerate(LENGTHS):
        concepts = list(context[row, TIME - length :])
        x = START * drawn
        for i, t in enumerate(times):
            having = WRITTEN_OUT[variant](parameters, concepts, x, t)
            without = WRITTEN_OUT[variant](parameters, [], x, t)
            further = GUIDANCE * having + (1 - GUIDANCE) * without
            spread = having.var(correction=0).sqrt() / further.var(correction=0).sqrt()
            x0 = RESCALE * further * spread + (1 - RESCALE) * further
            noise = (x - math.sqrt(shares[t]) * x0) / math.sqrt(1 - shares[t])
            after = shares[times[i + 1]] if i + 1 < len(times) else 1.0
            x = math.sqrt(after) * x0 + math.sqrt(1 - after) * noise
        expected.append(x / math.sqrt(OUTPUT))
    same(model(context, mask), torch.stack(expected))
