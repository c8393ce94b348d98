"""Published weights under the names that this package's models have: blocks, and the last norm.

Embeddings and heads are left out: of tokens, because there are none here, and of positions, which
were learnt as additions to those of tokens. What takes their place, the projections, stays fresh.

Weights come as transformers stores them, with or without the prefix of a model with a head, those
of Mamba-2 also as `mamba_ssm` does. What decides shapes is read from the shapes themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lvmdb.errors import ModelError
from lvmdb.models.base import LatentModel

Settings = Mapping[str, Any]
"""What `config.json` says."""

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Published:
    """Weights as an architecture has them.

    Attributes:
        options: what a run's options must be for them to fit.
        weights: by name in the innermost model.
    """

    options: Mapping[str, int]
    weights: Weights


@dataclass(frozen=True)
class _Scheme:
    """How the names of one kind of published model are read.

    Attributes:
        kind: its `model_type`.
        prefix: before all names but the head's, in a model with a head.
        block: name of a block's part, with groups `layer`, `part` and `rest`.
        parts: of each part the number of our block, less the first of the layer, and its name.
        per_layer: our blocks in one of theirs.
        others: further names, and ours.
        left_out: names that have no place here.
        settings: what `config.json` must say where it says anything.
    """

    kind: str
    prefix: str
    block: str
    parts: Mapping[str, tuple[int, str]]
    per_layer: int
    others: Mapping[str, str]
    left_out: str
    settings: Settings = field(default_factory=dict)

    def read(self, settings: Settings, weights: Weights) -> tuple[int, dict[str, Tensor]]:
        """The number of layers, and the weights by our names.

        Raises:
            ModelError: it is another kind of model, or one with parts that have no place here.
        """
        for name, value in {"model_type": self.kind, **self.settings}.items():
            found = settings.get(name, value)
            if found != value:
                raise ModelError(f"has {name} {found}, where only {value} has a place here")
        layers, named = 0, {}
        for name, value in weights.items():
            name = name.removeprefix(self.prefix)
            if re.fullmatch(self.left_out, name):
                continue
            ours = self.others.get(name)
            if ours is None and (match := re.fullmatch(self.block, name)):
                layers = max(layers, 1 + int(match["layer"]))
                offset, part = self.parts[match["part"]]
                ours = (
                    f"blocks.{int(match['layer']) * self.per_layer + offset}.{part}.{match['rest']}"
                )
            if ours is None:
                raise ModelError(f"has '{name}', which has no place here")
            named[ours] = value
        if not layers:
            raise ModelError(f"has no blocks of a {self.kind} model")
        return layers, named


_GPT2 = _Scheme(
    kind="gpt2",
    prefix="transformer.",
    block=r"h\.(?P<layer>\d+)\.(?P<part>ln_1|attn|ln_2|mlp)\.(?P<rest>.+)",
    parts={"ln_1": (0, "norm"), "attn": (0, "mixer"), "ln_2": (1, "norm"), "mlp": (1, "mixer")},
    per_layer=2,
    others={"ln_f.weight": "norm.weight", "ln_f.bias": "norm.bias"},
    # Old files hold the causal mask, too.
    left_out=r"wte\.weight|wpe\.weight|lm_head\.weight|h\.\d+\.attn\.(bias|masked_bias)",
    settings={"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5},
)

_MAMBA2 = _Scheme(
    kind="mamba2",
    prefix="backbone.",
    block=r"layers\.(?P<layer>\d+)\.(?P<part>norm|mixer)\.(?P<rest>.+)",
    parts={"norm": (0, "norm"), "mixer": (0, "mixer")},
    per_layer=1,
    others={"norm_f.weight": "norm.weight"},
    left_out=r"embeddings?\.weight|lm_head\.weight",
    settings={"n_groups": 1, "layer_norm_epsilon": 1e-5, "hidden_act": "silu"},
)

_RWKV = _Scheme(
    kind="rwkv",
    prefix="rwkv.",
    block=r"blocks\.(?P<layer>\d+)\.(?P<part>ln1|attention|ln2|feed_forward)\.(?P<rest>.+)",
    parts={
        **{"ln1": (0, "norm"), "attention": (0, "mixer")},
        **{"ln2": (1, "norm"), "feed_forward": (1, "mixer")},
    },
    per_layer=2,
    others={
        **{f"ln_out.{name}": f"norm.{name}" for name in ("weight", "bias")},
        **{f"blocks.0.pre_ln.{name}": f"pre_ln.{name}" for name in ("weight", "bias")},
    },
    left_out=r"embeddings\.weight|head\.weight",
    settings={"layer_norm_epsilon": 1e-5},
)


def gpt2(settings: Settings, weights: Weights) -> Published:
    """GPT-2's and DistilGPT-2's blocks; their matrices are stored `(in, out)`.

    Raises:
        ModelError: they are not of this kind.
    """
    layers, named = _GPT2.read(settings, weights)
    d_model = len(_weight(named, "blocks.0.norm.weight"))
    turned = {
        name: value.t()
        if name.endswith(("c_attn.weight", "c_fc.weight", "c_proj.weight"))
        else value
        for name, value in named.items()
    }
    return Published(
        {"d_model": d_model, "layers": layers, "heads": int(settings.get("n_head", 12))}, turned
    )


def mamba2(settings: Settings, weights: Weights) -> Published:
    """Mamba-2's blocks, of one group.

    Raises:
        ModelError: they are not of this kind.
    """
    own = settings.get("ssm_cfg") or {}  # mamba_ssm's
    groups = {"n_groups": own["ngroups"]} if "ngroups" in own else {}
    layers, named = _MAMBA2.read({**settings, **groups}, weights)
    d_model, d_inner = _shape(named, "blocks.0.mixer.out_proj.weight", 2)
    channels, _, d_conv = _shape(named, "blocks.0.mixer.conv1d.weight", 3)
    heads = len(_weight(named, "blocks.0.mixer.A_log"))
    return Published(
        {
            "d_model": d_model,
            "layers": layers,
            "d_state": (channels - d_inner) // 2,
            "d_conv": d_conv,
            "expand": d_inner // d_model,
            "headdim": d_inner // heads,
        },
        named,
    )


def rwkv(settings: Settings, weights: Weights) -> Published:
    """RWKV-4's blocks.

    Raises:
        ModelError: they are not of this kind.
    """
    layers, named = _RWKV.read(settings, weights)
    inner, d_model = _shape(named, "blocks.1.mixer.key.weight", 2)
    return Published({"d_model": d_model, "layers": layers, "expand": inner // d_model}, named)


def core(model: LatentModel) -> LatentModel:
    """The innermost model: the architecture's own, within those that are around it."""
    while isinstance(body := getattr(model, "body", None), LatentModel):
        model = body
    return model


def fresh(name: str) -> bool:
    """Whether a weight of the innermost model stays as it is made: no block has it."""
    return not re.match(r"(blocks|norm|pre_ln)\.", name)


Reader = Callable[[Settings, Weights], Published]


def _weight(named: Weights, name: str) -> Tensor:
    if name not in named:
        raise ModelError(f"lacks what would be '{name}' here")
    return named[name]


def _shape(named: Weights, name: str, dimensions: int) -> tuple[int, ...]:
    shape = tuple(_weight(named, name).shape)
    if len(shape) != dimensions:
        raise ModelError(f"has another shape, {shape}, of what would be '{name}' here")
    return shape
