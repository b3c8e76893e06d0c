"""Puts the pages on a server's application when it starts, and takes them off when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.routing import BaseRoute, Mount

from .source import PageSource

__all__ = ["PageMount"]


#: A page asks nobody but its server, whatever a model writes into it: an image's address could tell a secret.
_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'"


class PageMount:
    """The pages of one server, there while its application runs.

    They are built at each start, because gradio binds them to the event loop, and because whoever serves
    nothing should not wait for gradio's import.
    """

    def __init__(self, app: FastAPI, source: PageSource) -> None:
        self._wanted = True
        self._source = source
        self._loop: asyncio.AbstractEventLoop | None = None
        self._routes: list[BaseRoute] = []
        self._inner = app.router.lifespan_context
        app.router.lifespan_context = self._lifespan

    def prepare(self, *, wanted: bool) -> None:
        """Load gradio, if pages are wanted at the next start.

        Raises:
            MissingDependency: gradio is not installed.
        """
        self._wanted = wanted
        if wanted:
            from . import pages as _  # noqa: F401

    def end(self) -> None:
        """Let running answers finish, and free the connections that open pages hold.

        Without it a server waits, when it ends, for every open page to be closed.
        """
        pages: list[Any] = [
            route.app.app
            for route in self._routes
            if isinstance(route, Mount) and isinstance(route.app, _Guarded)
        ]
        for page in pages:
            page.get_blocks().answers.drain()
        for page in pages:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(page.stop_event.set)

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[Any]:
        async with self._inner(app) as state:
            if not self._wanted:
                yield state
                return
            from .pages import mount_pages  # here, so that gradio is loaded by who serves pages only

            # An application of their own first, whose lifespan starts and ends gradio's.
            holder = FastAPI(openapi_url=None)
            holder.user_middleware = app.user_middleware  # by which gradio knows to leave CORS to `app`
            mount_pages(holder, self._source)
            for route in holder.routes:
                if isinstance(route, Mount):
                    route.app = _Guarded(route.app)
            self._loop, self._routes = asyncio.get_running_loop(), holder.routes
            async with holder.router.lifespan_context(holder):
                app.router.routes.extend(self._routes)
                try:
                    yield state
                finally:
                    app.router.routes[:] = [one for one in app.router.routes if one not in self._routes]
                    self._routes = []


class _Guarded:
    """A page that sends the policy with all it sends."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = _POLICY
            await send(message)

        await self.app(scope, receive, with_policy)
