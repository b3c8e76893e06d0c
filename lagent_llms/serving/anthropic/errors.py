"""Errors in Anthropic's form, for the paths of its API."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["AnthropicErrorsMiddleware", "error_body"]

_PATH = "/v1/messages"
#: Types of errors by status; others are 'invalid_request_error' below 500 and 'api_error' from there on.
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

_Message = MutableMapping[str, Any]


def error_body(status: int, body: dict[str, Any], request_id: str | None) -> dict[str, Any]:
    """The body of an error response in Anthropic's form.

    Args:
        status: The HTTP status, which decides the type.
        body: The body in OpenAI's form.
        request_id: The id of the request.
    """
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    error = {"type": kind, "message": body["error"]["message"]}
    return {"type": "error", "error": error, "request_id": request_id}


class AnthropicErrorsMiddleware:
    """Rewrites all error responses to requests of Anthropic's API, those of middlewares too. Plain ASGI."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Callable[[_Message], Awaitable[None]]) -> None:
        """Pass a request on; hold back an error response until its body is there."""
        if scope["type"] != "http" or not (scope["path"] + "/").startswith(_PATH + "/"):
            await self._app(scope, receive, send)
            return
        start: _Message | None = None
        held = b""

        async def rewritten(message: _Message) -> None:
            nonlocal start, held
            if message["type"] == "http.response.start":
                named = {b"x-request-id": b"request-id"}  # Anthropic's name of the header
                headers = [*message.get("headers", ())]
                headers += [(named[name], value) for name, value in headers if name in named]
                message["headers"] = headers
                if message["status"] >= 400:
                    start = message
                    return
            elif start is not None:
                held += message.get("body", b"")
                if message.get("more_body", False):
                    return
                headers = start["headers"]
                request_id = next((value.decode() for name, value in headers if name == b"request-id"), None)
                message["body"] = body = _rewritten(start["status"], held, request_id)
                length = (b"content-length", str(len(body)).encode())
                start["headers"] = [*(one for one in headers if one[0] != b"content-length"), length]
                await send(start)
                start = None
            await send(message)

        await self._app(scope, receive, rewritten)


def _rewritten(status: int, body: bytes, request_id: str | None) -> bytes:
    try:
        found = error_body(status, json.loads(body), request_id)
    except (ValueError, KeyError, TypeError):  # no error in OpenAI's form
        return body
    return json.dumps(found, ensure_ascii=False).encode()
