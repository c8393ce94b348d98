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
from starlette.types import Scope

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


class PageDoor:
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

    def answer(self, scope: Scope, problem: ProblemError | None) -> Response | None:
        """What a request gets that is not let in: the way to sign in, or one line of why."""
        headers, safe = Headers(scope=scope), scope["method"] in SAFE
        if problem is not None and problem.status == 401 and self._known(scope["path"], headers):
            problem = None
        if problem is None:
            return None if safe or from_here(headers) else error_page(_ELSEWHERE)
        if problem.status != 401 or not safe:
            return error_page(problem)
        query = scope["query_string"].decode("latin-1")
        there = scope["path"] + (f"?{query}" if query else "")
        wanted = f"?{urlencode({'then': there})}" if there != HOME and inside(there) else ""
        return RedirectResponse(SIGN_IN + wanted, status_code=303, headers=HEADERS)

    def _known(self, path: str, headers: Headers) -> bool:
        """Whether a path is open, or somebody has signed in."""
        if path in OPEN:
            return True
        until, _, given = cookie_parser(headers.get("cookie", "")).get(COOKIE, "").partition(".")
        if not (until.isascii() and until.isdecimal() and len(until) <= 12):
            return False
        known = hmac.compare_digest(given.encode(errors="replace"), self._hash(until).encode())
        return known and time.time() < int(until)

    def _hash(self, until: str) -> str:
        assert self._key is not None
        return hmac.new(self._key, f"lvmdb page {until}".encode(), hashlib.sha256).hexdigest()


_ELSEWHERE = ProblemError(403, "wrong_origin", "this form was not sent from a page of this service")


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
