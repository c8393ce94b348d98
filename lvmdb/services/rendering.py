"""Pages: templates filled in, with headers that let a page load and run nothing from elsewhere.

Every text is escaped by the templates. Even what escaped all escaping could not run: pages have no
scripts, and their policy allows none.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import HTTPException
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from lvmdb.decoding.decoded import band
from lvmdb.errors import LvmdbError
from lvmdb.services import page_asked
from lvmdb.services.context import context_of
from lvmdb.services.page_asked import Asked, address, pairs_of
from lvmdb.services.problems import RETRY_LATER, ProblemError, clean, from_lvmdb
from lvmdb.services.requests import StrictRequest

TEMPLATES = Path(__file__).parent / "templates"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # With none at all, forms would not say where they come from.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}
"""What every answer of a page has."""

FORM = "application/x-www-form-urlencoded"

log = logging.getLogger("lvmdb.services")

Pairs = list[tuple[str, str]]
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def _cosine(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"  # noqa: RUF001


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.globals |= {
    "address": address,
    "page_asked": page_asked,
    "begun": lambda form: form if isinstance(form, Asked) else Asked(run=form.run),
    "tuple_of": tuple,
}
ENVIRONMENT.filters |= {"cosine": _cosine, "milliseconds": _milliseconds, "band": band}


def page(
    name: str, *, problem: ProblemError | None = None, sign_out: bool = False, **values: Any
) -> HTMLResponse:
    """A page.

    Args:
        name: of its template.
        problem: what went wrong, which it says in one line; its status is the page's.
        sign_out: whether it offers to.
        values: what else the template asks for.
    """
    template = ENVIRONMENT.get_template(name)
    text = template.render(problem=problem, sign_out=sign_out, **values)
    headers = dict(HEADERS)
    if problem is not None and problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    status = 200 if problem is None else problem.status
    return HTMLResponse(text.encode(errors="replace"), status, headers)


def error_page(problem: ProblemError) -> HTMLResponse:
    """A page that says what went wrong, and nothing else."""
    return page("error.html", problem=problem)


def problem_of(error: ProblemError | LvmdbError) -> ProblemError:
    """What an error means to somebody who looks at a page; its message is one line."""
    found = from_lvmdb(error) if isinstance(error, LvmdbError) else error
    if found.status >= 500:
        log.error("page: %s", clean(str(error)))
    return ProblemError(
        found.status, found.code, clean(found.message), retry_after=found.retry_after
    )


class PageRoute(APIRoute):
    """A route of a page: it takes one of the service's places, and all errors are pages."""

    def get_route_handler(self) -> Handler:
        """The handler of `APIRoute`, whose request has the form's fields."""
        handle = super().get_route_handler()

        async def showing(request: Request) -> Response:
            context = context_of(request)
            try:
                with context.work.place():
                    request.state.pairs = await _pairs(request)
                    return await handle(request)
            except (ProblemError, LvmdbError) as error:
                return error_page(problem_of(error))
            except HTTPException:
                raise
            except Exception:
                log.exception("%s %s", request.method, request.url.path)
                said = "a fault of the service: its log says more"
                return error_page(
                    ProblemError(500, "internal_error", said, retry_after=RETRY_LATER)
                )

        return showing


async def _pairs(request: Request) -> Pairs:
    """The fields of a form, or of the address."""
    if request.method != "POST":
        return pairs_of(request.scope["query_string"])
    strict = StrictRequest(request.scope, request.receive)
    kind = strict.headers.get("content-type", "").lower().partition(";")[0].strip()
    if kind != FORM:
        raise ProblemError(415, "unsupported_media_type", f"a form is sent as {FORM}")
    return pairs_of(await strict.body())


def pairs(request: Request) -> Pairs:
    """The fields that a `PageRoute` has read."""
    found: Pairs = request.state.pairs
    return found
