"""The requests that a page may get: only those of its own, which has no files, uploads or API."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs

from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders

from ..error_responses import error_body
from .generations import Generations

__all__ = ["PageMiddleware"]

#: A page fetches from its own server only: an image's address in a model's answer could leak a secret.
_CONTENT_SECURITY_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'"

_API = "/gradio_api/"
_EVENTS = f"{_API}queue/data"
#: What a page fetches and sends. gradio has many more routes: uploads, files, a proxy, its API, recordings.
_ALLOWED = {
    "GET": re.compile(
        r"/?|/(config|theme\.css|manifest\.json|robots\.txt|favicon\.ico)/?"
        r"|/(assets|static|svelte|_app|pwa_icon)(/.+)?"
        rf"|{_API}(queue/data|startup-events|heartbeat/\w+|(info|app_id|user|token|login_check|theme\.css)/?)"
    ),
    "POST": re.compile(rf"{_API}(queue/join|run/predict/?|cancel|reset/?)"),
}
#: Largest body of a request of a page, in bytes: a dialog and a message.
_MAX_BODY = 1 << 20


class PageMiddleware:
    """Passes the requests of one page on, and refuses all others that gradio would answer.

    Args:
        app: The page's application.
        generations: Its generations; those of a page that is closed are stopped.

    Attributes:
        app: The page's application.
    """

    def __init__(self, app: Any, generations: Generations) -> None:
        self.app, self._generations = app, generations

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if (refusal := _refusal(scope)) is not None:
            await refusal(scope, receive, send)
            return

        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = _CONTENT_SECURITY_POLICY
            await send(message)

        if _path(scope) != _EVENTS:
            await self.app(scope, receive, send_with_policy)
            return
        visitor = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
        with self._generations.read_by(visitor):
            await self.app(scope, receive, send_with_policy)


def _path(scope: Any) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _refusal(scope: Any) -> JSONResponse | None:
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    if method == "OPTIONS":
        return None
    if method not in _ALLOWED or not _ALLOWED[method].fullmatch(_path(scope)):
        return JSONResponse(error_body(404, "a page has no such route", "not_found"), 404)
    if method == "POST":
        length = dict(scope["headers"]).get(b"content-length", b"")
        if not length.isdigit():
            return JSONResponse(error_body(411, "the request has no Content-Length", "no_length"), 411)
        if int(length) > _MAX_BODY:
            message = f"the request body is too large: a page may send {_MAX_BODY} bytes"
            return JSONResponse(error_body(413, message, "body_too_large"), 413)
    return None
