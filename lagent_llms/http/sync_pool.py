"""Pool of synchronous connections to one server: opened by urllib3, read and written as sockets."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import ssl
import weakref
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as URLTimeoutError

from .. import forks
from ..core.deadline import Deadline
from ..errors import LLMError
from .config import connect_error, connect_timeout, interrupted
from .content_encoding import ContentDecoder, content_decoder
from .limits import DEFAULT_LIMITS, Limits
from .messages import HTTPRequest, ResponseHead
from .parser import ResponseReader
from .proxy import Route

if TYPE_CHECKING:
    from ..params import Timeout

__all__ = ["ConnectionPool", "SocketChannel"]

_READ_SIZE = 1 << 16
#: Longest wait for the end of a response whose answer is complete, in seconds; then its connection is closed.
_DRAIN_TIMEOUT = 0.02
#: Seconds by which a limit may be missed; setting the timeout of a socket is a system call.
_TOLERANCE = 0.01

_connections: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()


class ConnectionPool:
    """Connections to one server, kept open between requests. Safe to share between threads.

    Args:
        address: URL of the server without credentials, and the proxy; for messages.
        route: The route to the server.
        headers: Headers of every request.
        max_idle: Maximum number of idle connections that are kept.
        limits: The most that the server may send.
        tls: How certificates are checked; needed where `route` uses TLS.
    """

    def __init__(
        self,
        address: str,
        route: Route,
        headers: dict[str, str],
        *,
        max_idle: int,
        limits: Limits = DEFAULT_LIMITS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.address = address
        self.limits = limits
        self.route = route
        self.headers = headers
        self._tls = tls
        self._max_idle = max_idle
        self._idle: list[HTTPConnection] = []
        self._generation = forks.generation
        self._closed = False

    def open(self, deadline: Deadline, limits: Timeout, *, fresh: bool = False) -> SocketChannel:
        """Make the channel for one request, over an idle connection or a new one.

        Args:
            deadline: Limits each wait of the request.
            limits: The time limits; only `connect` is used.
            fresh: Use a new connection.

        Raises:
            ConnectError, TimeoutExceeded: No connection could be made.
        """
        remaining = deadline.remaining()
        if remaining == 0:
            raise deadline.exceeded(self.address)
        connection = None if fresh else self._take_idle()
        reused = connection is not None
        if connection is None:
            limit = min((value for value in (limits.connect, remaining) if value is not None), default=None)
            connection = self._new(limit)
            try:
                connection.connect()
            except BaseException as error:
                connection.close()
                if isinstance(error, (HTTPError, HTTPException, OSError)):
                    raise self._connect_failure(error, deadline, limits) from error
                raise
            _connections.add(connection)
        return SocketChannel(self, connection, deadline, reused=reused)

    def give_back(self, connection: HTTPConnection) -> None:
        """Keep `connection` for another request."""
        if len(self._idle) < self._max_idle and not self._closed:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close idle connections; connections in use close when they are given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _take_idle(self) -> HTTPConnection | None:
        """Remove and return the most recently used idle connection, None without one."""
        self._closed = False  # a request after `close` opens the pool again
        if self._generation != forks.generation:  # forked: the idle connections belong to the parent
            self._idle, self._generation = [], forks.generation
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread took the last one
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
        proxy = ProxyConfig(self._tls, False, None, None)
        connection = HTTPSConnection(route.host, route.port, proxy_config=proxy, **options)
        server = f"[{route.server}]" if ":" in route.server else route.server
        scheme = "https" if route.tls else "http"
        connection.set_tunnel(server, route.server_port, headers=route.login, scheme=scheme)
        return connection

    def _connect_failure(self, error: Exception, deadline: Deadline, limits: Timeout) -> LLMError:
        if deadline.remaining() == 0:
            return deadline.exceeded(self.address)
        timed_out = isinstance(error, (TimeoutError, URLTimeoutError))
        if timed_out and not isinstance(error, NewConnectionError):
            return connect_timeout(self.address, limits.connect)
        return connect_error(self.address, error)


class SocketChannel:
    """One request and its response over a connection.

    Args:
        pool: The pool that the connection belongs to.
        connection: An open connection.
        deadline: Limits each wait.
        reused: Whether the connection has carried a request before.
    """

    def __init__(
        self, pool: ConnectionPool, connection: HTTPConnection, deadline: Deadline, *, reused: bool = False
    ) -> None:
        self._stale = reused  # until something is received
        self._pool = pool
        self._connection = connection
        self._deadline = deadline
        self._reader = ResponseReader(self._pool.limits)
        self._decoder: ContentDecoder | None = None
        self._buffered = b""  # bytes of the body that arrived together with the head
        self._socket: socket.socket = connection.sock
        timeout = self._socket.gettimeout()
        self._socket_timeout = math.inf if timeout is None else timeout
        self._generation = forks.generation

    @property
    def ended(self) -> bool:
        """Whether all of the response has been read."""
        return self._reader.ended and not self._buffered

    @property
    def stale(self) -> bool:
        """Whether a kept connection has broken before the server sent anything: it was closed while idle."""
        return self._stale

    def send(self, request: HTTPRequest) -> ResponseHead:
        """Send `request` and wait for the head of its response.

        Raises:
            TimeoutExceeded: The deadline has passed.
            StreamInterrupted: The connection broke, or received bytes that are not HTTP/1.1.
            ServerError: The body cannot be decoded.
        """
        data = request.encode(self._pool.route.base, self._pool.headers)
        self._deadline.restart()  # connecting is not part of the wait for the answer
        try:
            remaining = self._remaining()
            if abs(remaining - self._socket_timeout) > _TOLERANCE:  # of the request before, or of connecting
                self._set_timeout(remaining)
            # The server may have sent an error response before it closed the connection.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._socket.sendall(data)
            while self._reader.head is None:
                data = self._receive()
                if not data:
                    self._reader.finish()
                self._stale = False
                self._buffered = self._reader.feed(data)
        except (OSError, ValueError) as error:
            raise self._as_llm_error(error) from error
        head = self._reader.head
        if encoding := head.headers.get("content-encoding"):
            self._decoder = content_decoder(encoding)
        return head

    def read(self) -> bytes:
        """Read some of the body, b'' at its end; raises as `send` does."""
        try:
            if self._decoder is None:
                return self._read()
            data = b""
            while self._decoder.more or (data := self._read()):
                if decoded := self._decoder.feed(data):
                    return decoded
                data = b""
            self._decoder.finish()
        except (OSError, ValueError) as error:
            raise self._as_llm_error(error) from error
        return b""

    def drain(self) -> None:
        """Wait briefly for the end of a response that is no longer needed, to keep its connection."""
        with contextlib.suppress(OSError, ValueError):
            self._socket.settimeout(_DRAIN_TIMEOUT)
            self._reader.feed(self._socket.recv(_READ_SIZE))

    def release(self) -> None:
        """Return the connection to the pool if the whole response has been read, else close it."""
        if self._reader.reusable and self._generation == forks.generation:
            self._pool.give_back(self._connection)
        else:
            self._connection.close()

    def interrupt(self) -> None:
        """Shut the socket down, which raises `StreamInterrupted` in the thread that waits."""
        with contextlib.suppress(OSError):
            # urllib3's TLS in TLS (through a proxy) is not a socket, but wraps one.
            getattr(self._socket, "socket", self._socket).shutdown(socket.SHUT_RDWR)

    def _read(self) -> bytes:
        if self._buffered:
            data, self._buffered = self._buffered, b""
            return data
        while not self._reader.ended:
            data = self._receive()
            if not data:
                self._reader.finish()
            elif body := self._reader.feed(data):
                return body
        return b""

    def _receive(self) -> bytes:
        while True:
            remaining = self._remaining()
            if remaining < self._socket_timeout - _TOLERANCE:
                self._set_timeout(remaining)
            try:
                return self._socket.recv(_READ_SIZE)
            except TimeoutError:  # the deadline may be later by now: check again
                self._set_timeout(math.inf)

    def _remaining(self) -> float:
        """Return the remaining seconds of the deadline; raise TimeoutError at its end."""
        remaining = self._deadline.remaining()
        if remaining == 0:
            raise TimeoutError
        return math.inf if remaining is None else remaining

    def _set_timeout(self, seconds: float) -> None:
        self._socket.settimeout(None if seconds == math.inf else seconds)
        self._socket_timeout = seconds

    def _as_llm_error(self, error: Exception) -> LLMError:
        if isinstance(error, TimeoutError):
            return self._deadline.exceeded(self._pool.address)
        silent = self._reader.head is None and isinstance(error, OSError)
        return interrupted(self._pool.address, error, silent=silent)


def _after_fork_in_child() -> None:
    for connection in list(_connections):
        forks.close_inherited(connection.sock)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
