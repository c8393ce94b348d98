"""`/health`: whether a service can do its work, and `/health/live`: whether it runs at all."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from lvmdb.services.context import context_of
from lvmdb.services.problems import Problems, not_ready

router = APIRouter(tags=["health"])


class Ready(BaseModel):
    """A service that can do its work."""

    status: Literal["ready"] = "ready"
    service: str
    checked: list[str]


class Live(BaseModel):
    """A service that runs."""

    status: Literal["live"] = "live"
    service: str


@router.get("/health", responses={503: {"model": Problems, "description": "What it lacks."}})
async def ready(request: Request) -> Ready:
    """Whether the database answers at the program's revision, and all that is needed is loaded."""
    context = context_of(request)
    lacking = await context.lacking()
    if lacking:
        raise not_ready(lacking)
    names = [context.probe.name, *(part.name for part in context.parts)]
    return Ready(service=context.name, checked=names)


@router.get("/health/live")
async def live(request: Request) -> Live:
    """Whether the process answers; it asks for nothing else."""
    return Live(service=context_of(request).name)
