"""aiohttp beneath the asynchronous driver: the session of each event loop, and how each server is reached."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import ssl
import warnings
import weakref
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from ..core.deadline import timeout_after
from ..errors import InvalidArgument
from .config import given_headers, headers_for, request_headers, tls_context
from .environment import read_environment
from .proxy import ascii_url, route

__all__ = ["LoopSession", "Server", "abort"]

#: Bytes of a body that wait for a slow reader; at twice as many the server is made to wait.
_READ_BUFFER = 1 << 16
#: Longest status line and longest header of a response, in bytes.
_LONGEST_LINE = 1 << 16
#: Seconds an idle connection is kept.
_KEEP_ALIVE = 300.0
#: Seconds the end of a response may come after the end of its answer before the connection is closed.
_DRAIN_TIMEOUT = 1.0
#: Seconds a request waits for such a connection rather than make a new one.
_PATIENCE = 0.02

_connectors: weakref.WeakSet[_Connector] = weakref.WeakSet()


class _Connector(aiohttp.TCPConnector):
    """Connections of one loop in one process; after a fork or the end of the loop, nothing touches them.

    aiohttp sees that a server has closed an idle connection only when the loop has run since; here the socket
    is looked at before the connection is used again.
    """

    def __init__(self) -> None:
        super().__init__(limit=0, keepalive_timeout=_KEEP_ALIVE)
        self.__loop = asyncio.get_running_loop()
        self.__inherited = False
        self.__known: weakref.WeakSet[Any] = weakref.WeakSet()  # protocols
        _connectors.add(self)

    @property
    def closed(self) -> bool:
        """Whether the connections cannot be used here."""
        return super().closed or self.__inherited or self.__loop.is_closed()

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        """An idle connection that is still open, or a new one; the arguments are aiohttp's."""
        while True:
            connection = await super().connect(*args, **kwargs)
            if connection.protocol not in self.__known:
                self.__known.add(connection.protocol)
                return connection
            if _is_quiet(connection.transport):
                return connection
            connection.close()

    def forget(self) -> None:
        """Leave the sockets to the parent process.

        A fork shares the loop's selector: to close a socket here would make the parent's loop deaf for it.
        """
        self.__inherited = True
        for protocol in self.__known:
            protocol.transport = None

    def __del__(self, *args: Any) -> None:
        if not self.closed:
            super().__del__(*args)


def _is_quiet(transport: asyncio.Transport | None) -> bool:
    """Whether a connection between two requests is open and the server has sent nothing (that it closes)."""
    socket = None if transport is None else transport.get_extra_info("socket")
    if socket is None or socket.fileno() < 0:
        return False
    if not hasattr(select, "poll"):  # Windows
        return not select.select([socket], [], [], 0)[0]
    watch = select.poll()
    watch.register(socket.fileno(), select.POLLIN)
    return not watch.poll(0)


def _after_fork_in_child() -> None:
    for connector in _connectors:
        connector.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@dataclass(frozen=True, slots=True)
class Server:
    """How requests reach one server.

    Attributes:
        base: Scheme, host, port and path of its base URL, encoded.
        headers: Headers of every request.
        options: Further arguments of `aiohttp.ClientSession.request`: proxy and certificates.
    """

    base: str
    headers: Mapping[str, str] = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)

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
        return cls(origin + route(url).base, sent, options)


def own_loop(session: aiohttp.ClientSession) -> asyncio.AbstractEventLoop | None:
    """The event loop `session` was made in, None if it does not say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(session, "loop", None)


class Running(Protocol):
    """A request that is on its way."""

    def abort(self) -> None:
        """Break it off; its reader gets an error."""


class LoopSession:
    """The session of the running event loop, and the requests that use it.

    Args:
        given: The caller's session, which stays open; None makes one.

    Attributes:
        loop: The event loop.
        session: The session.
        running: Requests on their way.
        ending: For each server, responses that are over once their last bytes have come.
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
            connector=_Connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_READ_BUFFER,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
        )
        self.running: set[Running] = set()
        self.ending: defaultdict[str, deque[aiohttp.ClientResponse]] = defaultdict(deque)

    async def settle(self, url: str) -> None:
        """Wait a moment if a connection to `url` has carried a whole answer and is nearly free."""
        ending = self.ending[url]
        while ending:
            response = ending.popleft()
            if not response.closed:
                ended = asyncio.Event()
                response.content.on_eof(ended.set)
                with contextlib.suppress(asyncio.TimeoutError):
                    async with timeout_after(_PATIENCE):
                        await ended.wait()
                return

    def leave(self, response: aiohttp.ClientResponse, url: str, *, whole: bool) -> None:
        """Read no more of `response`: keep its connection if the answer is `whole`, else close it."""
        if response.closed:  # the connection was released with the last byte
            return
        if not whole:
            abort(response)
            return
        timer = self.loop.call_later(_DRAIN_TIMEOUT, response.close)
        response.content.on_eof(timer.cancel)
        self.ending[url].append(response)

    async def close(self) -> None:
        """Break off what is running and close the session, unless it is the caller's."""
        for request in list(self.running):
            request.abort()
        for ending in self.ending.values():
            while ending:
                ending.popleft().close()
        if self._given:
            return
        with contextlib.suppress(asyncio.TimeoutError):  # a server that reads no more: its socket ends later
            async with timeout_after(_DRAIN_TIMEOUT):
                await self.session.close()


def abort(response: aiohttp.ClientResponse) -> None:
    """Close the connection of `response` at once, though the server may not have read all of the request."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()
