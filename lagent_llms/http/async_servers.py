"""How the asynchronous client reaches a server: over connections of its own, or over the caller's session."""

from __future__ import annotations

import asyncio
import io
import os
import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import aiohttp
from yarl import URL

from ..errors import InvalidArgument
from .async_connector import Connector, Response
from .config import given_headers, headers_for, request_headers, tls_context
from .messages import HTTPRequest
from .proxy import Route, route

__all__ = ["DirectServer", "Server", "SessionServer"]

#: Bytes above which aiohttp asks for a body as a file.
_LARGE_BODY = 1 << 20


class Server(Protocol):
    """One server."""

    async def send(
        self, carrier: Any, request: HTTPRequest, connect: float | None
    ) -> Response | aiohttp.ClientResponse:
        """Send `request` and wait for the head of its response.

        Args:
            carrier: The running loop's `Connector`, or the caller's session.
            request: The request.
            connect: Seconds a new connection may take.
        """


class DirectServer:
    """A server that is reached over a `Connector`.

    Args:
        way: The way to it.
        headers: Headers of every request.
        tls: How certificates are checked; needed where `way` uses TLS.
    """

    def __init__(self, way: Route, headers: Mapping[str, str], tls: ssl.SSLContext | None) -> None:
        self._way = way
        self._headers = headers
        self._tls = tls if tls is not None else True
        self._hops: WeakKeyDictionary[Connector, aiohttp.ClientRequest] = WeakKeyDictionary()

    async def send(self, carrier: Connector, request: HTTPRequest, connect: float | None) -> Response:
        """See `Server`."""
        hop = self._hops.get(carrier)
        if hop is None:
            hop = self._hop()
            if not self._way.tunnel:  # aiohttp changes a request that asks for a tunnel
                self._hops[carrier] = hop
        data = request.encode(self._way.target(request.path), self._headers)
        return await carrier.send(hop, data, connect)

    def _hop(self) -> aiohttp.ClientRequest:
        """Make the request that tells aiohttp where to connect to."""
        way = self._way
        options: dict[str, Any] = {"ssl": self._tls, "loop": asyncio.get_running_loop()}
        first = _origin(way.host, way.port, tls=way.tls)
        if not way.tunnel:
            return aiohttp.ClientRequest("GET", first, **options)
        server = _origin(way.server, way.server_port, tls=True)
        return aiohttp.ClientRequest("GET", server, proxy=first, proxy_headers=dict(way.login), **options)


def _origin(host: str, port: int, *, tls: bool) -> URL:
    return URL.build(scheme="https" if tls else "http", host=host, port=port)


class SessionServer:
    """A server that is reached over the caller's session.

    Args:
        url: Base URL of the server.
        headers: The headers given to the transport.
        api_key: The API key given to the transport.
        verify: True leaves certificates to the session.
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
        way = route(url)
        replaced = {name.title() for name in session.headers} - given_headers(headers, api_key).keys()
        sent = request_headers(headers, api_key)
        sent = {name: value for name, value in sent.items() if name not in replaced}
        sent = headers_for(way, sent, None)
        if session.auth is not None and "Authorization" in sent:
            raise InvalidArgument(
                "session: its `auth` cannot be combined with an API key, an Authorization header or "
                "credentials in the URL",
                argument="session",
            )
        self._base = f"{urlsplit(url).scheme}://{sent.pop('Host')}{way.base}"
        self._headers = sent
        self._options = {} if verify is True else {"ssl": tls_context(verify)}

    async def send(
        self, carrier: aiohttp.ClientSession, request: HTTPRequest, connect: float | None
    ) -> aiohttp.ClientResponse:
        """See `Server`."""
        if carrier.closed:
            raise InvalidArgument("session: this aiohttp.ClientSession is closed", argument="session")
        body = request.body
        return await carrier.request(
            request.method,
            URL(self._base + request.path, encoded=True),
            data=io.BytesIO(body) if body is not None and len(body) > _LARGE_BODY else body,
            headers={**self._headers, **request.headers},
            timeout=_limits(connect, carrier.timeout),
            allow_redirects=False,
            raise_for_status=False,
            auto_decompress=True,
            **self._options,
        )


@lru_cache(maxsize=64)
def _limits(connect: float | None, given: aiohttp.ClientTimeout) -> aiohttp.ClientTimeout:
    """The limit of connecting and the limits that the caller has set for a session; ours are `Deadline`'s."""
    if given == aiohttp.client.DEFAULT_TIMEOUT:  # 5 minutes an answer
        return aiohttp.ClientTimeout(connect=connect)
    shorter = min((limit for limit in (connect, given.connect) if limit), default=None)
    return aiohttp.ClientTimeout(given.total, shorter, given.sock_read, given.sock_connect)
