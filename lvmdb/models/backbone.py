"""The pre-norm residual backbone that sequence mixers share.

    h_0 = W_in x;   h_{i+1} = h_i + dropout(mixer_i(RMSNorm(h_i)));   y = W_out RMSNorm(h_N)

What differs between architectures built on it is the mixer alone (pre-norm: Xiong et al. 2020,
arXiv 2002.04745; RMSNorm: Zhang & Sennrich 2019, arXiv 1910.07467). Where a paper's block has a
part for time and one for channels (attention and a feed-forward layer), each is a mixer of its own,
one after the other. An architecture whose published weights expect another norm names it.

Conditioned, h_0 = (1 + f(code)) W_in x, number by number: see `conditioning`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from lvmdb.models.base import LatentModel, read_context
from lvmdb.models.conditioning import Conditioning

NORM_EPS = 1e-5

Norm = Callable[[int], nn.Module]
"""Makes a norm of a width."""


def rms_norm(width: int) -> nn.Module:
    """RMSNorm, what the backbone has unless an architecture says otherwise."""
    return nn.RMSNorm(width, eps=NORM_EPS)


class Block(nn.Module):
    """One residual block around a mixer.

    The mixer is called with `(batch, time, d_model)` and a mask `(batch, time)` (or None: nothing
    is padded) and returns `(batch, time, d_model)`. It must be causal, unless its model has no
    `states`, and what it returns where there is a concept must not depend on what stands at masked
    positions.
    """

    def __init__(
        self, d_model: int, mixer: nn.Module, dropout: float, norm: Norm = rms_norm
    ) -> None:
        super().__init__()
        self.norm = norm(d_model)
        self.mixer = mixer
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """`(batch, time, d_model) -> (batch, time, d_model)`."""
        mixed: Tensor = self.dropout(self.mixer(self.norm(hidden), mask))
        return hidden + mixed


class Backbone(LatentModel):
    """Input projection, N blocks, norm, output projection.

    Args:
        input_dim: width of a context vector.
        output_dim: width of a predicted vector.
        d_model: width of the residual stream.
        mixers: one per block, in order.
        dropout: probability with which a mixer's output is dropped, number by number.
        norm: makes the norms before the mixers and behind the last block.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        d_model: int,
        mixers: Iterable[nn.Module],
        dropout: float = 0.0,
        norm: Norm = rms_norm,
    ) -> None:
        super().__init__(input_dim)
        self.conditioning: Conditioning | None = None
        self.input_projection = nn.Linear(input_dim, d_model)
        self.blocks = nn.ModuleList(Block(d_model, mixer, dropout, norm) for mixer in mixers)
        self.norm = norm(d_model)
        self.output_projection = nn.Linear(d_model, output_dim)

    def embed(self, context: Tensor, padding: Tensor | None) -> Tensor:
        """The residual stream before the first block, `(batch, time, d_model)`.

        Args:
            context: `(batch, time, input_dim)`, blank at padding.
            padding: the mask `(batch, time)`; None if nothing is padded.
        """
        projected: Tensor = self.input_projection(context)
        return projected

    def condition(self, width: int) -> None:
        self.conditioning = Conditioning(width, self.output_projection.in_features)
        self.input_dim += width

    def hidden(self, context: Tensor, mask: Tensor) -> Tensor:
        """The residual stream behind the last block, `(batch, time, d_model)`."""
        context, padding = read_context(context, mask, self.input_dim)
        if self.conditioning is None:
            stream = self.embed(context, padding)
        else:
            own = self.input_dim - self.conditioning.width
            scale = self.conditioning(context[..., own:])  # (batch, time, d_model)
            stream = self.embed(context[..., :own], padding) * scale
        # Under autocast the stream stays in the context's own precision: small steps add up in it.
        stream = stream.to(context.dtype)
        for block in self.blocks:
            stream = block(stream, padding)
        return stream

    def states(self, context: Tensor, mask: Tensor) -> Tensor:
        """The normed stream, `(batch, time, d_model)`; causal."""
        normed: Tensor = self.norm(self.hidden(context, mask))
        return normed

    def last_state(self, context: Tensor, mask: Tensor) -> Tensor:
        """The normed stream at the last position, `(batch, d_model)`."""
        normed: Tensor = self.norm(self.hidden(context, mask)[:, -1])
        return normed
