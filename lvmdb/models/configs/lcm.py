"""Options of the Large Concept Model."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from lvmdb.errors import ModelError
from lvmdb.models.config import TrainedConfig, at_least, divides, one_of

VARIANTS = ("base", "one_tower", "two_tower")

_OF_DIFFUSION = (
    *("diffusion_steps", "context_dropout", "sampling_steps"),
    *("guidance", "guidance_rescale", "initial_noise", "sample_seed"),
)


@dataclass(frozen=True, kw_only=True)
class LCMConfig(TrainedConfig):
    """A Large Concept Model; see `lcm`. Options that its variant does not read are refused.

    Attributes:
        variant: `base` predicts by regression; `one_tower` and `two_tower` draw by diffusion.
        d_model: width of the residual stream, in both towers.
        layers: pairs of attention and feed-forward layer; of `two_tower`, in its denoiser.
        heads: attention heads; must divide `d_model` into heads of an even width.
        contextualizer_layers: the same pairs in the tower that reads; `two_tower` only.
        diffusion_steps: of the noise schedule.
        context_dropout: probability with which a target is denoised without its context in
            training, for guidance.
        sampling_steps: of a prediction; at most `diffusion_steps`.
        guidance: weight of the context against what is said without it; 1 for none.
        guidance_rescale: share of guidance's added spread that is taken back, 0 to 1.
        initial_noise: deviation of the noise that sampling starts from.
        sample_seed: of that noise, one vector for all predictions.
    """

    variant: Literal["base", "one_tower", "two_tower"] = "base"
    d_model: int = 256
    layers: int = 6
    heads: int = 4
    contextualizer_layers: int = 2
    diffusion_steps: int = 100
    context_dropout: float = 0.15
    sampling_steps: int = 40
    guidance: float = 3.0
    guidance_rescale: float = 0.7
    initial_noise: float = 0.6
    sample_seed: int = 0

    @property
    def generates(self) -> bool:
        return self.variant != "base"

    @property
    def inner(self) -> int:
        """Width of the feed-forward layers: 8/3 of `d_model`, as Llama's, up to a 32nd."""
        return -(-8 * self.d_model // (3 * 32)) * 32

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("variant", self.variant, VARIANTS)
        for name in ("d_model", "layers", "heads", "contextualizer_layers", "sampling_steps"):
            at_least(name, getattr(self, name), 1)
        divides("heads", self.heads, "d_model", self.d_model)
        if self.d_model // self.heads % 2:
            raise ModelError(
                f"heads must divide d_model into heads of an even width, "
                f"not of {self.d_model // self.heads}"
            )
        at_least("diffusion_steps", self.diffusion_steps, 2)
        at_least("sample_seed", self.sample_seed, 0)
        if self.sampling_steps > self.diffusion_steps:
            raise ModelError(
                f"sampling_steps must be at most diffusion_steps ({self.diffusion_steps}), "
                f"not {self.sampling_steps}"
            )
        if self.sample_seed >= 2**63:
            raise ModelError("sample_seed must fit into 63 bits")
        if not 0 <= self.context_dropout < 1:
            raise ModelError(
                f"context_dropout must be at least 0 and below 1, not {self.context_dropout}"
            )
        if not 0 <= self.guidance_rescale <= 1:
            raise ModelError(f"guidance_rescale must be from 0 to 1, not {self.guidance_rescale}")
        for name in ("guidance", "initial_noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ModelError(f"{name} must be 0 or more, not {getattr(self, name)}")
        if self.guidance != 1 and not self.context_dropout:
            raise ModelError(
                "guidance needs a model that has learnt without its context, too: set guidance=1 "
                "or a context_dropout above 0"
            )
        self._refuse_unread()

    def _refuse_unread(self) -> None:
        """An option that changes nothing would be recorded as if it did."""
        unread = {} if self.generates else dict.fromkeys(_OF_DIFFUSION, "one_tower and two_tower")
        if self.variant != "two_tower":
            unread["contextualizer_layers"] = "two_tower"
        for option in fields(self):
            if option.name in unread and getattr(self, option.name) != option.default:
                raise ModelError(
                    f"{option.name} is for {unread[option.name]}, and {self.variant} does not "
                    "read it: set variant, or leave it out"
                )
