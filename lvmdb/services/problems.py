"""What a service answers when it cannot do what was asked: one shape, whatever went wrong.

    {"error": {"code": "invalid_request", "message": "texts.0: must not be empty",
               "details": [{"field": "texts.0", "message": "must not be empty"}]}}

`code` is for programs and does not change, `message` is for people, `details` says which fields.
What the caller did wrong is 4xx; 5xx is the service's own trouble, and 503 comes with Retry-After.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from lvmdb.errors import (
    ConnectionLostError,
    CorpusError,
    DatabaseError,
    EndpointError,
    InputError,
    LvmdbError,
    MissingDependencyError,
    RevisionError,
    SettingsError,
    UnknownNameError,
    UsageError,
)

MOST_DETAILS = 20
"""Fields that an answer names; more are only counted."""

LONGEST_MESSAGE = 500
"""Characters of a message, which may quote what was sent."""

DATABASE_AWAY = "the database does not answer"
"""All that callers learn of it: where it is, is for the log."""

RETRY_SOON, RETRY_LATER = 2, 30
"""Seconds after which to ask again: of a busy service, and of one that lacks something."""

log = logging.getLogger("lvmdb.services")


class Detail(BaseModel):
    """One field and what is wrong with it."""

    field: str = Field(description="Where, e.g. `texts.3`; empty for the body as a whole.")
    message: str


class Error(BaseModel):
    """What went wrong."""

    code: str = Field(description="For programs: one of a fixed set of words.")
    message: str = Field(description="For people.")
    details: list[Detail] = []


class Problems(BaseModel):
    """The body of every answer that is not a success."""

    error: Error


class ProblemError(Exception):
    """Ends a request with an answer of this shape.

    Args:
        status: HTTP's.
        code: for programs.
        message: for people.
        details: fields, and what is wrong with each.
        retry_after: seconds after which the same request may succeed.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Sequence[tuple[str, str]] = (),
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.details, self.retry_after = details, retry_after

    def answer(self, headers: dict[str, str] | None = None) -> JSONResponse:
        """The response."""
        headers = dict(headers or {})
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(), status_code=self.status, headers=headers)

    def body(self) -> dict[str, Any]:
        """What the response holds."""
        error = Error(
            code=self.code,
            message=clean(self.message),
            details=[Detail(field=clean(f), message=clean(m)) for f, m in self.details],
        )
        return Problems(error=error).model_dump()


def clean(text: str) -> str:
    """One line of bounded length that UTF-8 can hold."""
    line = " ".join(text.split()).encode(errors="backslashreplace").decode()
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 1] + "…"


def not_ready(reasons: Sequence[tuple[str, str]]) -> ProblemError:
    """The service lacks something: which, and why."""
    said = "; ".join(f"{name}: {reason}" for name, reason in reasons)
    return ProblemError(503, "not_ready", said, reasons, RETRY_SOON)


def overloaded() -> ProblemError:
    """Too many requests wait already."""
    return ProblemError(
        503, "overloaded", "too many requests wait already: try again", retry_after=RETRY_SOON
    )


def documented(*more: int) -> dict[int | str, dict[str, Any]]:
    """The statuses that a route with a body may answer with, for its OpenAPI description."""
    statuses = (400, 401, 403, 408, 413, 415, 422, 500, 503, 504, *more)
    return {
        status: {"model": Problems, "description": _MEANINGS[status]} for status in sorted(statuses)
    }


_MEANINGS = {
    400: "The body is not JSON.",
    401: "The bearer token is missing or wrong.",
    403: "The Host header names another machine.",
    404: "There is no such path.",
    405: "The path is there, but not for this method.",
    408: "The body did not arrive in time.",
    409: "It contradicts what the database holds.",
    413: "The body is too large.",
    415: "The body is not said to be JSON.",
    422: "A field is missing, unknown or wrong.",
    500: "A fault of the service, which its log describes.",
    503: "Overloaded or not ready; Retry-After says when to try again.",
    504: "The work took too long.",
}

_CODES = {404: "not_found", 405: "method_not_allowed"}


def from_lvmdb(error: LvmdbError) -> ProblemError:
    """What an error of lvmdb's own means to a caller."""
    said = str(error)
    if isinstance(error, ConnectionLostError):
        return ProblemError(503, "database_unavailable", DATABASE_AWAY, retry_after=RETRY_SOON)
    if isinstance(error, RevisionError | MissingDependencyError | SettingsError):
        return ProblemError(503, "not_ready", said, retry_after=RETRY_LATER)
    if isinstance(error, DatabaseError):
        refused = "the database refused the work: see the service's log"
        return ProblemError(503, "database_refused", refused, retry_after=RETRY_LATER)
    if isinstance(error, EndpointError):
        return ProblemError(503, "endpoint_unavailable", said, retry_after=RETRY_LATER)
    if isinstance(error, UnknownNameError):
        return ProblemError(422, "unknown_name", said)
    if isinstance(error, UsageError | InputError):
        return ProblemError(422, "invalid_request", said)
    if isinstance(error, CorpusError):
        return ProblemError(409, "conflict", said)
    return internal_error()


def from_validation(errors: Iterable[Any]) -> ProblemError:
    """Which fields are wrong; what was sent is not repeated."""
    found = [(_field(error["loc"]), _said(error)) for error in errors]
    field, message = found[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    line = f"{field}: {message}{more}" if field else message + more
    return ProblemError(422, "invalid_request", line, found[:MOST_DETAILS])


def install(app: FastAPI) -> None:
    """Let every error of an application end in this shape."""

    async def problem(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ProblemError)
        return error.answer()

    async def lvmdb_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, LvmdbError)
        found = from_lvmdb(error)
        if found.status >= 500:
            log.error("%s %s: %s", request.method, request.url.path, clean(str(error)))
        return found.answer()

    async def validation(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return from_validation(error.errors()).answer()

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        status = error.status_code
        code = _CODES.get(status, f"http_{status}")
        return ProblemError(status, code, _MEANINGS.get(status, str(error.detail))).answer(
            dict(error.headers or {})
        )

    async def fault(_: Request, __: Exception) -> JSONResponse:
        return internal_error().answer()  # the server logs the traceback

    app.add_exception_handler(ProblemError, problem)
    app.add_exception_handler(LvmdbError, lvmdb_error)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, fault)


def internal_error() -> ProblemError:
    """What a caller learns of a fault."""
    return ProblemError(500, "internal_error", "a fault of the service: its log says more")


def _field(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location if part != "body")


def _said(error: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown field"
    if kind == "missing":
        return "is missing"
    if kind == "string_pattern_mismatch":
        return "must hold a character that is not white space, and none that is NUL"
    if kind == "string_unicode":
        return "holds half a surrogate pair, which is not UTF-8"
    if kind == "value_error":
        return str(context.get("error", error["msg"]))
    return str(error["msg"])
