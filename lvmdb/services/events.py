"""Server-sent events: an answer that comes piece by piece, and ends when nobody listens.

As https://html.spec.whatwg.org/multipage/server-sent-events.html has them: `event:` says what an
event is, `data:` is JSON.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pydantic_core
from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from lvmdb.errors import LvmdbError
from lvmdb.services.context import Context
from lvmdb.services.problems import ProblemError, from_lvmdb, internal_error

log = logging.getLogger("lvmdb.services")


class Events(StreamingResponse):
    """An answer of events, which has a place of the service's as long as it goes on.

    What fails after the first event cannot change the answer's status any more: it becomes the last
    event, `error`, whose data is the body of any other answer that is not a success.

    Args:
        context: of the service.
        events: names and what JSON can hold, as they come; ended where the caller leaves.
    """

    media_type = "text/event-stream"

    def __init__(self, context: Context, events: AsyncIterator[tuple[str, Any]]) -> None:
        super().__init__(_written(events), headers={"Cache-Control": "no-store"})
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events.

        Raises:
            ProblemError: 503, all places are taken.
        """
        with self._context.work.place():
            await super().__call__(scope, receive, send)


async def _written(events: AsyncIterator[tuple[str, Any]]) -> AsyncIterator[bytes]:
    try:
        async for name, data in events:
            yield event(name, data)
    except ProblemError as error:
        yield event("error", error.body())
    except LvmdbError as error:
        problem = from_lvmdb(error)
        if problem.status >= 500:
            log.error("events: %s", error)
        yield event("error", problem.body())
    except Exception:
        log.exception("events end with a fault")
        yield event("error", internal_error().body())


def event(name: str, data: Any) -> bytes:
    """One event on the wire."""
    return format_sse_event(event=name, data_str=pydantic_core.to_json(data).decode())
