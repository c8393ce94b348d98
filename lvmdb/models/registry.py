"""Every architecture and baseline by name, with its options, presets and origin.

An architecture's module is imported when one is built; listing them imports none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lvmdb.errors import UnknownNameError
from lvmdb.models.architecture import Architecture
from lvmdb.models.baselines import config as baselines
from lvmdb.models.config import ModelConfig
from lvmdb.models.configs.gpt2 import GPT2Config
from lvmdb.models.configs.gru import GRUConfig
from lvmdb.models.configs.hybrid import HybridConfig
from lvmdb.models.configs.hyena import HyenaConfig
from lvmdb.models.configs.lcm import LCMConfig
from lvmdb.models.configs.linformer import LinformerConfig
from lvmdb.models.configs.lstm import LSTMConfig
from lvmdb.models.configs.mamba2 import Mamba2Config
from lvmdb.models.configs.performer import PerformerConfig
from lvmdb.models.configs.retnet import RetNetConfig
from lvmdb.models.configs.rwkv import RWKVConfig
from lvmdb.models.configs.s4 import S4Config

if TYPE_CHECKING:
    from lvmdb.models.architecture import Built


def get(name: str) -> Architecture:
    """The architecture of that name.

    Raises:
        UnknownNameError: there is none; the message offers the nearest spelling.
    """
    if name not in _BY_NAME:
        raise UnknownNameError("architecture", name, _BY_NAME)
    return _BY_NAME[name]


def names(*, trained: bool | None = None) -> list[str]:
    """All names in the registry's order; or those trained by gradients, or the baselines, alone."""
    return [a.name for a in _BY_NAME.values() if trained is None or a.trained is trained]


def count_parameters(built: Built) -> int:
    """How many numbers training sets: trainable parameters, or what a fitted baseline stores."""
    from lvmdb.models.base import LatentModel

    if isinstance(built, LatentModel):
        return sum(p.numel() for p in built.parameters() if p.requires_grad)
    return sum(t.numel() for t in built.state().values() if t.is_floating_point())


def _baseline(name: str, summary: str, factory: str, config: type[ModelConfig]) -> Architecture:
    return Architecture(
        name=name,
        summary=summary,
        reference="baseline",
        config=config,
        factory=f"lvmdb.models.baselines.{factory}",
        presets={"toy": {}, "small": {}, "full": {}},
        trained=False,
    )


_ALL = (
    Architecture(
        name="lstm",
        summary="stacked LSTM between two linear projections",
        reference="Hochreiter & Schmidhuber 1997",
        config=LSTMConfig,
        factory="lvmdb.models.lstm:LSTM",
        presets={
            "toy": {"hidden": 272, "layers": 1},
            "small": {"hidden": 512, "layers": 2},
            "full": {"hidden": 512, "layers": 4, "stack_residual": True},
        },
        objectives=("last", "every"),
    ),
    Architecture(
        name="gru",
        summary="stacked GRU between two linear projections",
        reference="Cho et al. 2014, arXiv 1406.1078",
        config=GRUConfig,
        factory="lvmdb.models.gru:GRU",
        presets={
            "toy": {"hidden": 300, "layers": 1},
            "small": {"hidden": 592, "layers": 2},
            "full": {"hidden": 592, "layers": 4, "stack_residual": True},
        },
        objectives=("last", "every"),
    ),
    Architecture(
        name="mamba2",
        summary="Mamba-2 blocks (state space duality) in a pre-norm residual backbone",
        reference="Dao & Gu 2024, arXiv 2405.21060",
        config=Mamba2Config,
        factory="lvmdb.models.mamba2:Mamba2",
        presets={
            "toy": {"d_model": 192, "layers": 3, "d_state": 32},
            "small": {"d_model": 384, "layers": 5, "d_state": 64},
            "full": {"d_model": 768, "layers": 34, "d_state": 128},
        },
        objectives=("last", "every"),
        published="lvmdb.models.published:mamba2",
    ),
    Architecture(
        name="rwkv",
        summary="RWKV-4 blocks: time-mixing by a decaying weighted mean, channel-mixing",
        reference="Peng et al. 2023, arXiv 2305.13048",
        config=RWKVConfig,
        factory="lvmdb.models.rwkv:RWKV",
        presets={
            "toy": {"d_model": 144, "layers": 3},
            "small": {"d_model": 256, "layers": 5},
            "full": {"d_model": 768, "layers": 22},
        },
        objectives=("last", "every"),
        published="lvmdb.models.published:rwkv",
    ),
    Architecture(
        name="s4",
        summary="S4 layers (linear state spaces as long convolutions), diagonal or HiPPO's own",
        reference="Gu et al. 2022, arXiv 2111.00396 and 2206.11893",
        config=S4Config,
        factory="lvmdb.models.s4:S4",
        presets={
            "toy": {"d_model": 256, "layers": 4, "d_state": 32},
            "small": {"d_model": 512, "layers": 8, "d_state": 32},
            "full": {"d_model": 1536, "layers": 20, "d_state": 64},
        },
        objectives=("last", "every"),
    ),
    Architecture(
        name="retnet",
        summary="gated multi-scale retention and feed-forward parts in the same backbone",
        reference="Sun et al. 2023, arXiv 2307.08621",
        config=RetNetConfig,
        factory="lvmdb.models.retnet:RetNet",
        presets={
            "toy": {"d_model": 128, "layers": 4, "heads": 4},
            "small": {"d_model": 256, "layers": 6, "heads": 4},
            "full": {"d_model": 768, "layers": 12, "heads": 4},
        },
        objectives=("last", "every"),
    ),
    Architecture(
        name="hybrid",
        summary="Mamba-2 blocks with an attention block in every few",
        reference="Lieber et al. 2024, arXiv 2403.19887",
        config=HybridConfig,
        factory="lvmdb.models.hybrid:Hybrid",
        presets={
            "toy": {"d_model": 128, "layers": 6, "attention_every": 4, "heads": 2},
            "small": {"d_model": 256, "layers": 8, "attention_every": 4, "heads": 4},
            "full": {
                "d_model": 768,
                "layers": 32,
                "attention_every": 8,
                "heads": 12,
                "d_state": 128,
            },
        },
        objectives=("last", "every"),
    ),
    Architecture(
        name="hyena",
        summary="Hyena operators (implicit long filters and gates) with feed-forward parts",
        reference="Poli et al. 2023, arXiv 2302.10866",
        config=HyenaConfig,
        factory="lvmdb.models.hyena:Hyena",
        presets={
            "toy": {"d_model": 168, "layers": 2},
            "small": {"d_model": 256, "layers": 6},
            "full": {"d_model": 768, "layers": 12},
        },
        objectives=("last", "every"),
    ),
    Architecture(
        name="gpt2",
        summary="GPT-2's blocks: exact causal attention, learnt positions",
        reference="Radford et al. 2019",
        config=GPT2Config,
        factory="lvmdb.models.gpt2:GPT2",
        presets={
            "toy": {"d_model": 160, "layers": 2, "heads": 5},
            "small": {"d_model": 256, "layers": 6, "heads": 8},
            "full": {"d_model": 768, "layers": 12, "heads": 12},
        },
        objectives=("last", "every"),
        published="lvmdb.models.published:gpt2",
    ),
    Architecture(
        name="linformer",
        summary="GPT-2's frame with low-rank attention, which looks ahead inside the context",
        reference="Wang et al. 2020, arXiv 2006.04768",
        config=LinformerConfig,
        factory="lvmdb.models.linformer:Linformer",
        presets={
            "toy": {"d_model": 128, "layers": 4, "heads": 4, "rank": 64},
            "small": {"d_model": 256, "layers": 6, "heads": 8, "rank": 128},
            "full": {"d_model": 768, "layers": 12, "heads": 12, "rank": 256},
        },
    ),
    Architecture(
        name="performer",
        summary="GPT-2's frame with causal attention estimated by random features (FAVOR+)",
        reference="Choromanski et al. 2021, arXiv 2009.14794",
        config=PerformerConfig,
        factory="lvmdb.models.performer:Performer",
        presets={
            "toy": {"d_model": 160, "layers": 2, "heads": 5, "features": 128},
            "small": {"d_model": 256, "layers": 6, "heads": 8, "features": 128},
            "full": {"d_model": 768, "layers": 12, "heads": 12, "features": 256},
        },
        objectives=("last", "every"),
    ),
    Architecture(
        name="lcm",
        summary="Large Concept Model: regression, or diffusion in one or two towers (variant)",
        reference="LCM team 2024, arXiv 2412.08821",
        config=LCMConfig,
        factory="lvmdb.models.lcm:lcm",
        presets={
            "toy": {"d_model": 176, "layers": 2, "heads": 4},
            "small": {"d_model": 256, "layers": 6, "heads": 4},
            "full": {"d_model": 768, "layers": 16, "heads": 12},
        },
        objectives=("last", "every"),
    ),
    _baseline(
        "random",
        "a random unit vector for every query: what chance gives",
        "simple:Random",
        baselines.BaselineConfig,
    ),
    _baseline(
        "train-mean",
        "the mean of all training targets",
        "simple:TrainMean",
        baselines.BaselineConfig,
    ),
    _baseline(
        "copy-last",
        "the last concept of the context again",
        "simple:CopyLast",
        baselines.BaselineConfig,
    ),
    _baseline(
        "context-mean",
        "the mean of the context",
        "simple:ContextMean",
        baselines.BaselineConfig,
    ),
    _baseline(
        "lag-weights",
        "one weight per lag, fitted on train for cosine",
        "lag_weights:LagWeights",
        baselines.LagWeightsConfig,
    ),
    _baseline(
        "ridge",
        "a linear map of the whole context, its strength chosen on validation",
        "ridge:Ridge",
        baselines.RidgeConfig,
    ),
    _baseline(
        "nearest-neighbour",
        "what followed the most similar training context",
        "neighbour:NearestNeighbour",
        baselines.NearestNeighbourConfig,
    ),
)

_BY_NAME = {architecture.name: architecture for architecture in _ALL}
