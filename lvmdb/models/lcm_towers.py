"""The two Large Concept Models that diffuse: One-Tower and Two-Tower.

LCM team 2024, arXiv 2412.08821, sections 2.3.3 and 2.3.4. Both read a context once: its side of the
computation depends on no noise. What is denoised stands one position behind what it follows, and
every position can be denoised at once: each sees what came before it, and no other noisy vector.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvmdb.models.attention import causal
from lvmdb.models.backbone import NORM_EPS, rms_norm
from lvmdb.models.base import read_context
from lvmdb.models.configs.lcm import LCMConfig
from lvmdb.models.lcm_diffusion import DiffusionLCM, Reading
from lvmdb.models.rotary import Memory, RotaryAttention, SwiGLU

FREQUENCIES = 128
"""Of the timestep embedding; each gives a cosine and a sine."""

LONGEST_PERIOD = 10_000.0


class TimestepEmbedding(nn.Module):
    """`W_2 silu(W_1 [cos tw, sin tw])`, of frequencies w from 1 down to 1 / 10000.

    (Ho et al. 2020, arXiv 2006.11239, appendix B.)
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.inner = nn.Linear(2 * FREQUENCIES, d_model)
        self.outer = nn.Linear(d_model, d_model)

    def forward(self, step: Tensor, dtype: torch.dtype) -> Tensor:
        """`(batch, questions) -> (batch, questions, d_model)`."""
        place = torch.arange(FREQUENCIES, device=step.device, dtype=dtype) / FREQUENCIES
        angle = step.to(dtype).unsqueeze(-1) * LONGEST_PERIOD**-place
        waves = torch.cat([angle.cos(), angle.sin()], -1)  # (batch, questions, 256)
        embedded: Tensor = self.outer(F.silu(self.inner(waves)))
        return embedded


class Layer(nn.Module):
    """A pre-norm pair of attention and feed-forward layer, `(batch, time, d_model)` to the same."""

    def __init__(self, config: LCMConfig) -> None:
        super().__init__()
        self.attention_norm = rms_norm(config.d_model)
        self.attention = RotaryAttention(config.d_model, config.heads)
        self.feed_forward_norm = rms_norm(config.d_model)
        self.feed_forward = SwiGLU(config.d_model, config.inner)
        self.dropout = nn.Dropout(config.dropout)

    def memory(self, stream: Tensor, positions: Tensor) -> Memory:
        """What can be read of the stream `(batch, time, d_model)` at this layer."""
        return self.attention.memory(self.attention_norm(stream), positions)

    def forward(
        self, stream: Tensor, positions: Tensor, memory: Memory, seen: Tensor | None
    ) -> Tensor:
        """One layer up; arguments as for `RotaryAttention.read`."""
        read = self.attention.read(self.attention_norm(stream), positions, memory, seen)
        stream = stream + self.dropout(read)
        fed: Tensor = self.dropout(self.feed_forward(self.feed_forward_norm(stream)))
        return stream + fed


class ModulatedLayer(nn.Module):
    """A pair of cross-attention and feed-forward layer that the time modulates (AdaLN).

        y = x + gate * part((1 + scale) * RMSNorm(x) + shift);   [shift, scale, gate] = W silu(time)

    W and its bias are zero at first, and so is what each part adds (Peebles & Xie 2023,
    arXiv 2212.09748). The paper's self-attention is left out: it sees its own position alone, where
    it is a linear map.
    """

    def __init__(self, config: LCMConfig) -> None:
        super().__init__()
        width = config.d_model
        # No weight: the modulation has one.
        self.norm = nn.RMSNorm(width, eps=NORM_EPS, elementwise_affine=False)
        self.attention = RotaryAttention(width, config.heads)
        self.feed_forward = SwiGLU(width, config.inner)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, stream: Tensor, time: Tensor, positions: Tensor, memory: Memory, seen: Tensor
    ) -> Tensor:
        """`(batch, questions, d_model)` to the same; `time` broadcasts to it."""
        shift, scale, gate, *second = self.modulation(F.silu(time)).chunk(6, -1)
        modulated = (1 + scale) * self.norm(stream) + shift
        stream = stream + gate * self.dropout(
            self.attention.read(modulated, positions, memory, seen)
        )
        shift, scale, gate = second
        modulated = (1 + scale) * self.norm(stream) + shift
        fed: Tensor = gate * self.dropout(self.feed_forward(modulated))
        return stream + fed


class OneTower(DiffusionLCM):
    """One causal transformer over the context and, behind it, the noisy concept.

    The noisy concept carries the embedding of its time, and reads the context and itself; without
    context, itself alone. The context does not read it, so that what is read of the context is
    computed once.
    """

    def __init__(self, config: LCMConfig) -> None:
        super().__init__(config)
        width = config.d_model
        self.input_projection = nn.Linear(config.input_dim, width)
        self.noisy_projection = nn.Linear(config.output_dim, width)
        self.time = TimestepEmbedding(width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = rms_norm(width)
        self.output_projection = nn.Linear(width, config.output_dim)

    def read(self, context: Tensor, mask: Tensor, every: bool) -> Reading:
        context, padding = read_context(context, mask, self.input_dim)
        batch, time = mask.shape
        place = torch.arange(time + 1, device=context.device)
        # Under autocast the stream stays in the context's own precision.
        stream = self.input_projection(context * self.unit).to(context.dtype)
        causally = None if padding is None else causal(padding)
        layers = _each(self.layers)
        memories = [layers[0].memory(stream, place[:-1])]
        # What the last layer adds to the context is read by nobody.
        for below, layer in pairwise(layers):
            stream = below(stream, place[:-1], memories[-1], causally)
            memories.append(layer.memory(stream, place[:-1]))
        asked = place[1:] if every else place[-1:]
        seen = (place[:-1] < asked.unsqueeze(-1)) & mask.unsqueeze(1)  # (batch, questions, time)
        itself = torch.eye(len(asked), dtype=torch.bool, device=mask.device).expand(batch, -1, -1)
        return Reading(
            layers=memories,
            positions=asked,
            seen=torch.cat([seen, itself], -1),
            unseen=torch.cat([torch.zeros_like(seen), itself], -1),
        )

    def denoise(self, noisy: Tensor, step: Tensor, reading: Reading, seen: Tensor) -> Tensor:
        projected = self.noisy_projection(noisy) + self.time(step, noisy.dtype)
        stream = projected.to(noisy.dtype)
        for layer, (keys, values) in zip(_each(self.layers), reading.layers, strict=True):
            own_keys, own_values = layer.memory(stream, reading.positions)
            memory = torch.cat([keys, own_keys], 2), torch.cat([values, own_values], 2)
            stream = layer(stream, reading.positions, memory, seen)
        denoised: Tensor = self.output_projection(self.norm(stream))
        return denoised


class TwoTower(DiffusionLCM):
    """A causal contextualizer, and a denoiser that reads it by cross-attention.

    The contextualizer's first concept is a zero vector, the null context: the one thing that is
    read where a concept is denoised without its context.
    """

    def __init__(self, config: LCMConfig) -> None:
        super().__init__(config)
        width = config.d_model
        self.input_projection = nn.Linear(config.input_dim, width)
        self.contextualizer = nn.ModuleList(
            Layer(config) for _ in range(config.contextualizer_layers)
        )
        self.context_norm = rms_norm(width)
        self.noisy_projection = nn.Linear(config.output_dim, width)
        self.time = TimestepEmbedding(width)
        self.denoiser = nn.ModuleList(ModulatedLayer(config) for _ in range(config.layers))
        self.norm = rms_norm(width)
        self.output_projection = nn.Linear(width, config.output_dim)

    def read(self, context: Tensor, mask: Tensor, every: bool) -> Reading:
        context, padding = read_context(context, mask, self.input_dim)
        time = mask.shape[1]
        # Padding is blank: one more position on the left, and the last blank one, right before the
        # first concept, is the null context. Padded further or not, all keep their distances.
        context = F.pad(context, (0, 0, 1, 0))
        present = F.pad(mask, (0, 1), value=True)  # (batch, time + 1)
        null = present & ~F.pad(mask, (1, 0), value=False)
        place = torch.arange(time + 2, device=context.device)
        keys = place[:-1]
        stream = self.input_projection(context * self.unit).to(context.dtype)
        causally = None if padding is None else causal(present)
        for layer in _each(self.contextualizer):
            stream = layer(stream, keys, layer.memory(stream, keys), causally)
        encoded = self.context_norm(stream)  # (batch, time + 1, d_model)
        asked = place[2:] if every else place[-1:]
        before = (keys < asked.unsqueeze(-1)) & present.unsqueeze(1)
        unseen = null.unsqueeze(1).expand(-1, len(asked), -1)
        return Reading(
            layers=[block.attention.memory(encoded, keys) for block in _blocks(self.denoiser)],
            positions=asked,
            # The null context is there for a question before all concepts, too.
            seen=before | unseen,
            unseen=unseen,
        )

    def denoise(self, noisy: Tensor, step: Tensor, reading: Reading, seen: Tensor) -> Tensor:
        time = self.time(step, noisy.dtype)
        stream = self.noisy_projection(noisy).to(noisy.dtype)
        for block, memory in zip(_blocks(self.denoiser), reading.layers, strict=True):
            stream = block(stream, time, reading.positions, memory, seen)
        denoised: Tensor = self.output_projection(self.norm(stream))
        return denoised


def _each(layers: nn.ModuleList) -> list[Layer]:
    return cast("list[Layer]", list(layers))


def _blocks(layers: nn.ModuleList) -> list[ModulatedLayer]:
    return cast("list[ModulatedLayer]", list(layers))
