"""aiohttp beneath the asynchronous driver: the session of each event loop, and how each server is reached."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import ssl
import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from ..core.deadline import timeout_after
from ..errors import InvalidArgument, LLMError, TimeoutExceeded
from .async_connector import Connector
from .config import (
    connect_error,
    connect_timeout,
    given_headers,
    headers_for,
    interrupted,
    request_headers,
    tls_context,
)
from .environment import read_environment
from .messages import HTTPRequest
from .proxy import ascii_url, route

__all__ = ["LoopSession", "Server", "abort", "transport_error"]

#: Bytes of a body that wait for a slow reader; at twice as many the server is made to wait.
_READ_BUFFER = 1 << 16
#: Longest status line and longest header of a response, in bytes.
_LONGEST_LINE = 1 << 16
#: Bytes above which aiohttp asks for a body as a file.
_LARGE_BODY = 1 << 20
#: Seconds the end of a response may come after the end of its answer before the connection is closed.
_DRAIN_TIMEOUT = 1.0
#: Seconds a request waits for such a connection rather than make a new one.
_PATIENCE = 0.02


@dataclass(frozen=True, slots=True)
class Server:
    """The way to one server.

    Attributes:
        base: Scheme, host, port and path of its base URL, encoded.
        headers: Headers of every request.
        options: Further arguments of `aiohttp.ClientSession.request`: proxy and certificates.
        given: The caller's session, None to use one of our own.
    """

    base: str
    headers: Mapping[str, str] = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)
    given: aiohttp.ClientSession | None

    @classmethod
    def at(
        cls,
        url: str,
        headers: Mapping[str, str] | None,
        api_key: str | None,
        verify: bool | str | os.PathLike[str],
        session: aiohttp.ClientSession | None,
        *,
        environment_proxy: bool,
    ) -> Server:
        """Find the way to the server at base URL `url`; the arguments are those of `AsyncHTTPTransport`.

        Raises:
            InvalidArgument, ConfigError: A value cannot be used.
        """
        sent = request_headers(headers, api_key)
        options: dict[str, Any] = {}
        if session is not None:
            way = route(url)
            given = given_headers(headers, api_key)
            theirs = {name.title() for name in session.headers} - given.keys()
            sent = {name: value for name, value in sent.items() if name not in theirs}
            sent = headers_for(way, sent, None)
            if session.auth is not None and "Authorization" in sent:
                raise InvalidArgument(
                    "session: its `auth` cannot be combined with an API key, an Authorization header or "
                    "credentials in the URL",
                    argument="session",
                )
            if verify is not True:
                options["ssl"] = tls_context(verify)
        else:
            environment = read_environment(ascii_url(url), verify)
            proxy = environment.proxy if environment_proxy else None
            way = route(url, proxy)
            sent = headers_for(way, sent, environment.auth)
            if proxy is not None:
                options["proxy"] = URL(proxy).with_user(None)
                options["proxy_headers"] = way.login if way.tunnel else None
            if way.tls or way.tunnel:
                options["ssl"] = tls_context(environment.verify) or ssl.create_default_context()
        origin = f"{urlsplit(url).scheme}://{sent.pop('Host')}"
        return cls(origin + route(url).base, sent, options, session)

    async def send(
        self, session: aiohttp.ClientSession, request: HTTPRequest, connect: float | None
    ) -> aiohttp.ClientResponse:
        """Send `request` and wait for the head of its response.

        Args:
            session: The running loop's.
            request: The request.
            connect: Seconds a new connection may take.
        """
        if self.given is not None and self.given.closed:
            raise InvalidArgument("session: this aiohttp.ClientSession is closed", argument="session")
        body = request.body
        return await session.request(
            request.method,
            URL(self.base + request.path, encoded=True),
            data=io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY else body,
            headers={**self.headers, **request.headers},
            timeout=_limits(connect, self.given and self.given.timeout),
            allow_redirects=False,
            raise_for_status=False,
            auto_decompress=True,
            **self.options,
        )


@lru_cache(maxsize=64)
def _limits(connect: float | None, given: aiohttp.ClientTimeout | None) -> aiohttp.ClientTimeout:
    """The limit of connecting and those that a caller has set for a session; `Deadline` holds the others."""
    if given is None or given == aiohttp.client.DEFAULT_TIMEOUT:  # 5 minutes an answer
        return aiohttp.ClientTimeout(connect=connect)
    shorter = min((limit for limit in (connect, given.connect) if limit), default=None)
    return aiohttp.ClientTimeout(given.total, shorter, given.sock_read, given.sock_connect)


def own_loop(session: aiohttp.ClientSession) -> asyncio.AbstractEventLoop | None:
    """The event loop `session` was made in, None if it does not say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(session, "loop", None)


class Running(Protocol):
    """A request in progress."""

    def abort(self) -> None:
        """Break it off; the task that reads gets an error."""


class LoopSession:
    """The session of the running event loop, and the requests that use it.

    Args:
        given: The caller's session, which stays open; None makes one.

    Attributes:
        loop: The event loop.
        session: The session.
        running: Requests in progress.
        ending: For each server, responses whose answer is complete and whose last bytes have not come yet.
    """

    def __init__(self, given: aiohttp.ClientSession | None) -> None:
        self.loop = asyncio.get_running_loop()
        if given is not None and own_loop(given) not in (None, self.loop):
            raise InvalidArgument(
                "session: this aiohttp.ClientSession was made in another event loop; a session serves only "
                "the loop it was made in",
                argument="session",
            )
        self._given = given is not None
        self.session = given or aiohttp.ClientSession(
            connector=Connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_READ_BUFFER,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
        )
        self.running: set[Running] = set()
        self.ending: defaultdict[str, set[aiohttp.ClientResponse]] = defaultdict(set)

    async def settle(self, url: str) -> None:
        """Wait briefly for one of `ending` to release its connection, rather than open another one."""
        response = self.ending[url].pop()  # each request waits for another one
        ended = asyncio.Event()
        response.content.on_eof(ended.set)
        with contextlib.suppress(asyncio.TimeoutError):
            async with timeout_after(_PATIENCE):
                await ended.wait()

    def leave(self, response: aiohttp.ClientResponse, url: str, *, whole: bool) -> None:
        """Read no more of `response`: keep its connection if the answer is `whole`, else close it."""
        if response.closed:  # the connection was released with the last byte
            return
        if not whole:
            abort(response)
            return
        ending = self.ending[url]

        def ended() -> None:
            timer.cancel()
            ending.discard(response)

        def give_up() -> None:
            ending.discard(response)
            abort(response)

        timer = self.loop.call_later(_DRAIN_TIMEOUT, give_up)
        response.content.on_eof(ended)
        ending.add(response)

    async def close(self) -> None:
        """Break off what is running and close the session, unless it is the caller's."""
        for request in list(self.running):
            request.abort()
        for ending in self.ending.values():
            while ending:
                ending.pop().close()
        if not self._given:
            await self.session.close()


def abort(response: aiohttp.ClientResponse) -> None:
    """Close the connection of `response` at once, though the server may not have read all of the request."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


def transport_error(url: str, error: Exception, connect: float | None) -> LLMError:
    """Return our error for what aiohttp raised.

    Args:
        url: The server.
        error: What was raised.
        connect: The limit of connecting, in seconds.
    """
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return connect_timeout(url, connect)
    if isinstance(error, asyncio.TimeoutError):
        return TimeoutExceeded(f"a limit of the session was reached: {error}", phase="total")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        refused = f"the proxy refused to connect to it (HTTP {error.status})"
        return connect_error(url, ConnectionError(refused))
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.InvalidURL, UnicodeError)):  # a host name
        return connect_error(url, error)
    return interrupted(url, error)
