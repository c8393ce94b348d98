"""GPT-2: exact causal attention, learnt positions; vectors in place of tokens.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; six layers of 768 are
DistilGPT-2 (Sanh et al. 2019, arXiv 1910.01108), twelve are the small GPT-2. Every parameter of
transformers' `GPT2Model` but the token embedding has its counterpart:

    wpe                      positions
    h.N.ln_1, h.N.attn.*     blocks.2N.norm, blocks.2N.mixer.*          * = c_attn, c_proj
    h.N.ln_2, h.N.mlp.*      blocks.(2N+1).norm, blocks.(2N+1).mixer.*  * = c_fc, c_proj
    ln_f                     norm

The weights of its c_attn, c_fc and c_proj (`Conv1D`) are transposed: `(in, out)`.
"""

from __future__ import annotations

from lvmdb.models.attention import CausalAttention
from lvmdb.models.configs.gpt2 import GPT2Config
from lvmdb.models.transformer import Transformer


class GPT2(Transformer):
    """GPT-2's blocks, `(batch, time, 768) -> (batch, 768)`, or `(batch, time, 768)` by `every`."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(
            config, lambda: CausalAttention(config.d_model, config.heads), config.max_positions
        )
