"""aiohttp's connections and parser without its client session, which costs more than both."""

from __future__ import annotations

import asyncio
import os
import select
import weakref
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

__all__ = ["Connector", "Response", "abort"]

#: Seconds an idle connection is kept.
_KEEP_ALIVE = 300.0
#: Bytes of a body that wait for a slow reader; at twice as many the server is made to wait.
_READ_BUFFER = 1 << 16
#: Longest status line and longest header of a response, in bytes.
_LONGEST_LINE = 1 << 16
#: Most interim responses (1xx) before a response.
_MOST_INTERIM = 16

_connectors: weakref.WeakSet[Connector] = weakref.WeakSet()


class Response:
    """A response on its way: what the client needs of `aiohttp.ClientResponse`, at a fraction of its cost.

    Args:
        connection: The connection that the request was written to.

    Attributes:
        status: The HTTP status.
        headers: The headers, by name in any case.
        content: The body, decompressed; None before the head has arrived.
        connection: The connection, None once it was released or closed.
    """

    __slots__ = ("connection", "content", "headers", "status")

    status: int
    headers: Mapping[str, str]
    content: Any  # aiohttp.StreamReader

    def __init__(self, connection: Any) -> None:
        self.connection, self.content = connection, None

    async def start(self) -> None:
        """Wait for the head of the response.

        Raises:
            aiohttp.ClientError: The connection broke, or brought bytes that are not HTTP/1.1.
        """
        protocol = self.connection.protocol
        for _ in range(_MOST_INTERIM + 1):
            try:
                message, content = await protocol.read()
            except HttpProcessingError as error:
                raise aiohttp.ClientPayloadError(f"not valid HTTP/1.1: {error.message}") from error
            if message.code >= 200:
                self.status, self.headers, self.content = message.code, message.headers, content
                content.on_eof(self._release)
                return
            if message.code == 101:
                break
        raise aiohttp.ClientPayloadError(f"unexpected status {message.code}")

    @property
    def closed(self) -> bool:
        """Whether the connection is no longer in use, because the body has ended or by `close`."""
        return self.connection is None

    def close(self) -> None:
        """Close the connection, unless it was released; a task that reads the body gets an error."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()
            if self.content is not None and self.content.exception() is None:
                self.content.set_exception(aiohttp.ClientConnectionError("the connection was closed"))

    def _release(self) -> None:
        """Keep the connection for another request."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.release()


class Connector(aiohttp.TCPConnector):
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

    async def send(self, hop: aiohttp.ClientRequest, data: bytes, connect: float | None) -> Response:
        """Write a request and wait for the head of its response.

        Args:
            hop: Says where to connect to.
            data: The request.
            connect: Seconds a new connection may take.

        Raises:
            aiohttp.ClientError, OSError: No connection could be made, or it broke.
        """
        try:
            connection = await self.connect(hop, [], _limits(connect))
        except asyncio.TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"no connection within {connect} s") from error
        response = Response(connection)
        try:
            connection.protocol.set_response_params(
                read_until_eof=True,
                read_bufsize=_READ_BUFFER,
                max_line_size=_LONGEST_LINE,
                max_field_size=_LONGEST_LINE,
            )
            connection.transport.write(data)
            await response.start()
        except BaseException:  # a cancellation too: the connection must not stay open
            abort(response)
            raise
        return response

    async def close(self, **kwargs: Any) -> None:
        """Close all connections at once, whatever is still to be sent over them."""
        for protocol in self.__known:
            if protocol.transport is not None:
                protocol.transport.abort()
        await super().close(**kwargs)
        await asyncio.sleep(0)  # in which the sockets are closed

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


def abort(response: Response | aiohttp.ClientResponse) -> None:
    """Close the connection of `response` at once, though the server may not have read all of the request."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


@lru_cache(maxsize=64)
def _limits(connect: float | None) -> aiohttp.ClientTimeout:
    """The limit of connecting; `Deadline` holds the others."""
    return aiohttp.ClientTimeout(connect=connect)


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
