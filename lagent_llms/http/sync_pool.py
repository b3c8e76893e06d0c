"""The connections to one server, for the synchronous driver: urllib3 makes them, bytes go over their sockets.

What is hard about a connection (addresses, TLS, proxies and their tunnels) is urllib3's. What is left of HTTP
is little (`HTTPRequest.encode`, `ResponseReader`) and not worth the layers of a general client.
"""

from __future__ import annotations

import contextlib
import math
import socket
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection

from ..core.deadline import Deadline
from .messages import ResponseHead
from .parser import ResponseReader
from .proxy import route

__all__ = ["Channel", "Connections"]

_MOST_AT_ONCE = 1 << 16
#: Seconds a finished answer may take to let go of its connection before that is dropped.
_DRAIN_TIMEOUT = 0.02


class Connections:
    """Connections to one server, kept open between requests. Safe to share between threads.

    Args:
        url: Base URL of the server.
        proxy: URL of the proxy to go through.
        most_idle: How many are kept.
        tls: As `urllib3.PoolManager` takes it: ``ssl_context``.

    Attributes:
        route: The way to the server.
    """

    def __init__(self, url: str, *, proxy: str | None, most_idle: int, **tls: Any) -> None:
        self.route = route(url, proxy)
        manager: urllib3.PoolManager
        if proxy is None:
            manager = urllib3.PoolManager(**tls)
        else:
            manager = urllib3.ProxyManager(proxy, proxy_headers=self.route.login, **tls)
        self._maker = manager.connection_from_url(url)
        self._most_idle = most_idle
        self._idle: list[HTTPConnection] = []
        self._closed = False

    def take(self, timeout: float | None) -> HTTPConnection:
        """An open connection; the one that was used last, or a new one.

        Args:
            timeout: Longest time to connect, in seconds.

        Raises:
            OSError, urllib3.exceptions.HTTPError: None could be made.
        """
        self._closed = False  # who asks after a close begins anew
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if connection.is_connected:
                return connection
            connection.close()
        connection = self._maker._new_conn()  # type: ignore[assignment]
        connection.timeout = timeout
        try:
            if self.route.tunnel:
                self._maker._prepare_proxy(connection)
            else:
                connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def give_back(self, connection: HTTPConnection) -> None:
        """`connection` can carry another request."""
        if len(self._idle) < self._most_idle and not self._closed:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close those that wait for a request; those in use close when they are given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


class Channel:
    """One request and its response over a connection.

    Args:
        connections: Where the connection is from, and goes back to.
        connection: An open one.
        deadline: How long each wait may take.
    """

    def __init__(self, connections: Connections, connection: HTTPConnection, deadline: Deadline) -> None:
        self._connections = connections
        self._connection = connection
        self._deadline = deadline
        self._reader = ResponseReader()
        self._begun = b""  # what came of the body together with the head
        self._limit = math.inf  # seconds the socket waits
        self._socket: socket.socket = connection.sock
        self._wait_without_limit()

    @property
    def ended(self) -> bool:
        """Whether all of the response has been read."""
        return self._reader.ended and not self._begun

    def send(self, request: bytes) -> ResponseHead:
        """Send `request` and wait for the head of its response.

        Raises:
            TimeoutError: The deadline is over.
            OSError, ValueError: The connection broke, or what came over it makes no sense.
        """
        self._limit_wait()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have said why before
            self._socket.sendall(request)
        while self._reader.head is None:
            data = self._receive()
            if not data:
                self._reader.finish()
            self._begun = self._reader.feed(data)
        return self._reader.head

    def read(self) -> bytes:
        """Some of the body, empty at its end; raises as `send` does."""
        if self._begun:
            data, self._begun = self._begun, b""
            return data
        while not self._reader.ended:
            data = self._receive()
            if not data:
                self._reader.finish()
            elif inside := self._reader.feed(data):
                return inside
        return b""

    def drain(self) -> None:
        """Wait a moment for the end of an answer that is whole, so that the connection can be kept."""
        with contextlib.suppress(OSError, ValueError):
            self._socket.settimeout(_DRAIN_TIMEOUT)
            self._reader.feed(self._socket.recv(_MOST_AT_ONCE))

    def leave(self) -> None:
        """Give the connection back if all of the response has been read, else close it."""
        if self._reader.reusable:
            self._connections.give_back(self._connection)
        else:
            self._connection.close()

    def wake(self) -> None:
        """End the wait of another thread: it finds the connection broken."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _receive(self) -> bytes:
        while True:
            self._limit_wait()
            try:
                return self._socket.recv(_MOST_AT_ONCE)
            except TimeoutError:  # but the deadline may have moved since
                self._wait_without_limit()

    def _limit_wait(self) -> None:
        """See to it that no wait outlasts the deadline; one that ends early costs nothing but a look."""
        remaining = self._deadline.remaining()
        if remaining is not None and remaining < self._limit:
            if remaining == 0:
                raise TimeoutError
            self._socket.settimeout(remaining)
            self._limit = remaining

    def _wait_without_limit(self) -> None:
        self._socket.settimeout(None)
        self._limit = math.inf
