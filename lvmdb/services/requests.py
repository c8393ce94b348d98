"""Requests with a JSON body: read within limits, parsed strictly, with no field passed over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, StringConstraints
from starlette.requests import ClientDisconnect

from lvmdb.services.context import Context, context_of
from lvmdb.services.limits import KEY_LENGTH, NAME_LENGTH, TEXT_LENGTH, TITLE_LENGTH, URL_LENGTH
from lvmdb.services.problems import ProblemError, clean

DRAINED = 4
"""A body of up to so many times the limit is read to its end: its sender then reads the answer."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

# With a character that is not white space, and without NUL, which PostgreSQL's text cannot hold.
_STORABLE = r"^[^\x00]*[^\s\x00][^\x00]*$"

Text = Annotated[str, StringConstraints(max_length=TEXT_LENGTH, pattern=_STORABLE)]
Key = Annotated[str, StringConstraints(max_length=KEY_LENGTH, pattern=_STORABLE)]
Title = Annotated[str, StringConstraints(max_length=TITLE_LENGTH, pattern=_STORABLE)]
Url = Annotated[str, StringConstraints(max_length=URL_LENGTH, pattern=_STORABLE)]
Name = Annotated[str, StringConstraints(max_length=NAME_LENGTH, pattern=r"^[a-z0-9_-]+$")]


class StrictModel(BaseModel):
    """The body of a request: a field that is unknown, or of another type, is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StrictRequest(Request):
    """A request whose body is read and parsed by this module's rules."""

    async def body(self) -> bytes:
        """The body.

        Raises:
            ProblemError: 413, it is too large; 408, it did not arrive in time.
        """
        if not hasattr(self, "_body"):
            self._body = await self._read(context_of(self))
        return self._body

    async def json(self) -> Any:
        """The body's value, of JSON's own types.

        Raises:
            ProblemError: 400, it is not UTF-8 or not JSON, repeats a name, or is nested too deeply.
        """
        if not hasattr(self, "_json"):
            self._json = parse(await self.body())
        return self._json

    async def _read(self, context: Context) -> bytes:
        most, read, parts = context.limits.body_bytes, 0, []
        announced = _length(self.headers.get("content-length"))
        # One that asks before it sends (100-continue) is told before it sends.
        drained = most if "expect" in self.headers else DRAINED * most
        if announced > drained:
            raise _too_large(most)
        try:
            async with asyncio.timeout(context.limits.body_seconds):
                async for part in self.stream():
                    read += len(part)
                    if read <= most:
                        parts.append(part)
                    else:
                        parts.clear()
                    if read > drained:
                        break
        except ClientDisconnect:  # nobody reads the answer, and nothing is wrong here
            raise ProblemError(400, "body_cut_off", "the body ended too early") from None
        except TimeoutError:
            raise ProblemError(
                408,
                "body_too_slow",
                f"the body did not arrive within {context.limits.body_seconds:g} s",
            ) from None
        if read > most:
            raise _too_large(most)
        return b"".join(parts)


class StrictRoute(APIRoute):
    """A route whose requests have a JSON body: each takes one of the service's places."""

    def get_route_handler(self) -> Handler:
        """The handler of `APIRoute`, given a `StrictRequest`."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            context = context_of(request)
            with context.work.place():
                strict = StrictRequest(request.scope, request.receive)
                _require_no_query(strict)
                body = await strict.body()
                _require_json(strict.headers.get("content-type"))
                if not body.strip():
                    raise ProblemError(400, "invalid_json", "the body is empty, and must be JSON")
                await strict.json()
                return await handle(strict)

        return strictly


class ReadRoute(APIRoute):
    """A route without a body that asks the database: each request takes one of the places."""

    def get_route_handler(self) -> Handler:
        """The handler of `APIRoute`, once there is a place."""
        handle = super().get_route_handler()

        async def placed(request: Request) -> Response:
            with context_of(request).work.place():
                _require_no_query(request)
                return await handle(request)

        return placed


def parse(body: bytes) -> Any:
    """The value of a JSON text (RFC 8259).

    Raises:
        ProblemError: 400, as `StrictRequest.json` says.
    """
    try:
        return json.loads(
            body.decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_without_repeats
        )
    except UnicodeDecodeError as error:
        said = f"the body is not UTF-8: {error.reason} at byte {error.start + 1}"
    except json.JSONDecodeError as error:
        said = f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except RecursionError:
        said = "the body is nested too deeply"
    except ValueError as error:
        said = f"the body is not JSON that can be read: {error}"
    raise ProblemError(400, "invalid_json", said)


def _require_no_query(request: Request) -> None:
    for name in request.query_params:
        raise ProblemError(422, "invalid_request", f"unknown query parameter '{clean(name)}'")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field '{clean(repeated)}' is there twice")
    return found


def _require_json(content_type: str | None) -> None:
    kind, _, parameters = (content_type or "").lower().partition(";")
    charset = parameters.replace(" ", "").replace('"', "").partition("charset=")[2] or "utf-8"
    if kind.strip() != "application/json" or charset != "utf-8":
        raise ProblemError(
            415, "unsupported_media_type", "send Content-Type: application/json (UTF-8)"
        )


def _length(header: str | None) -> int:
    """The announced length; 0 where it is none, and what comes is counted anyway."""
    return int(header) if header is not None and header.isascii() and header.isdigit() else 0


def _too_large(most: int) -> ProblemError:
    return ProblemError(413, "body_too_large", f"the body is larger than {most} bytes: send less")
