"""Checks before the routes: the API key, the size of a request body, the number of concurrent requests."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse

from ..core.deadline import Deadline
from ..errors import InvalidArgument, RateLimited, TimeoutExceeded
from ..params import Timeout
from .cross_site import cross_site_refusal, host_refusal
from .error_responses import error_body

__all__ = ["PAGE_PATHS", "Limits", "LimitsMiddleware"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[Any, _Receive, _Send], Awaitable[None]]

#: Paths of the pages. They take the API key as the password of HTTP basic authentication, with any user name.
PAGE_PATHS = ("/gradio_chat", "/gradio_instruct", "/favicon.ico")

#: Paths that need no API key and no known host, so that a health check works without them.
_OPEN_PATHS = frozenset({"/health"})


@dataclass
class Limits:
    """Limits on the requests to one server, and the count of those in flight.

    Attributes:
        api_key: The key that ``Authorization: Bearer …`` or ``x-api-key`` must hold; None accepts every
            request.
        api_keys: Further API keys, each under the name of a client; the access log shows the name.
        allowed_hosts: Names and addresses that requests may give as ``Host`` beside those of loopback and the
            address that the server listens on; '*' allows all. Without this, a page on the internet could
            reach the server by DNS rebinding.
        max_body: Largest request body, in bytes.
        body_seconds: Longest time for a request body to arrive, in seconds.
        max_requests: Most requests running or waiting at once; further ones get 429. A request with a list of
            prompts counts once per prompt.
        retry_after: The ``Retry-After`` header of a 429, in seconds.
        request_seconds: Longest time to answer a request, waiting included, in seconds; None is no limit. It
            yields to the `Timeout` of the backend if that sets `total`.
        max_queue: Most requests that wait for a slot of a `JAXServer`'s engine; further ones get 503. None is
            no limit but `max_requests`.
        origins: CORS origins allowed beside localhost, such as 'https://example.org'; '*' allows all.
        in_flight: Number of requests running or waiting now.
    """

    api_key: str | None = None
    max_body: int = 4 << 20
    body_seconds: float = 60.0
    max_requests: int = 256
    retry_after: int = 1
    origins: Sequence[str] = ()
    in_flight: int = 0
    api_keys: Mapping[str, str] = field(default_factory=dict)
    allowed_hosts: Sequence[str] = ()
    request_seconds: float | None = 600.0
    max_queue: int | None = None

    @property
    def has_key(self) -> bool:
        """True if requests need an API key."""
        return self.api_key is not None or bool(self.api_keys)

    def key_name(self, given: bytes) -> str | None:
        """The name of an API key, '' for `api_key`; None if it is none. Takes the same time for all keys."""
        found = None
        for name, key in (("", self.api_key), *self.api_keys.items()):
            if key is not None and hmac.compare_digest(given, key.encode()):
                found = name
        return found

    @contextmanager
    def count_prompts(self, n_prompts: int) -> Iterator[None]:
        """Raise the running request's weight from 1 to the number of its prompts.

        Raises:
            InvalidArgument: The list has more prompts than `max_requests`.
            RateLimited: The list has more prompts than there are free places now.
        """
        if n_prompts > self.max_requests:
            raise InvalidArgument(
                f"prompt: {n_prompts} prompts: allowed are {self.max_requests} at once", argument="prompt"
            )
        with self.count(n_prompts - 1):
            yield

    @contextmanager
    def count(self, more: int) -> Iterator[None]:
        """Count `more` requests as running.

        Raises:
            RateLimited: There are fewer free places now.
        """
        if self.in_flight + more > self.max_requests:
            raise RateLimited(self.too_many(), code="queue_full", retry_after=self.retry_after)
        self.in_flight += more
        try:
            yield
        finally:
            self.in_flight -= more

    def too_many(self) -> str:
        """The message of a 429."""
        return f"too many requests: {self.in_flight} of {self.max_requests} are running or waiting already"


class LimitsMiddleware:
    """Enforces `Limits`. Plain ASGI, so that routes still receive ``http.disconnect``."""

    def __init__(self, app: _App, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        """Pass a request on, or answer it with an error response."""
        if scope["type"] == "websocket":  # no route has one
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        if (response := self._error_response(scope, headers)) is not None:
            await response(scope, receive, send)
            return
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        self._limits.in_flight += 1
        try:
            await self._app(scope, self._limited(receive), send)
        finally:
            self._limits.in_flight -= 1

    def _error_response(self, scope: Any, headers: dict[bytes, bytes]) -> JSONResponse | None:
        limits, is_open = self._limits, scope["path"] in _OPEN_PATHS
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        bound = (scope.get("server") or ("",))[0]
        if not is_open and (refused := host_refusal(hosts, bound, limits.allowed_hosts)) is not None:
            return _refusal(*refused)
        if limits.has_key and not is_open:
            is_page = scope["path"].startswith(PAGE_PATHS)
            given = _api_key(headers.get(b"authorization", b""), b"basic" if is_page else b"bearer")
            given = given or headers.get(b"x-api-key", b"")  # Anthropic's header
            name = limits.key_name(given)
            if name is None:
                body = error_body(401, "the API key is missing or wrong", "invalid_api_key")
                scheme = 'Basic realm="The password is the API key", charset="UTF-8"' if is_page else "Bearer"
                return JSONResponse(body, 401, {"WWW-Authenticate": scheme})
            scope.setdefault("state", {})["key"] = name
        if (refused := cross_site_refusal(scope["method"], headers, limits.origins)) is not None:
            return _refusal(*refused)
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > limits.max_body:
            return JSONResponse(error_body(413, self._too_large(), "body_too_large"), 413)
        if scope["method"] == "POST" and limits.in_flight >= limits.max_requests:
            body = error_body(429, limits.too_many(), "queue_full")
            return JSONResponse(body, 429, {"Retry-After": str(limits.retry_after)})
        return None

    def _limited(self, receive: _Receive) -> _Receive:
        """Wrap `receive` to limit the size and the time of bodies sent without a Content-Length."""
        bytes_left = self._limits.max_body
        deadline = Deadline(Timeout(first_token=None, idle=None, total=self._limits.body_seconds))
        complete = False

        async def limited() -> _Message:
            nonlocal bytes_left, complete
            if complete:  # the next message is http.disconnect, which comes at any time
                return await receive()
            try:
                message = await deadline.wait(receive())
            except TimeoutExceeded as error:
                raise HTTPException(
                    408, f"the request body did not arrive within {error.seconds:g} s"
                ) from None
            complete = not message.get("more_body", False)
            bytes_left -= len(message.get("body", b""))
            if bytes_left < 0:
                raise HTTPException(413, self._too_large())
            return message

        return limited

    def _too_large(self) -> str:
        return f"the request body is too large: allowed are {self._limits.max_body} bytes"


def _refusal(status: int, message: str, code: str) -> JSONResponse:
    return JSONResponse(error_body(status, message, code), status)


def _api_key(authorization: bytes, scheme: bytes) -> bytes:
    """The key in an Authorization header with `scheme`; b"" if there is none."""
    kind, _, given = authorization.partition(b" ")
    if kind.lower() != scheme:
        return b""
    if scheme == b"bearer":
        return given.strip()
    try:
        return base64.b64decode(given, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""
