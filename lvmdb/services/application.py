"""The application of a service: its routes, and what all services have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, FastAPI, Security
from fastapi.security import HTTPBearer

from lvmdb.services import health, problems
from lvmdb.services.context import Context
from lvmdb.services.guard import Door, Guard
from lvmdb.services.options import require_token


def application(
    context: Context,
    router: APIRouter,
    title: str,
    description: str,
    *,
    page: APIRouter | None = None,
    door: Door | None = None,
) -> FastAPI:
    """A service.

    Args:
        context: what belongs to it.
        router: its routes; those with a body are `StrictRoute`s.
        title: its name for people.
        description: what it does, in Markdown.
        page: routes for browsers, if it has a page.
        door: who may see that.

    Raises:
        SettingsError: other machines would reach it, and there is no token.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        context.start()
        yield
        await context.close()

    require_token(context.options)
    token = context.options.settings.token
    app = FastAPI(
        title=title,
        description=description,
        version=version("lvmdb"),
        lifespan=lifespan,
        # A redirect would lose the body, and hide a wrong path.
        redirect_slashes=False,
    )
    app.state.context = context
    # The guard decides; this says so in the documentation.
    asked = [Security(HTTPBearer(auto_error=False))] if token else []
    app.include_router(router, dependencies=asked)
    app.include_router(health.router)
    if page is not None:
        app.include_router(page)
    problems.install(app)
    app.add_middleware(Guard, token=token, local=context.options.local, door=door)
    return app
