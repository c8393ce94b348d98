"""How much a service takes at a time: beyond it, a request is refused rather than remembered."""

from __future__ import annotations

from dataclasses import dataclass

from lvmdb.errors import UsageError

TEXT_LENGTH = 200_000
"""Characters of a text."""

TEXTS = 256
"""Texts of a request."""

KEY_LENGTH, TITLE_LENGTH, URL_LENGTH, NAME_LENGTH = 512, 1_000, 2_000, 100
"""Characters of an article's key (which PostgreSQL's index must hold), of its title and URL, and of
names."""


@dataclass(frozen=True)
class Limits:
    """The limits of one service.

    Attributes:
        body_bytes: of a request's body.
        body_seconds: in which it must have arrived.
        work_seconds: that a request may wait and be worked on.
        threads: that work; each works on one request.
        waiting: requests that may wait for one of them.

    Raises:
        UsageError: a limit that lets nothing pass.
    """

    body_bytes: int = 8 << 20
    body_seconds: float = 20.0
    work_seconds: float = 60.0
    threads: int = 1
    waiting: int = 32

    def __post_init__(self) -> None:
        for name in ("body_bytes", "body_seconds", "work_seconds", "threads"):
            if getattr(self, name) <= 0:
                raise UsageError(f"a service's {name} must be above 0: {getattr(self, name)}")
        if self.waiting < 0:
            raise UsageError(f"a service's waiting must be at least 0: {self.waiting}")
