"""Send requests to one server, over a `Connector` or over the caller's `aiohttp.ClientSession`."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from ..core.deadline import Deadline
from ..errors import InvalidArgument
from .async_connector import Connector, Response
from .config import given_headers, headers_for, request_headers, tls_context
from .content_encoding import unknown_encoding
from .limits import Limits
from .messages import HTTPRequest
from .proxy import Route, find_route
from .secrets import Secrets

__all__ = ["DirectServer", "Server", "SessionServer"]

#: What aiohttp decodes, the last two with further packages; without them it raises an error.
_ENCODINGS = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})


class _NotedBody(aiohttp.Payload):
    """A body that tells when it is written: then the request has a connection.

    Args:
        data: The body.
        on_write: Called before it is written.
    """

    _value: bytes

    def __init__(self, data: bytes, on_write: Callable[[], None]) -> None:
        super().__init__(data)
        self._size = len(data)
        self._on_write = on_write

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text, for the session's middlewares."""
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body."""
        self._on_write()
        await writer.write(self._value)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write the body, as aiohttp 3.12 and later ask for it."""
        await self.write(writer)


class Server(Protocol):
    """Interface of `DirectServer` and `SessionServer`."""

    async def send(
        self,
        connector_or_session: Any,
        /,
        request: HTTPRequest,
        connect: float | None,
        deadline: Deadline,
    ) -> Response | aiohttp.ClientResponse:
        """Send `request` and wait for the head of its response.

        Args:
            connector_or_session: The running loop's `Connector`, or the caller's session.
            request: The request.
            connect: Seconds a new connection may take.
            deadline: Its limit for the first piece starts when the request is written.
        """


class DirectServer:
    """A server that is reached over a `Connector`.

    Args:
        route: The route to the server.
        headers: Headers of every request.
        tls: How certificates are checked; needed where `route` uses TLS.
        limits: The most that the server may send.
    """

    def __init__(
        self, route: Route, headers: Mapping[str, str], tls: ssl.SSLContext | None, limits: Limits
    ) -> None:
        self._limits = limits
        self._route = route
        self._headers = headers
        self._tls = tls if tls is not None else True

    async def send(
        self, connector: Connector, request: HTTPRequest, connect: float | None, deadline: Deadline
    ) -> Response:
        """See `Server`."""
        destination = connector.destinations.get(self)
        if destination is None:
            destination = self._new_destination()
            if not self._route.tunnel:  # aiohttp modifies the request of a tunnel: no reuse
                connector.destinations[self] = destination
        data = request.encode(self._route.base, self._headers)
        return await connector.send(destination, data, connect, self._limits, deadline.restart)

    def _new_destination(self) -> aiohttp.ClientRequest:
        """Make the request from which aiohttp takes the host, port, TLS context and proxy."""
        route = self._route
        options: dict[str, Any] = {"ssl": self._tls, "loop": asyncio.get_running_loop()}
        origin = _origin(route.host, route.port, tls=route.tls)
        if not route.tunnel:
            return aiohttp.ClientRequest("GET", origin, **options)
        server = _origin(route.server, route.server_port, tls=True)
        return aiohttp.ClientRequest("GET", server, proxy=origin, proxy_headers=dict(route.login), **options)


def _origin(host: str, port: int, *, tls: bool) -> URL:
    return URL.build(scheme="https" if tls else "http", host=host, port=port)


class SessionServer:
    """A server that is reached over the caller's session.

    Args:
        url: Base URL of the server.
        headers: The headers given to the transport.
        api_key: The API key given to the transport.
        verify: True uses the session's certificate settings.
        session: The session.

    Raises:
        InvalidArgument, ConfigError: A value cannot be used.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None,
        api_key: str | None,
        verify: bool | str | os.PathLike[str],
        session: aiohttp.ClientSession,
    ) -> None:
        route = find_route(url)
        self._session = session
        self._passwords = (*route.passwords, *Secrets.in_headers(given_headers(headers, api_key)))
        replaced = {name.title() for name in session.headers} - given_headers(headers, api_key).keys()
        sent = request_headers(headers, api_key)
        sent = {name: value for name, value in sent.items() if name not in replaced}
        sent = headers_for(route, sent, None)
        if session.auth is not None and "Authorization" in sent:
            raise InvalidArgument(
                "session: its `auth` cannot be combined with an API key, an Authorization header or "
                "credentials in the URL",
                argument="session",
            )
        self._base = f"{urlsplit(url).scheme}://{sent.pop('Host')}{route.base}"
        self._headers = sent
        self._options = {} if verify is True else {"ssl": tls_context(verify)}

    def secrets(self) -> list[str]:
        """Return the credentials that requests to the server hold, those of the session included."""
        session, auth = self._session, self._session.auth
        return [
            *self._passwords,
            *Secrets.in_headers(session.headers),
            *(cookie.value for cookie in session.cookie_jar),
            *(() if auth is None else (auth.password, auth.encode())),
        ]

    async def send(
        self,
        session: aiohttp.ClientSession,
        request: HTTPRequest,
        connect: float | None,
        deadline: Deadline,
    ) -> aiohttp.ClientResponse:
        """See `Server`."""
        if session.closed:
            raise InvalidArgument("session: this aiohttp.ClientSession is closed", argument="session")
        body = None
        if request.body is not None:  # the session's connector may have no free connection yet
            body = _NotedBody(request.body, deadline.resume)
            deadline.hold()
        response = await session.request(
            request.method,
            URL(self._base + request.path, encoded=True),
            data=body,
            headers={**self._headers, **request.headers},
            timeout=_client_timeout(connect, session.timeout),
            allow_redirects=False,
            raise_for_status=False,
            auto_decompress=True,
            **self._options,
        )
        deadline.resume()  # a double of the session may not have written the body
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in _ENCODINGS:
            response.close()
            raise unknown_encoding(encoding)
        return response


@lru_cache(maxsize=64)
def _client_timeout(connect: float | None, given: aiohttp.ClientTimeout) -> aiohttp.ClientTimeout:
    """Combine the limit for connecting with the session's own limits; `Deadline` enforces the others."""
    if given == aiohttp.client.DEFAULT_TIMEOUT:  # 5 minutes for a whole response
        return aiohttp.ClientTimeout(sock_connect=connect)
    shorter = min((limit for limit in (connect, given.sock_connect) if limit), default=None)
    # Its `connect` includes the wait for a free connection.
    return aiohttp.ClientTimeout(given.total, given.connect, given.sock_read, shorter)
