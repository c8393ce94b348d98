"""What is known of the training targets before the first step: their mean and covariance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lvmdb.errors import ModelError


@dataclass(frozen=True)
class Statistics:
    """Of the targets of all training windows.

    Attributes:
        mean: `(768,)` float64.
        covariance: `(768, 768)` float64, divided by the number of targets.
    """

    mean: Tensor
    covariance: Tensor


def measure(targets: Iterable[Tensor]) -> Statistics:
    """The statistics of targets that come in blocks `(rows, 768)`, in one pass.

    Raises:
        ModelError: there are none.
    """
    count, total, products = 0, torch.zeros(0), torch.zeros(0)
    for block in targets:
        rows = block.double()
        if not count:
            width = rows.shape[1]
            total = torch.zeros(width, dtype=torch.float64)
            products = torch.zeros(width, width, dtype=torch.float64)
        count += len(rows)
        total += rows.sum(0)
        products.addmm_(rows.t(), rows)
    if not count:
        raise ModelError("there is no training window to take a mean of")
    mean = total / count
    return Statistics(mean, products / count - torch.outer(mean, mean))
