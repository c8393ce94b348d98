"""What encoders compute in: float32, bfloat16, or int8 on a CPU.

int8 is dynamic: weights are quantised once, by output channel; activations when they come. A few
tokens and a few channels of a transformer have values a hundred times those of the others, and one
scale for all leaves nothing of the rest: the vectors of all-mpnet-base-v2 then have a cosine of .5
with what they should be. So each token has a scale of its own, and channels are evened out first
(Xiao et al. 2023, "SmoothQuant", eq. 4 with α = 1/2), which makes that .99.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lvmdb.errors import EncoderError

if TYPE_CHECKING:
    import torch

_CPU = (1024, 128)
_GPU = (16_384, 512)


def budgets(device: str) -> tuple[int, int]:
    """Tokens and texts of a batch: on a CPU, larger ones leave the caches."""
    return _CPU if device == "cpu" else _GPU


def dtype_of(precision: str | None) -> torch.dtype:
    """What weights are loaded in: int8 is made from float32."""
    import torch

    return torch.bfloat16 if precision == "bf16" else torch.float32


def quantise(model: torch.nn.Module, device: str, run: Callable[[], object]) -> None:
    """Replace the linear layers of the transformer in a model by layers that compute in int8.

    Args:
        model: in float32; its heads behind the pooling stay as they are.
        device: where it is.
        run: encodes something, so that it is seen how large activations are.

    Raises:
        EncoderError: there is no int8 there, or in this release of torch.
    """
    from torch import nn

    if device != "cpu":
        raise EncoderError(f"--precision int8 is for CPUs, not for {device}: take bf16")
    # In sentence-transformers the transformer is the first of several modules.
    body = model[0] if isinstance(model, nn.Sequential) else model
    layers = {name: m for name, m in body.named_modules() if type(m) is nn.Linear}
    largest: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            found = inputs[0].detach().abs().flatten(0, -2).amax(dim=0)
            largest[name] = found.maximum(largest[name]) if name in largest else found

        return hook

    hooks = [m.register_forward_pre_hook(watch(name)) for name, m in layers.items()]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    for name in largest:  # what was not run (a pooler that nobody asks) stays as it is
        parent, _, child = name.rpartition(".")
        setattr(body.get_submodule(parent), child, _int8(layers[name], largest[name]))


def _int8(layer: torch.nn.Linear, largest: torch.Tensor) -> torch.nn.Module:
    """A layer that gives what `layer` gives, to about two digits.

    Args:
        layer: `(out, in)`.
        largest: `(in,)`, the largest activation of each channel.
    """
    import torch
    from torch import nn

    weight = layer.weight.detach()
    # SmoothQuant, eq. 4: s_j = max|X_j|^α / max|W_j|^(1-α)
    smooth = (largest.clamp_min(1e-5) / weight.abs().amax(dim=0).clamp_min(1e-5)).sqrt()  # (in,)
    weight = weight * smooth
    scales = weight.abs().amax(dim=1).clamp_min(1e-9).double() / 127  # (out,)
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces that the interface will change
            quantised = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
            packed = torch.ops.quantized.linear_prepack(quantised, None)
    except (AttributeError, RuntimeError) as error:
        raise EncoderError(
            f"--precision int8: torch {torch.__version__} has none for this machine: take fp32"
        ) from error

    class Int8Linear(nn.Module):
        """Weights by output channel, activations by token."""

        weight = None  # T5 asks for its type

        def __init__(self) -> None:
            super().__init__()
            self.smooth, self.bias = smooth, layer.bias

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            evened = inputs / self.smooth
            scale = evened.abs().amax(dim=-1, keepdim=True).clamp_min(1e-9)  # (..., 1)
            # Without `reduce_range`, sums overflow on CPUs that have no VNNI.
            output = torch.ops.quantized.linear_dynamic(evened / scale, packed, reduce_range=True)
            scaled: torch.Tensor = output * scale
            return scaled if self.bias is None else scaled + self.bias

    return Int8Linear()
