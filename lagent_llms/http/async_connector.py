"""aiohttp's connections and parser without its `ClientSession`, which costs more CPU time than both."""

from __future__ import annotations

import asyncio
import os
import select
import weakref
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from .. import forks
from .content_encoding import ContentDecoder, content_decoder
from .endpoints import USE_HTTPS
from .limits import Limits

__all__ = ["Connector", "Response", "abort"]

#: Seconds an idle connection is kept.
_KEEP_ALIVE = 300.0
#: Bytes of a body that are buffered for a slow reader; at twice as many the connection stops reading.
_READ_BUFFER_SIZE = 1 << 16

_connectors: weakref.WeakSet[Connector] = weakref.WeakSet()


class Response:
    """A response that is being received: the part of `aiohttp.ClientResponse` that the client uses.

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

    async def start(self, interim_responses: int) -> None:
        """Wait for the head of the response, after at most `interim_responses`.

        Raises:
            aiohttp.ClientError: The connection broke, or received bytes that are not HTTP/1.1.
            ServerError: The body cannot be decoded.
        """
        protocol = self.connection.protocol
        for _ in range(interim_responses + 1):
            try:
                message, content = await protocol.read()
            except HttpProcessingError as error:
                alert = "\\x15\\x03" in error.message  # of TLS
                reason = USE_HTTPS if alert else error.message
                raise aiohttp.ClientPayloadError(f"not valid HTTP/1.1: {reason}") from error
            if message.code >= 200:
                self.status, self.headers, self.content = message.code, message.headers, content
                content.on_eof(self._release)
                if encoding := message.headers.get("Content-Encoding"):
                    decoder = content_decoder(encoding)
                    self.content = content if decoder is None else _DecodedContent(content, decoder)
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


class _DecodedContent:
    """A compressed body as the `aiohttp.StreamReader` of the decompressed one."""

    def __init__(self, content: Any, decoder: ContentDecoder) -> None:
        self._content, self._decoder = content, decoder
        self.on_eof, self.exception = content.on_eof, content.exception
        self.set_exception = content.set_exception

    async def readany(self) -> bytes:
        """Return some of the body, b'' at its end.

        Raises:
            ValueError: It is not compressed as announced, or cut off.
        """
        data = b""
        while self._decoder.more or (data := await self._content.readany()):
            if decoded := self._decoder.feed(data):
                return decoded
            data = b""
        self._decoder.finish()
        return b""


class Connector(aiohttp.TCPConnector):
    """Connections of one loop in one process; they are not used after a fork or after the loop is closed.

    aiohttp notices that a server has closed an idle connection only once the loop has run; this connector
    polls the socket before it reuses a connection.

    Attributes:
        destinations: What each server keeps of it, to connect to.
    """

    def __init__(self) -> None:
        super().__init__(limit=0, keepalive_timeout=_KEEP_ALIVE)
        self.destinations: dict[object, aiohttp.ClientRequest] = {}
        self.__loop = asyncio.get_running_loop()
        self.__inherited = False
        self.__protocols: weakref.WeakSet[Any] = weakref.WeakSet()
        _connectors.add(self)

    @property
    def closed(self) -> bool:
        """Whether the connections are closed, inherited by a fork, or their loop is closed."""
        return super().closed or self.__inherited or self.__loop.is_closed()

    async def _connection(
        self, destination: aiohttp.ClientRequest, limit: aiohttp.ClientTimeout, *, fresh: bool
    ) -> tuple[Any, bool]:
        """Return a connection, and whether it is an idle one that is still open; never with `fresh`."""
        while True:
            connection = await self.connect(destination, [], limit)
            protocol: Any = connection.protocol
            if protocol not in self.__protocols:
                self.__protocols.add(protocol)
                return connection, False
            # `should_close` is also true if an unrequested response is buffered.
            if not fresh and not protocol.should_close and _is_reusable(connection.transport):
                return connection, True
            connection.close()

    async def send(
        self,
        destination: aiohttp.ClientRequest,
        data: bytes,
        connect: float | None,
        limits: Limits,
        on_write: Callable[[], None],
    ) -> Response:
        """Write a request and wait for the head of its response.

        A request over an idle connection that breaks before the server has sent anything is written again to
        a new one: the server had closed it.

        Args:
            destination: Names the host, port, TLS context and proxy to connect to.
            data: The serialized request.
            connect: Seconds a new connection may take.
            limits: The most that the server may send.
            on_write: Called before the request is written.

        Raises:
            aiohttp.ClientError, OSError: No connection could be made, or it broke.
        """
        fresh = False
        while True:
            try:
                connection, reused = await self._connection(
                    destination, _client_timeout(connect), fresh=fresh
                )
            except asyncio.TimeoutError as error:
                raise aiohttp.ConnectionTimeoutError(f"no connection within {connect} s") from error
            on_write()
            response = Response(connection)
            try:
                connection.protocol.set_response_params(
                    read_until_eof=True,
                    auto_decompress=False,
                    read_bufsize=_READ_BUFFER_SIZE,
                    max_line_size=limits.head_bytes,
                    max_field_size=limits.head_bytes,
                    max_headers=limits.headers,
                )
                connection.transport.write(data)
                await response.start(limits.interim_responses)
            except BaseException as error:  # a cancellation too: the connection must not stay open
                abort(response)
                if not (reused and isinstance(error, (aiohttp.ServerDisconnectedError, OSError))):
                    raise
                fresh = True
            else:
                return response

    async def close(self, **kwargs: Any) -> None:
        """Close all connections at once; buffered data is not sent."""
        for protocol in self.__protocols:
            if protocol.transport is not None:
                protocol.transport.abort()
        await super().close(**kwargs)
        await asyncio.sleep(0)  # the loop closes the sockets in this step

    def forget(self) -> None:
        """Drop the inherited connections after a fork, without closing their transports.

        The child shares the selector of the parent's loop: closing a transport would unregister it there.
        """
        self.__inherited = True
        for protocol in self.__protocols:
            if protocol.transport is not None:
                forks.close_inherited(protocol.transport.get_extra_info("socket"))
            protocol.transport = None

    def __del__(self, *args: Any) -> None:
        if not self.closed:
            super().__del__(*args)


def abort(response: Response | aiohttp.ClientResponse) -> None:
    """Close the connection of `response` at once, even if part of the request is not sent yet."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


@lru_cache(maxsize=64)
def _client_timeout(connect: float | None) -> aiohttp.ClientTimeout:
    """Make aiohttp's limit for connecting; `Deadline` enforces the other limits."""
    return aiohttp.ClientTimeout(connect=connect)


def _is_reusable(transport: asyncio.Transport | None) -> bool:
    """Whether an idle connection is open and has nothing to read, neither data nor the end of the stream."""
    socket = None if transport is None else transport.get_extra_info("socket")
    if socket is None or socket.fileno() < 0:
        return False
    if not hasattr(select, "poll"):  # Windows
        return not select.select([socket], [], [], 0)[0]
    poller = select.poll()
    poller.register(socket.fileno(), select.POLLIN)
    return not poller.poll(0)


def _after_fork_in_child() -> None:
    for connector in _connectors:
        connector.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
