"""The process of one service: `python -m lvmdb.services.process NAME --socket N OPTIONS`.

The supervisor binds the socket, so that it is there before the process and outlives it. Standard
input is the process's lifeline: it ends when the supervisor does. When it answers, it says so on
standard output, in one line; what it logs goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import uvicorn

from lvmdb.errors import LvmdbError
from lvmdb.services.catalogue import GRACE, LIVE, REFUSED, SERVICES
from lvmdb.services.options import ServiceOptions
from lvmdb.settings import Settings

_FORMAT = "%(asctime)s %(levelname)s %(message)s"

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"format": _FORMAT},
        "access": {
            "()": "uvicorn.logging.AccessFormatter",
            "fmt": '%(asctime)s %(levelname)s %(client_addr)s "%(request_line)s" %(status_code)s',
            "use_colors": False,
        },
    },
    "handlers": {
        "plain": {"class": "logging.StreamHandler", "formatter": "plain"},
        "access": {"class": "logging.StreamHandler", "formatter": "access"},
    },
    "root": {"handlers": ["plain"], "level": "WARNING"},
    "loggers": {
        "lvmdb": {"level": "INFO"},
        "uvicorn.error": {"level": "INFO"},
        "uvicorn.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
    },
}


class Server(uvicorn.Server):
    """A server that says when it answers."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets=sockets)
        if self.started:
            sys.stdout.write(f"{LIVE}\n")
            sys.stdout.flush()


def serve(name: str, listener: socket.socket, options: ServiceOptions) -> None:
    """Serve until SIGTERM, SIGINT or the end of standard input.

    Args:
        name: of the service.
        listener: a bound socket.
        options: of the service.

    Raises:
        LvmdbError: the options are wrong.
    """
    app = import_module(SERVICES[name].module).create(options)
    config = uvicorn.Config(
        app,
        lifespan="on",
        ws="none",
        log_config=LOGGING,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    server = Server(config)
    threading.Thread(target=_end_with, args=(server,), name="lvmdb-lifeline", daemon=True).start()
    server.run(sockets=[listener])


def _end_with(server: uvicorn.Server) -> None:
    """End the server when nobody holds the other end of standard input any more."""
    while os.read(0, 1024):
        pass
    server.should_exit = True
    time.sleep(2 * GRACE)
    os._exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the process; it ends without waiting for threads that nobody waits for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=list(SERVICES))
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--options", type=json.loads, required=True)
    given = parser.parse_args(arguments)
    code = 0
    try:
        settings = Settings.from_environment()
        assert settings.dsn is not None, "the supervisor sets it"
        options = ServiceOptions(settings=settings, dsn=settings.dsn, **given.options)
        serve(given.name, socket.socket(fileno=given.socket), options)
    except KeyboardInterrupt:
        pass
    except LvmdbError as error:
        sys.stderr.write(f"lvmdb: {' '.join(str(error).split())}\n")
        code = REFUSED
    sys.stderr.flush()
    # Work that nobody waits for may go on in threads, which an ordinary end would wait for.
    os._exit(code)


if __name__ == "__main__":
    main()
