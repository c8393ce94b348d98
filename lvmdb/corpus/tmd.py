"""Domain/task/modifier codes: the vocabulary, how a code is written, and its dense form.

A number is a label's place in its list, from 0; a part that is not known is None, never 0. The one
vocabulary, 1, is that of the table `tmd_label`, here with a definition of each label beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from lvmdb.db.types import TMD_DIMENSION
from lvmdb.errors import InputError

VOCABULARY = 1

KINDS = ("domain", "task", "modifier")
SIZES = (16, 32, 64)
"""Labels of each kind: 4, 5 and 6 bits."""

Code = tuple[int, int, int]
PartialCode = tuple[int | None, int | None, int | None]
"""A code of which parts may be unknown; of one with an unknown part `tmd_code` is NULL."""

_BITS = (4, 5, 6)
_SEED = 1337


@dataclass(frozen=True)
class Label:
    """What one number of a kind stands for."""

    label: str
    definition: str


@cache
def vocabulary() -> dict[str, tuple[Label, ...]]:
    """The labels by kind, in the order of their numbers."""
    file = resources.files("lvmdb.corpus") / f"tmd_vocabulary_{VOCABULARY}.json"
    read = json.loads(file.read_text(encoding="utf-8"))
    return {kind: tuple(Label(**entry) for entry in read[kind]) for kind in KINDS}


def label(kind: str, number: int) -> str:
    """The label of a number."""
    return vocabulary()[kind][number].label


def number(kind: str, name: str) -> int | None:
    """The number of a label, in whatever case and with `-`, `_` or a space in it; None if none."""
    return _numbers(kind).get(_plain(name))


def is_complete(code: PartialCode | None) -> TypeGuard[Code]:
    """Whether all three parts are known."""
    return code is not None and None not in code


def parse_code(where: str, text: str) -> Code:
    """A code as it is written, `D.T.M`, such as `7.0.5`.

    Raises:
        InputError: it is not of this form, or a number is beyond its list.
    """
    if re.fullmatch(r"\d{1,2}\.\d{1,2}\.\d{1,2}", text, re.ASCII):
        domain, task, modifier = map(int, text.split("."))
        if domain < SIZES[0] and task < SIZES[1] and modifier < SIZES[2]:
            return domain, task, modifier
    raise InputError(
        f"{where}: the TMD code {text[:40]!r} is not D.T.M with D from 0 to {SIZES[0] - 1}, T to "
        f"{SIZES[1] - 1}, M to {SIZES[2] - 1}, such as 7.0.5"
    )


def dense(codes: Sequence[Code]) -> NDArray[np.float32]:
    """The dense form of codes, `(len(codes), 16)` of unit norm: what `tmd_vec` holds.

    A code's 15 bits (4, 5 and 6, the most significant first), as -1 and 1, are projected by a
    fixed Gaussian matrix, `(16, 15)`, and normalised. No code gives zero.
    """
    numbers = np.array(codes, dtype=np.int64).reshape(-1, 3)
    bits = [
        numbers[:, part, None] >> np.arange(width - 1, -1, -1) & 1
        for part, width in enumerate(_BITS)
    ]
    signs = 2.0 * np.concatenate(bits, axis=1) - 1.0  # (codes, 15)
    # Numbers in order, not a product: the same bytes on every machine.
    made = (signs[:, None, :] * _projection()).sum(axis=2)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)


@cache
def _projection() -> NDArray[np.float64]:
    return np.random.default_rng(_SEED).standard_normal((TMD_DIMENSION, sum(_BITS)))


@cache
def _numbers(kind: str) -> dict[str, int]:
    return {_plain(entry.label): place for place, entry in enumerate(vocabulary()[kind])}


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.strip().casefold()))
