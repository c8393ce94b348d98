"""Where services listen, and where they find each other."""

from __future__ import annotations

import errno
import os
import socket

from lvmdb.errors import ServiceError, UsageError
from lvmdb.services import records
from lvmdb.services.catalogue import HIGHEST_PORT, SERVICES
from lvmdb.services.options import ServiceOptions

BACKLOG = 512
"""Connections that the system holds while nobody accepts them."""


def decoding_address(options: ServiceOptions, base: int) -> dict[str, str]:
    """The variable that tells services where the decoding service would be among them.

    It is empty where another is set, or where the ports end before it.
    """
    port = base + SERVICES["decoding"].offset
    if options.settings.decoding_url is not None or port > HIGHEST_PORT:
        return {}
    host = records.EVERY_HOST.get(options.host, options.host)
    return {"LVMDB_DECODING_URL": records.Record("decoding", host, port, os.getpid()).url}


def listen(host: str, port: int, service: str) -> socket.socket:
    """A socket that listens there.

    Raises:
        ServiceError: the port is taken, or not to be had.
        UsageError: the host is not an address of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise UsageError(f"--host {host}: no such address") from None
    family, *_, address = found[0]
    try:
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ServiceError(
                f"port {port} of {host}, for {service}, is taken: stop what listens there, or "
                "choose other ports with --port-base"
            ) from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"--host {host}: not an address of this machine") from None
        raise ServiceError(
            f"cannot listen on port {port} of {host}, for {service}: {error.strerror}"
        ) from error
