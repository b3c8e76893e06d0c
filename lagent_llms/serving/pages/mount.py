"""Mount the pages on a server's application while it runs."""

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


#: A page fetches from its own server only: an image's address in a model's answer could leak a secret.
_CONTENT_SECURITY_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'"


class PageMount:
    """The pages of one server, mounted during its application's lifespan.

    The pages are built at each start, because gradio binds them to the event loop, and importing gradio takes
    seconds that a server without pages should not spend.

    Args:
        app: The server's application, whose lifespan is extended.
        source: Answers the requests made on the pages.
    """

    def __init__(self, app: FastAPI, source: PageSource) -> None:
        self._enabled = True
        self._source = source
        self._loop: asyncio.AbstractEventLoop | None = None
        self._routes: list[BaseRoute] = []
        self._app_lifespan = app.router.lifespan_context
        app.router.lifespan_context = self._lifespan

    def prepare(self, *, enabled: bool) -> None:
        """Decide whether the next start mounts the pages; import gradio if it does.

        Raises:
            MissingDependency: gradio is not installed.
        """
        self._enabled = enabled
        if enabled:
            from . import page as _  # noqa: F401

    def shutdown(self) -> None:
        """Wait for the running generations, then close the connections that open pages hold.

        Otherwise uvicorn's shutdown would wait until every page is closed.
        """
        apps: list[Any] = [
            route.app.app
            for route in self._routes
            if isinstance(route, Mount) and isinstance(route.app, _PolicyMiddleware)
        ]
        for app in apps:
            app.get_blocks().generations.drain()
        for app in apps:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(app.stop_event.set)

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[Any]:
        async with self._app_lifespan(app) as state:
            if not self._enabled:
                yield state
                return
            from .page import mount_pages  # not at the top: it imports gradio

            # gradio extends the lifespan of the application it is mounted on, so it gets one of its own.
            holder = FastAPI(openapi_url=None)
            holder.user_middleware = app.user_middleware  # gradio then leaves CORS to the one of `app`
            mount_pages(holder, self._source)
            for route in holder.routes:
                if isinstance(route, Mount):
                    route.app = _PolicyMiddleware(route.app)
            self._loop, self._routes = asyncio.get_running_loop(), holder.routes
            async with holder.router.lifespan_context(holder):
                app.router.routes.extend(self._routes)
                try:
                    yield state
                finally:
                    app.router.routes[:] = [route for route in app.router.routes if route not in self._routes]
                    self._routes = []


class _PolicyMiddleware:
    """Adds the ``Content-Security-Policy`` header to every response of a page."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = _CONTENT_SECURITY_POLICY
            await send(message)

        await self.app(scope, receive, send_with_policy)
