"""A term that holds predictions against what a decoder and an encoder make of them.

    1 - cos(p, E(D(p)))

A vector that no text has goes astray on its way through text: D writes a text for a prediction, E
its vector. Both are handed in as one function from above; nothing here knows a decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lvmdb.errors import ModelError
from lvmdb.training import losses

ROWS = 8
"""Predictions that make the trip in a step, at most, in each process: decoding is slow."""

RoundTrip = Callable[[Tensor], Tensor]
"""From vectors `(n, 768)` to text and back, `(n, 768)`; no gradient flows through it."""


@runtime_checkable
class Stamped(Protocol):
    """A round trip that says what anyone who reads the run's numbers must know of it."""

    stamps: Sequence[str]


def stamps_of(round_trip: RoundTrip | None) -> Sequence[str]:
    """What a run is stamped with for its round trip."""
    return round_trip.stamps if isinstance(round_trip, Stamped) else ()


def makes_trip(step: int, every: int) -> bool:
    """Whether a step, from 1, is one of those that send predictions out; of `every` 0 none is."""
    return every > 0 and step % every == 0


def round_trip_term(round_trip: RoundTrip, prediction: Tensor) -> Tensor:
    """The cosine distance of the first predictions `(rows, 768)` from where they came back to.

    Raises:
        ModelError: other vectors came back than can be held against them.
    """
    sent = prediction[:ROWS]
    with torch.no_grad():
        back = round_trip(sent.detach().float())
    if back.shape != sent.shape or not bool(back.isfinite().all()):
        raise ModelError(
            f"the round trip gave {tuple(back.shape)}, not a finite vector for each of "
            f"{tuple(sent.shape)}"
        )
    return losses.cosine_distance(sent, back.detach().to(sent))
