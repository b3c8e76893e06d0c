"""Mount the pages on a server's application while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.routing import BaseRoute, Mount

from .middleware import PageMiddleware
from .source import PageSource

__all__ = ["PageMount"]


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
            if isinstance(route, Mount) and isinstance(route.app, PageMiddleware)
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
            mount_pages(holder, self._source, app.state.limits)
            for route in holder.routes:
                if isinstance(route, Mount):
                    app_of_page: Any = route.app
                    route.app = PageMiddleware(app_of_page, app_of_page.get_blocks().generations)
            self._loop, self._routes = asyncio.get_running_loop(), holder.routes
            async with holder.router.lifespan_context(holder):
                app.router.routes.extend(self._routes)
                try:
                    yield state
                finally:
                    app.router.routes[:] = [route for route in app.router.routes if route not in self._routes]
                    self._routes = []
