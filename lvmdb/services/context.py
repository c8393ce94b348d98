"""What belongs to one running service: its options, limits, threads and parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fastapi import Request

from lvmdb.db.engine import Database
from lvmdb.services.limits import Limits
from lvmdb.services.options import ServiceOptions
from lvmdb.services.parts import DatabaseProbe, Needed
from lvmdb.services.problems import not_ready
from lvmdb.services.work import Work


@dataclass(eq=False)
class Context:
    """A running service.

    Attributes:
        name: of the service.
        options: what it was started with.
        limits: what it takes at a time.
        database: the database that it uses.
        parts: what must be loaded before it is ready.
    """

    name: str
    options: ServiceOptions
    limits: Limits
    database: Database
    parts: Sequence[Needed] = ()
    probe: DatabaseProbe = field(init=False)
    work: Work = field(init=False)
    closing: list[Callable[[], None]] = field(default_factory=list)
    """Called when the service ends, for what it holds beside its parts."""

    def __post_init__(self) -> None:
        self.probe = DatabaseProbe(self.database)
        self.work = Work(self.name, self.limits)

    async def lacking(self) -> list[tuple[str, str]]:
        """What is not there, and why."""
        found = [(DatabaseProbe.name, await self.probe.reason())]
        found += [(part.name, part.reason) for part in self.parts]
        return [(name, reason) for name, reason in found if reason is not None]

    async def require_database(self) -> None:
        """Refuse work that would wait for a database that is away.

        Raises:
            ProblemError: 503, it does not answer, or is at another revision.
        """
        reason = await self.probe.reason()
        if reason is not None:
            raise not_ready([(DatabaseProbe.name, reason)])

    def start(self) -> None:
        """Begin to load the parts."""
        for part in self.parts:
            part.start()

    async def close(self) -> None:
        """End what runs in the background, and the sessions that are kept."""
        for part in self.parts:
            part.stop()
        self.work.close()
        for close in self.closing:
            close()
        self.probe.close()
        self.database.close()
        await asyncio.sleep(0)


def context_of(request: Request) -> Context:
    """The context of the service that a request is for."""
    context = request.app.state.context
    assert isinstance(context, Context), "as `application` sets it"
    return context
