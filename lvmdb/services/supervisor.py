"""Starts services, each in a process of its own, and looks after them until it is asked to stop.

A service that does not start ends the whole.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence

from lvmdb.services import records
from lvmdb.services.catalogue import HIGHEST_PORT, SERVICES, Service
from lvmdb.services.child import Child
from lvmdb.services.options import ServiceOptions, require_token

_TICK = 0.1


class Supervisor:
    """Services of one `LVMDB_HOME`.

    Args:
        services: which ones.
        options: what they are started with.
        base: what their ports are counted from.
        say: told each line that they say, and what becomes of them.
    """

    def __init__(
        self,
        services: Sequence[Service],
        options: ServiceOptions,
        base: int,
        say: Callable[[str], None],
    ) -> None:
        self._services, self._options, self._base, self._say = services, options, base, say
        self._stopping = self._killing = False

    def stop(self) -> None:
        """Ask the services to end; a second call ends them at once."""
        self._killing = self._stopping
        self._stopping = True

    def run(self) -> None:
        """Serve until all services have been stopped.

        Raises:
            SettingsError: other machines would reach them, and there is no token.
            ServiceError: a port is taken, a service runs already, or one of them does not start.
        """
        require_token(self._options)
        ports = [(service, service.port(self._base)) for service in self._services]
        decoding = decoding_address(self._options, self._base)
        with contextlib.ExitStack() as opened:
            children = []
            for service, port in ports:
                child = Child(service, port, self._options, decoding, self._say)
                opened.callback(child.close)
                child.claim()
                children.append(child)
            for child in children:
                child.start()
            try:
                self._look_after(children)
            finally:
                _end(children)

    def _look_after(self, children: list[Child]) -> None:
        while any(not child.done for child in children):
            for child in children:
                if self._killing:
                    child.kill()
                elif self._stopping:
                    child.stop()
                child.look()
            time.sleep(_TICK)


def _end(children: list[Child]) -> None:
    """What still runs when the supervisor fails is ended with it."""
    for child in children:
        child.stop()
    while any(not child.done for child in children):
        for child in children:
            child.look()
        time.sleep(_TICK)


def decoding_address(options: ServiceOptions, base: int) -> dict[str, str]:
    """The variable that tells services where the decoding service would be among them.

    It is empty where another is set, or where the ports end before it.
    """
    port = base + SERVICES["decoding"].offset
    if options.settings.decoding_url is not None or port > HIGHEST_PORT:
        return {}
    host = records.EVERY_HOST.get(options.host, options.host)
    return {"LVMDB_DECODING_URL": records.Record("decoding", host, port, os.getpid()).url}
