"""What the diffusing Large Concept Models share: how they are trained, and how they predict.

They denoise: from a vector with noise, the time of the noise and a context they say what the vector
was (x0-prediction; LCM team 2024, arXiv 2412.08821, section 2.3). Training asks this once at a time
drawn uniformly; a prediction asks it step by step, from noise alone, with classifier-free guidance.

**What is diffused** is of unit order. `LagResidual` hands over the difference to the weighted
context, times sqrt(output_dim), and scales the answer back. Alone, a model does the same with the
target itself: a number of a unit vector has a deviation of 1 / sqrt(output_dim), which noise of
deviation 1 would bury at every time of the schedule.

**What is returned** is the sample on that scale, as it is. A last projection to the unit sphere
would be right for a sum of context and residual, and only there: the residual itself is on no
sphere. Whoever compares by cosine, or evaluates, normalises.

**What is random.** In training, time, noise and dropped contexts come from torch's own generator,
which is seeded for every step. In evaluation nothing is left to chance: `denoised` draws time and
noise from a seed of its own, with no context dropped, and a prediction starts from one vector of
noise, the same for every context.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from lvmdb.errors import ModelError
from lvmdb.models import diffusion
from lvmdb.models.base import LatentModel
from lvmdb.models.configs.lcm import LCMConfig
from lvmdb.models.rotary import Memory

EVALUATION_SEED = 0
"""Of the times and the noise that a loss is evaluated with."""


@dataclass(frozen=True)
class Reading:
    """Contexts, read once, as they are asked at every step of denoising.

    A question is a vector that is to be denoised: one after the context, or one after each of its
    positions.

    Attributes:
        layers: what each layer reads.
        positions: `(questions,)`, where the questions stand.
        seen: `(batch, questions, keys)` bool, what each question reads, given its context.
        unseen: the same, without it.
    """

    layers: list[Memory]
    positions: Tensor
    seen: Tensor
    unseen: Tensor


class DiffusionLCM(LatentModel):
    """A model that draws `(batch, output_dim)`, or `(batch, time, output_dim)` by `every`."""

    generates = True

    def __init__(self, config: LCMConfig) -> None:
        super().__init__(config.input_dim)
        self.config = config
        self.unit = math.sqrt(config.output_dim)
        self._scale = 1.0 if config.residual else self.unit
        # Neither a parameter nor a buffer: always in double precision, and on the host.
        self._alphas_cumprod = diffusion.schedule(config.diffusion_steps)

    @abstractmethod
    def read(self, context: Tensor, mask: Tensor, every: bool) -> Reading:
        """Read contexts, for one question after each of them or after each of their positions.

        Args:
            context, mask: as for `last_state`.
            every: whether there are as many questions as positions.
        """

    @abstractmethod
    def denoise(self, noisy: Tensor, step: Tensor, reading: Reading, seen: Tensor) -> Tensor:
        """What each noisy vector was, `(batch, questions, output_dim)`.

        Args:
            noisy: x_t, `(batch, questions, output_dim)`.
            step: t, whole numbers that broadcast to `(batch, questions)`.
            reading: of the contexts.
            seen: `(batch, questions, keys)` bool, what each question reads.
        """

    def last_state(self, context: Tensor, mask: Tensor) -> Tensor:
        raise self._stateless()

    def states(self, context: Tensor, mask: Tensor) -> Tensor:
        raise self._stateless()

    def forward(self, context: Tensor, mask: Tensor) -> Tensor:
        return self._sampled(self.read(context, mask, every=False)).squeeze(1)

    def every(self, context: Tensor, mask: Tensor) -> Tensor:
        return self._sampled(self.read(context, mask, every=True))

    def denoised(self, context: Tensor, mask: Tensor, target: Tensor) -> Tensor:
        every = target.dim() == 3
        reading = self.read(context, mask, every)
        clean = (target if every else target.unsqueeze(1)) * self._scale
        asked = clean.shape[:2]  # (batch, questions)
        if self.training:
            generator, place = None, clean.device
        else:
            # On the host, so that every device has the same.
            generator = torch.Generator().manual_seed(EVALUATION_SEED)
            place = torch.device("cpu")
        steps = self.config.diffusion_steps
        step = torch.randint(steps, asked, generator=generator, device=place).to(clean.device)
        noise = torch.randn(clean.shape, generator=generator, device=place, dtype=clean.dtype)
        seen = reading.seen
        if self.training:
            kept = torch.rand(asked, device=place) >= self.config.context_dropout
            seen = torch.where(kept.unsqueeze(-1), seen, reading.unseen)
        share = self._alphas_cumprod.to(clean.dtype).to(clean.device)[step].unsqueeze(-1)
        noisy = diffusion.noised(clean, noise.to(clean.device), share)
        said = self.denoise(noisy, step, reading, seen) / self._scale
        return said if every else said.squeeze(1)

    def _sampled(self, reading: Reading) -> Tensor:
        """A prediction for each question, `(batch, questions, output_dim)`."""
        config = self.config
        batch, questions, _ = reading.seen.shape
        of = reading.layers[0][0]
        start = self._start().to(of.device).expand(batch, questions, -1)

        def denoise(noisy: Tensor, time: int) -> Tensor:
            step = torch.tensor([[time]], device=noisy.device)
            said = self.denoise(noisy, step, reading, reading.seen)
            if config.guidance != 1:
                without = self.denoise(noisy, step, reading, reading.unseen)
                said = diffusion.guided(said, without, config.guidance, config.guidance_rescale)
            # Under autocast, too, small steps add up in the start's own precision.
            return said.to(noisy.dtype)

        sampled = diffusion.sample(denoise, start, self._alphas_cumprod, config.sampling_steps)
        return sampled / self._scale

    def _start(self) -> Tensor:
        """The noise that every prediction starts from, `(output_dim,)` on the host."""
        generator = torch.Generator().manual_seed(self.config.sample_seed)
        noise = torch.randn(self.config.output_dim, generator=generator, device="cpu")
        return self.config.initial_noise * noise.to(self.output_projection.weight.dtype)

    def _stateless(self) -> ModelError:
        return ModelError(
            f"{type(self).__name__} draws its predictions by diffusion: no state of a context "
            "holds them, and it is trained by 'diffusion'"
        )
