"""The services by name: their ports, and where their applications are made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lvmdb.errors import UnknownNameError, UsageError

PORT_BASE = 8000
"""What the services' ports are counted from."""

ALL = "all"

GRACE = 10
"""Seconds that requests have to end when a service is asked to stop."""

LIVE = "live"
"""What a service's process says when it answers."""

REFUSED = 2
"""Exit code of a process that must not be started again: its options are wrong."""

LOWEST_PORT, HIGHEST_PORT = 1, 65_535


@dataclass(frozen=True)
class Service:
    """A service that can be started.

    Attributes:
        name: of the service.
        offset: of its port to the base.
        module: where its `create` is.
        says: what it does, in a few words.
    """

    name: str
    offset: int
    module: str
    says: str

    def port(self, base: int = PORT_BASE) -> int:
        """Its port.

        Raises:
            UsageError: there is no such port.
        """
        port = base + self.offset
        if not LOWEST_PORT <= port <= HIGHEST_PORT:
            raise UsageError(f"--port-base {base} gives {self.name} the port {port}: there is none")
        return port


SERVICES = {
    service.name: service
    for service in (
        Service("chunking", 1, "lvmdb.services.chunking", "texts to concepts"),
        Service("tmd", 2, "lvmdb.services.tmd", "texts to domain/task/modifier codes"),
        Service("lvm", 3, "lvmdb.services.lvm", "contexts to what follows them"),
        Service("ingest", 4, "lvmdb.services.ingest", "articles into the database"),
        Service("embedding", 767, "lvmdb.services.embedding", "texts to vectors"),
        Service("decoding", 768, "lvmdb.services.decoding", "vectors to texts, by vec2text"),
    )
}


def chosen(names: Iterable[str]) -> list[Service]:
    """The services of these names, in the catalogue's order; `all` is all of them.

    Raises:
        UnknownNameError: there is none of a name.
    """
    wanted = set(names)
    for name in sorted(wanted - {ALL}):
        if name not in SERVICES:
            raise UnknownNameError("service", name, [*SERVICES, ALL])
    return [s for s in SERVICES.values() if ALL in wanted or s.name in wanted]
