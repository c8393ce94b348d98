"""Who may call: asked of every request before anything of it is read.

With a token, callers send `Authorization: Bearer TOKEN`. Without one a service listens to this
machine alone, and answers only to its names: a web page that points a name of its own at 127.0.0.1
would otherwise speak for whoever looks at it. `/health` and the documentation are open to all.

A service with a page has a `Door` for it: browsers come in by a cookie, to the page alone.
"""

from __future__ import annotations

import hmac
from typing import Protocol

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lvmdb.services.options import is_loopback
from lvmdb.services.problems import ProblemError

OPEN = frozenset({"/health", "/health/live", "/docs", "/redoc", "/openapi.json"})
"""Paths that need no token."""


class Door(Protocol):
    """Decides for the paths of a page."""

    def is_page(self, path: str) -> bool:
        """Whether a path is one of them."""
        ...

    def answer(self, scope: Scope, problem: ProblemError | None) -> Response | None:
        """What a request gets that is not let in; None: it is.

        Args:
            scope: of the request.
            problem: why a program would not be let in with it.
        """
        ...


class Guard:
    """Lets through to `app` who may call it.

    Args:
        app: the application.
        token: what callers must know; None: nothing.
        local: whether it is bound to this machine alone.
        door: to its page; None where it has none.
    """

    def __init__(
        self, app: ASGIApp, token: str | None, local: bool, door: Door | None = None
    ) -> None:
        self._app, self._local, self._door = app, local, door
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or 403, or hand on."""
        if scope["type"] == "http":
            problem = self._refused(scope)
            answer: Response | None = None if problem is None else problem.answer()
            if self._door is not None and self._door.is_page(scope["path"]):
                answer = self._door.answer(scope, problem)
            if answer is not None:
                return await answer(scope, receive, send)
        return await self._app(scope, receive, send)

    def _refused(self, scope: Scope) -> ProblemError | None:
        headers = Headers(scope=scope)
        if self._token is None:
            if self._local and not _is_here(headers.get("host", "")):
                return ProblemError(
                    403,
                    "wrong_host",
                    "the Host header names another machine than this one: set LVMDB_TOKEN to let "
                    "others call",
                )
            return None
        if scope["path"] in OPEN:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # Headers come as Latin-1; in constant time, so that it cannot be guessed letter by letter.
        known = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
        if scheme.lower() == "bearer" and known:
            return None
        return ProblemError(401, "unauthorized", "send the header 'Authorization: Bearer TOKEN'")


def _is_here(host: str) -> bool:
    name = host.rpartition("]")[0].lstrip("[") or host.partition(":")[0]
    return is_loopback(name)
