"""Parameters that are trained gently: no weight decay, and a learning rate of at most 1e-3.

What sets how a state evolves (a decay rate, a frequency, a step size) or how an implicit filter
bends stands in an exponent or a sine, where a small step goes far and where zero, to which decay
pulls, is no neutral value. The authors of such models train these alone so (S4: arXiv 2111.00396,
Hyena: arXiv 2302.10866).

A module names its own in an attribute `trained_gently`, a tuple of parameter names.
"""

from __future__ import annotations

from torch import nn

GENTLE_RATE = 1e-3
"""The highest learning rate of such a parameter."""


def gentle_parameters(model: nn.Module) -> list[nn.Parameter]:
    """All parameters that modules of the model name in `trained_gently`."""
    return [
        module.get_parameter(name)
        for module in model.modules()
        for name in getattr(module, "trained_gently", ())
    ]
