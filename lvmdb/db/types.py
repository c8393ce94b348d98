"""The vector's width, and the names that users may give things."""

from __future__ import annotations

import re

from lvmdb.errors import UsageError

DIMENSION = 768
"""Width of a concept vector."""

TMD_DIMENSION = 16
"""Width of the dense domain/task/modifier code."""

SPLITS = ("train", "val", "test")

NAME_PATTERN = r"^[a-z0-9_-]+$"


def checked_name(kind: str, name: str) -> str:
    """`name` if it is one that datasets, sequence sets and pools may have.

    Raises:
        UsageError: it holds other than lower-case letters, digits, `_` and `-`.
    """
    if not re.fullmatch(NAME_PATTERN.strip("^$"), name):
        article = "an" if kind[0] in "aeiou" else "a"
        raise UsageError(
            f"'{name}' cannot name {article} {kind}: use lower-case letters, digits, '_' and '-'"
        )
    return name
