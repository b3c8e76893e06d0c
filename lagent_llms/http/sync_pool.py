"""The synchronous connections to one server: urllib3 opens them, bytes go over their sockets."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import ssl
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as URLTimeoutError

from ..core.deadline import Deadline
from ..errors import LLMError
from .config import connect_error, connect_timeout, interrupted
from .content_encoding import ContentDecoder, content_decoder
from .messages import HTTPRequest, ResponseHead
from .parser import ResponseReader
from .proxy import Route

if TYPE_CHECKING:
    from ..params import Timeout

__all__ = ["Connections", "SocketChannel"]

_MOST_AT_ONCE = 1 << 16
#: Seconds a finished answer may take to release its connection before that is closed.
_DRAIN_TIMEOUT = 0.02


class Connections:
    """Connections to one server, kept open between requests. Safe to share between threads.

    Args:
        url: Base URL of the server.
        route: The way to it.
        headers: Headers of every request.
        most_idle: Most idle connections that are kept.
        tls: How certificates are checked; needed where `route` uses TLS.
    """

    def __init__(
        self,
        url: str,
        route: Route,
        headers: dict[str, str],
        *,
        most_idle: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.url = url
        self.route = route
        self.headers = headers
        self._tls = tls
        self._most_idle = most_idle
        self._idle: list[HTTPConnection] = []
        self._pid = os.getpid()
        self._closed = False

    def open(self, deadline: Deadline, limits: Timeout) -> SocketChannel:
        """Make the channel for one request, over an idle connection or a new one.

        Args:
            deadline: Limits each wait of the request.
            limits: Where the limit for connecting stands.

        Raises:
            ConnectError, TimeoutExceeded: No connection could be made.
        """
        remaining = deadline.remaining()
        if remaining == 0:
            raise deadline.exceeded()
        if (connection := self._take()) is None:
            limit = min((each for each in (limits.connect, remaining) if each is not None), default=None)
            connection = self._new(limit)
            try:
                connection.connect()
            except BaseException as error:
                connection.close()
                if isinstance(error, (HTTPError, HTTPException, OSError)):
                    raise self._not_connected(error, deadline, limits) from error
                raise
        return SocketChannel(self, connection, deadline)

    def give_back(self, connection: HTTPConnection) -> None:
        """Keep `connection` for another request."""
        if len(self._idle) < self._most_idle and not self._closed:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close idle connections; connections in use close when they are given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> HTTPConnection | None:
        """Take the idle connection that was used last, None if there is none."""
        self._closed = False  # a request after `close` opens the pool again
        if self._pid != os.getpid():  # forked: the idle connections belong to the parent
            inherited, self._idle, self._pid = self._idle, [], os.getpid()
            for connection in inherited:
                connection.close()  # closes this process's descriptor only: nothing is sent
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if connection.is_connected:
                return connection
            connection.close()
        return None

    def _new(self, timeout: float | None) -> HTTPConnection:
        route = self.route
        if not (route.tls or route.tunnel):
            return HTTPConnection(route.host, route.port, timeout=timeout)
        options: dict[str, Any] = {"timeout": timeout, "ssl_context": self._tls}
        if not route.tunnel:
            return HTTPSConnection(route.host, route.port, **options)
        through = ProxyConfig(self._tls, False, None, None)
        connection = HTTPSConnection(route.host, route.port, proxy_config=through, **options)
        server = f"[{route.server}]" if ":" in route.server else route.server
        scheme = "https" if route.tls else "http"
        connection.set_tunnel(server, route.server_port, headers=route.login, scheme=scheme)
        return connection

    def _not_connected(self, error: Exception, deadline: Deadline, limits: Timeout) -> LLMError:
        if deadline.remaining() == 0:
            return deadline.exceeded()
        timed_out = isinstance(error, (TimeoutError, URLTimeoutError))
        if timed_out and not isinstance(error, NewConnectionError):
            return connect_timeout(self.url, limits.connect)
        return connect_error(self.url, error)


class SocketChannel:
    """One request and its response over a connection.

    Args:
        connections: The pool that the connection came from.
        connection: An open connection.
        deadline: Limits each wait.
    """

    def __init__(self, connections: Connections, connection: HTTPConnection, deadline: Deadline) -> None:
        self._connections = connections
        self._connection = connection
        self._deadline = deadline
        self._reader = ResponseReader()
        self._decoder: ContentDecoder | None = None
        self._begun = b""  # bytes of the body that arrived together with the head
        self._limit = math.inf  # timeout of the socket, in seconds
        self._socket: socket.socket = connection.sock
        self._pid = os.getpid()
        self._wait_without_limit()

    @property
    def ended(self) -> bool:
        """Whether all of the response has been read."""
        return self._reader.ended and not self._begun

    def send(self, request: HTTPRequest) -> ResponseHead:
        """Send `request` and wait for the head of its response.

        Raises:
            TimeoutExceeded: The deadline has passed.
            StreamInterrupted: The connection broke, or brought bytes that are not HTTP/1.1.
            ServerError: The body cannot be decoded.
        """
        route = self._connections.route
        data = request.encode(route.target(request.path), self._connections.headers)
        try:
            self._limit_wait()
            # The server may have said why before it closed the connection.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._socket.sendall(data)
            while self._reader.head is None:
                data = self._receive()
                if not data:
                    self._reader.finish()
                self._begun = self._reader.feed(data)
        except (OSError, ValueError) as error:
            raise self._broken(error) from error
        head = self._reader.head
        if encoding := head.headers.get("content-encoding"):
            self._decoder = content_decoder(encoding)
        return head

    def read(self) -> bytes:
        """Read some of the body, b'' at its end; raises as `send` does."""
        try:
            data = self._read()
            if self._decoder is None:
                return data
            while data:
                if decoded := self._decoder.feed(data):
                    return decoded
                data = self._read()
            self._decoder.finish()
        except (OSError, ValueError) as error:
            raise self._broken(error) from error
        return b""

    def drain(self) -> None:
        """Wait briefly for the end of a response that is no longer needed, to keep its connection."""
        with contextlib.suppress(OSError, ValueError):
            self._socket.settimeout(_DRAIN_TIMEOUT)
            self._reader.feed(self._socket.recv(_MOST_AT_ONCE))

    def leave(self) -> None:
        """Give the connection back if all of the response has been read, else close it."""
        if self._reader.reusable and self._pid == os.getpid():
            self._connections.give_back(self._connection)
        else:
            self._connection.close()

    def wake(self) -> None:
        """End the wait of another thread, which finds the connection broken."""
        if self._pid == os.getpid():  # in a fork, the connection is the parent's
            with contextlib.suppress(OSError):
                # TLS within the TLS of a proxy is no socket, but has one.
                getattr(self._socket, "socket", self._socket).shutdown(socket.SHUT_RDWR)

    def _read(self) -> bytes:
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

    def _receive(self) -> bytes:
        while True:
            self._limit_wait()
            try:
                return self._socket.recv(_MOST_AT_ONCE)
            except TimeoutError:  # but the deadline may have moved since
                self._wait_without_limit()

    def _limit_wait(self) -> None:
        """Shorten the timeout of the socket where it exceeds the deadline; a longer wait is repeated."""
        remaining = self._deadline.remaining()
        if remaining is not None and remaining < self._limit:
            if remaining == 0:
                raise TimeoutError
            self._socket.settimeout(remaining)
            self._limit = remaining

    def _wait_without_limit(self) -> None:
        self._socket.settimeout(None)
        self._limit = math.inf

    def _broken(self, error: Exception) -> LLMError:
        if isinstance(error, TimeoutError):
            return self._deadline.exceeded()
        return interrupted(self._connections.url, error)
