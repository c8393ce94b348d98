"""Who may see a page: a browser sends no bearer token, so it is signed in by one.

The form at `/page/sign-in` takes the token once and gives a cookie that holds a keyed hash of the
time until which it counts: whoever has it can neither learn the token from it nor call the JSON
routes, which ask for the token itself. Nothing is remembered; another token ends all of them.

What a page elsewhere lets a browser send is refused: a form counts only where it comes from a page
of this service.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response

from lvmdb.services.page_asked import HOME, SIGN_IN
from lvmdb.services.problems import ProblemError
from lvmdb.services.rendering import HEADERS, error_page

COOKIE = "lvmdb_signed_in"

SECONDS = 12 * 3600
"""How long a cookie counts."""

PREFIX = "/page/"
"""What the paths of pages begin with, but for `/`."""

OPEN = frozenset({SIGN_IN, "/page/style.css", "/page/icon.svg"})
"""Paths of a page that need no cookie."""

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Door:
    """Lets browsers in.

    Args:
        token: what callers must know; None: nothing.
    """

    def __init__(self, token: str | None) -> None:
        self._key = None if token is None else token.encode()

    @property
    def locked(self) -> bool:
        """Whether somebody must sign in."""
        return self._key is not None

    def is_page(self, path: str) -> bool:
        """Whether a path is one of a page's."""
        return path == HOME or path.startswith(PREFIX)

    def knows(self, given: str) -> bool:
        """Whether this is the token."""
        # In constant time, so that it cannot be guessed letter by letter.
        return self._key is not None and hmac.compare_digest(given.encode(), self._key)

    def cookie(self) -> str:
        """The value of a cookie that counts from now."""
        until = str(int(time.time()) + SECONDS)
        return f"{until}.{self._hash(until)}"

    def lets_in(self, headers: Headers) -> bool:
        """Whether a request comes from somebody who has signed in."""
        if self._key is None:
            return True
        until, _, given = cookie_parser(headers.get("cookie", "")).get(COOKIE, "").partition(".")
        if not (until.isascii() and until.isdecimal() and len(until) <= 12):
            return False
        known = hmac.compare_digest(given.encode("latin-1", "replace"), self._hash(until).encode())
        return known and time.time() < int(until)

    def refused(self, path: str, query: bytes, method: str, problem: ProblemError) -> Response:
        """The answer to a request that is not let in: the way to sign in, or one line of why."""
        if problem.status != 401 or method not in SAFE:
            return error_page(problem)
        there = path + (f"?{query.decode('latin-1')}" if query else "")
        wanted = f"?{urlencode({'then': there})}" if there != HOME and inside(there) else ""
        return RedirectResponse(SIGN_IN + wanted, status_code=303, headers=HEADERS)

    def _hash(self, until: str) -> str:
        assert self._key is not None
        return hmac.new(self._key, f"lvmdb page {until}".encode(), hashlib.sha256).hexdigest()


def from_here(headers: Headers) -> bool:
    """Whether a browser says that a page of this service made it send a form."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    # Older browsers, and those that came by plain HTTP from another machine.
    origin = headers.get("origin", "")
    return bool(origin) and urlsplit(origin).netloc == headers.get("host")


def inside(address: str) -> bool:
    """Whether an address leads to a page of this service, and nowhere else."""
    path = address.partition("?")[0]
    plain = address.isascii() and address.isprintable() and "\\" not in address
    return plain and "//" not in path and (path == HOME or path.startswith(PREFIX))
