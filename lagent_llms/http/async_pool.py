"""The connections to one server, for event loops: asyncio makes them, each carries one request at a time."""

from __future__ import annotations

import asyncio
import contextlib
import select
import ssl
from collections import deque
from typing import Any, cast

from .messages import ResponseHead
from .parser import ResponseReader
from .proxy import Route

__all__ = ["AsyncConnection", "AsyncConnections"]

#: Bytes of a body that wait for a slow reader before the server is made to wait.
_MOST_UNREAD = 1 << 18
#: Seconds a finished answer may take to let go of its connection before that is dropped.
_DRAIN_TIMEOUT = 1.0
#: Seconds the next request waits for such a connection rather than make a new one.
_PATIENCE = 0.02
#: Seconds after which another address of the server is tried beside the first (RFC 8305).
_NEXT_ADDRESS = 0.25


class AsyncConnections:
    """Connections to one server in one loop, kept open between requests.

    Args:
        route: The way to the server.
        tls: How its certificate is checked.
    """

    def __init__(self, route: Route, tls: ssl.SSLContext | None) -> None:
        self.route = route
        self._tls = tls
        self._closed = False
        self._all: set[AsyncConnection] = set()
        self._idle: list[AsyncConnection] = []
        self._leaving: deque[AsyncConnection] = deque()

    async def kept(self) -> AsyncConnection | None:
        """A connection that is open already and free, or about to be; the one that was used last."""
        while self._idle:
            connection = self._idle.pop()
            if connection.quiet:
                return connection
            connection.abort()
        while self._leaving:  # each request waits for one of them at most
            connection = self._leaving.popleft()
            if connection.leaving:
                free = await connection.freed(_PATIENCE) and connection in self._idle
                if free:  # else another request was faster
                    self._idle.remove(connection)
                    if connection.quiet:
                        return connection
                    connection.abort()
                return None
        return None

    async def connect(self) -> AsyncConnection:
        """A new connection.

        Raises:
            OSError, ValueError: None could be made.
        """
        loop, route = asyncio.get_running_loop(), self.route
        options: dict[str, Any] = {}
        if route.tls:
            options = {"ssl": self._context(), "server_hostname": route.host}
        if isinstance(loop, asyncio.BaseEventLoop):  # others (uvloop) know no such option
            options["happy_eyeballs_delay"] = _NEXT_ADDRESS
        _, connection = await loop.create_connection(
            lambda: AsyncConnection(self), route.host, route.port, **options
        )
        if route.tunnel:
            try:
                await connection.tunnel(route, self._context())
            except BaseException:
                connection.abort()
                raise
        return connection

    def opened(self, connection: AsyncConnection) -> None:
        """`connection` is one of ours."""
        self._all.add(connection)
        if self._closed:
            connection.abort()

    def leaves(self, connection: AsyncConnection) -> None:
        """`connection` will soon be free."""
        self._leaving.append(connection)

    def free(self, connection: AsyncConnection) -> None:
        """`connection` can carry another request."""
        self._idle.append(connection)

    def lost(self, connection: AsyncConnection) -> None:
        """`connection` is closed."""
        self._all.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)

    async def close(self) -> None:
        """Close them all; what is read from them breaks."""
        self._closed = True
        for connection in list(self._all):
            connection.abort()
        end = asyncio.get_running_loop().time() + _DRAIN_TIMEOUT
        while self._all and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110  (a step or two)
            await asyncio.sleep(0)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


class AsyncConnection(asyncio.Protocol):
    """One connection, and the response that is read from it.

    Attributes:
        leaving: Its answer is whole and nobody reads on; once its response has ended it is free.
    """

    def __init__(self, connections: AsyncConnections) -> None:
        self.leaving = False
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader: ResponseReader | None = None  # None between two requests
        self._parts: list[bytes] = []  # of the body, not asked for yet
        self._unread = 0
        self._paused = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._farewell: asyncio.TimerHandle | None = None

    # What the caller does.

    @property
    def quiet(self) -> bool:
        """Whether it is open and the server has said nothing since the last response (that it closes)."""
        if self._transport is None or self._transport.is_closing():
            return False
        socket = self._transport.get_extra_info("socket")
        if not hasattr(select, "poll"):  # Windows
            return not select.select([socket], [], [], 0)[0]
        watch = select.poll()
        watch.register(socket.fileno(), select.POLLIN)
        return not watch.poll(0)

    async def send(self, request: bytes) -> ResponseHead:
        """Send `request` and wait for the head of its response.

        Raises:
            OSError, ValueError: The connection broke, or what came over it makes no sense.
        """
        if self._transport is None:
            raise ConnectionError("the server closed the connection")
        reader = self._reader = ResponseReader()
        self._transport.write(request)
        while reader.head is None:
            await self._news()
        return reader.head

    async def read(self) -> bytes:
        """Some of the body, empty at its end; raises as `send` does."""
        assert self._reader is not None
        while not self._parts:
            if self._reader.ended:
                return b""
            await self._news()
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._forget_unread()
        return data

    def leave(self, *, whole: bool) -> None:
        """Nobody reads on: it is kept if the response has ended, or soon ends since the answer is `whole`.

        May come from any thread, and from a finalizer.
        """
        if asyncio._get_running_loop() is not self._loop:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the connection with it
                self._loop.call_soon_threadsafe(lambda: self.leave(whole=whole))
            return
        if self._reader is None or self._transport is None:
            return
        self._forget_unread()
        if self._reader.ended:
            self._set_free()
        elif whole and self._error is None:
            self.leaving = True
            self._farewell = self._loop.call_later(_DRAIN_TIMEOUT, self.abort)
            self._connections.leaves(self)
        else:
            self.abort()

    async def freed(self, seconds: float) -> bool:
        """Whether it is free within so many seconds."""
        self._waiter = waiter = self._loop.create_future()
        await asyncio.wait((waiter,), timeout=seconds)
        return not self.leaving and self._transport is not None

    def abort(self) -> None:
        """Close it at once; who reads from it finds it broken."""
        self.leaving = False
        self._error = self._error or ConnectionAbortedError("the connection was closed")
        if self._transport is not None:
            self._transport.abort()

    async def tunnel(self, route: Route, context: ssl.SSLContext) -> None:
        """Have a proxy connect to the server, and begin TLS with that.

        Raises:
            OSError, ValueError: It did not.
        """
        head = await self.send(_connect_request(route))
        if head.status >= 300:
            raise ConnectionError(f"the proxy refused to connect to it (HTTP {head.status})")
        self._reader = None
        assert self._transport is not None
        secure = await self._loop.start_tls(self._transport, self, context, server_hostname=route.server)
        self._transport = cast(asyncio.Transport, secure)

    def _forget_unread(self) -> None:
        self._parts.clear()
        self._unread = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    async def _news(self) -> None:
        """Wait until something has come."""
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        await self._waiter

    # What the loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.opened(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        reader = self._reader
        if reader is None:  # nothing was asked
            self.abort()
            return
        try:
            inside = reader.feed(data)
        except ValueError as error:
            self._error = error
            self.abort()
        else:
            if self.leaving:
                if reader.ended:
                    self._set_free()
                return
            if inside:
                self._parts.append(inside)
                self._unread += len(inside)
                if self._unread > _MOST_UNREAD and not self._paused and self._transport is not None:
                    self._paused = True
                    self._transport.pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._transport = None
        self.leaving = False
        if self._farewell is not None:
            self._farewell.cancel()
        if self._reader is not None and self._error is None:
            try:
                self._reader.finish()
            except ConnectionError as broken:
                self._error = error or broken
            self._reader.reusable = False
        self._connections.lost(self)
        self._wake()

    def _set_free(self) -> None:
        if self._farewell is not None:
            self._farewell.cancel()
            self._farewell = None
        self.leaving = False
        if self._reader is None or not self._reader.reusable:
            self.abort()
            return
        self._reader = None
        self._connections.free(self)
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _connect_request(route: Route) -> bytes:
    """The request by which a proxy is asked for a tunnel to the server."""
    server = f"[{route.server}]" if ":" in route.server else route.server
    address = f"{server}:{route.server_port}"
    lines = [f"CONNECT {address} HTTP/1.1", f"Host: {address}", *map(": ".join, route.login.items()), "\r\n"]
    return "\r\n".join(lines).encode("latin-1")
