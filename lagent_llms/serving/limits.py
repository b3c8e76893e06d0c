"""What stands before the routes: the key, the size of a body, and how many requests may be there at once."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse

from ..core.deadline import Deadline
from ..errors import InvalidArgument, RateLimited, TimeoutExceeded
from ..params import Timeout
from .cross_site import cross_site_refusal
from .error_responses import error_body

__all__ = ["PAGE_PATHS", "Limits", "LimitsMiddleware"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[Any, _Receive, _Send], Awaitable[None]]

#: Where the pages are. A browser asks for their key itself, as a password (any name will do).
PAGE_PATHS = ("/gradio_chat", "/gradio_instruct", "/favicon.ico")

#: Answered without a key, so that a supervisor needs none.
_OPEN_PATHS = frozenset({"/health"})


@dataclass
class Limits:
    """What a server lets through.

    Attributes:
        api_key: What ``Authorization: Bearer …`` must hold; None asks for nothing.
        max_body: Most bytes of a request's body.
        body_seconds: Longest wait for the whole of it.
        max_requests: Most requests being answered or waiting at once; more get 429. Prompts of a list count.
        retry_after: Seconds that a refused client is asked to wait.
        origins: Whose pages may call, beside those of this machine ('https://example.org', or '*').
        in_flight: How many are there now.
    """

    api_key: str | None = None
    max_body: int = 4 << 20
    body_seconds: float = 60.0
    max_requests: int = 256
    retry_after: int = 1
    origins: Sequence[str] = ()
    in_flight: int = 0

    @contextmanager
    def counting(self, prompts: int) -> Iterator[None]:
        """Count a request of several prompts, which has been counted once, as so many requests.

        Raises:
            InvalidArgument: They are more than can ever be there.
            RateLimited: They are more than can be there now.
        """
        if prompts > self.max_requests:
            raise InvalidArgument(
                f"prompt: {prompts} prompts: allowed are {self.max_requests} at once", argument="prompt"
            )
        more = prompts - 1
        if self.in_flight + more > self.max_requests:
            raise RateLimited(self.full(), code="queue_full", retry_after=self.retry_after)
        self.in_flight += more
        try:
            yield
        finally:
            self.in_flight -= more

    def full(self) -> str:
        """What a client is told that came too late."""
        return f"{self.in_flight} requests are here already"


class LimitsMiddleware:
    """Enforces `Limits`. Plain ASGI, so that a route still hears of a client that disconnects."""

    def __init__(self, app: _App, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        if (refusal := self._refusal(scope, headers)) is not None:
            await refusal(scope, receive, send)
            return
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        self._limits.in_flight += 1
        try:
            await self._app(scope, self._counted(receive), send)
        finally:
            self._limits.in_flight -= 1

    def _refusal(self, scope: Any, headers: dict[bytes, bytes]) -> JSONResponse | None:
        limits = self._limits
        if limits.api_key is not None and scope["path"] not in _OPEN_PATHS:
            is_page = scope["path"].startswith(PAGE_PATHS)
            given = _key(headers.get(b"authorization", b""), b"basic" if is_page else b"bearer")
            if not hmac.compare_digest(given, limits.api_key.encode()):
                body = error_body(401, "a wrong or no API key", "invalid_api_key")
                scheme = 'Basic realm="The password is the API key", charset="UTF-8"' if is_page else "Bearer"
                return JSONResponse(body, 401, {"WWW-Authenticate": scheme})
        if (refused := cross_site_refusal(scope["method"], headers, limits.origins)) is not None:
            status, message, code = refused
            return JSONResponse(error_body(status, message, code), status)
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limits.max_body:
            return JSONResponse(error_body(413, self._too_large(), "body_too_large"), 413)
        if scope["method"] == "POST" and limits.in_flight >= limits.max_requests:
            body = error_body(429, limits.full(), "queue_full")
            return JSONResponse(body, 429, {"Retry-After": str(limits.retry_after)})
        return None

    def _counted(self, receive: _Receive) -> _Receive:
        """`receive`, for bodies that do not tell their length or do not come."""
        left = self._limits.max_body
        patience = Deadline(Timeout(first_token=None, idle=None, total=self._limits.body_seconds))
        whole = False

        async def counted() -> _Message:
            nonlocal left, whole
            if whole:  # what comes now is that the client leaves; that may take as long as the answer
                return await receive()
            try:
                message = await patience.wait(receive())
            except TimeoutExceeded as error:
                raise HTTPException(408, f"the body did not come within {error.seconds:g} s") from None
            whole = not message.get("more_body", False)
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, self._too_large())
            return message

        return counted

    def _too_large(self) -> str:
        return f"the body is too large: allowed are {self._limits.max_body} bytes"


def _key(authorization: bytes, scheme: bytes) -> bytes:
    """The key of an Authorization header of that scheme; b"" when there is none."""
    kind, _, given = authorization.partition(b" ")
    if kind.lower() != scheme:
        return b""
    if scheme == b"bearer":
        return given.strip()
    try:
        return base64.b64decode(given, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
