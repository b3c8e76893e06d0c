"""The synchronous HTTP driver, on urllib3's connection pool.

Bodies are read from the pool's sockets as raw bytes: a streamed event costs its decoding, not the layers of a
general HTTP client.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import unquote

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from ..deadline import Deadline
from ..errors import LLMError
from ..wire.chunked import ChunkedDecoder
from ..wire.exchange import Call, Exchange, Pause, Read, Send
from ..wire.http import Head
from ..wire.retry import RetryPolicy
from .driver import (
    connect_error,
    connect_timeout,
    environment_proxies,
    interrupted,
    request_headers,
    tls_context,
)

if TYPE_CHECKING:
    from ..params import Timeout
    from ..wire.endpoints import Endpoints

__all__ = ["HTTPSource", "HTTPTransport"]

T = TypeVar("T")
_MOST_AT_ONCE = 1 << 16
#: Seconds a finished answer may take to let go of its connection before that is dropped.
_FAREWELL = 0.02


class HTTPTransport:
    """Connections to the servers of one backend, kept open between requests. Safe to share between threads.

    Args:
        endpoints: The servers.
        headers: Sent with every request.
        api_key: Sent as a bearer token.
        retry: Which failures are tried again.
        verify: Whether and how certificates are checked.
        max_connections: Connections kept open for each server.
        environment_proxy: Whether the proxies that the environment names are used.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        retry: RetryPolicy | None = None,
        verify: bool | str | os.PathLike[str] = True,
        max_connections: int = 64,
        environment_proxy: bool = True,
    ) -> None:
        self.endpoints = endpoints
        self.retry = retry or RetryPolicy()
        self.headers = request_headers(headers, api_key)
        options: dict[str, Any] = {
            "maxsize": max_connections,
            "ssl_context": tls_context(verify),
            "retries": False,
        }
        self._direct = self._pools(urllib3.PoolManager(**options))
        proxies = environment_proxies(endpoints.urls) if environment_proxy else {}
        self._by_proxy = {url: self._pools(_proxied(proxy, options)) for url, proxy in proxies.items()}

    def open(self, call: Call[T], timeout: Timeout) -> HTTPSource[T]:
        """Start an exchange; nothing is sent before its first step."""
        return HTTPSource(self, call, timeout)

    def fetch(self, call: Call[T], timeout: Timeout) -> T:
        """The one result of an exchange."""
        source = self.open(call, timeout)
        try:
            return next(source)
        finally:
            source.close()

    def close(self) -> None:
        """Close the connections that wait for a request."""
        for pools in (self._direct, *self._by_proxy.values()):
            pools.clear()

    def pools_for(self, url: str) -> urllib3.PoolManager:
        """The connections to `url`."""
        return self._by_proxy.get(url, self._direct)

    @staticmethod
    def _pools(manager: urllib3.PoolManager) -> urllib3.PoolManager:
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager


def _proxied(proxy: str, options: Mapping[str, Any]) -> urllib3.ProxyManager:
    user = urllib3.util.parse_url(proxy).auth
    headers = urllib3.make_headers(proxy_basic_auth=unquote(user)) if user else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)


_current = threading.local()


class _Announced:
    """A connection that tells the source it works for about its socket, for deadlines and for closing."""

    sock: socket.socket

    def request(self, *args: Any, **kwargs: Any) -> None:
        super().request(*args, **kwargs)  # type: ignore[misc]
        _current.source.use(self.sock)


class _Connection(_Announced, HTTPConnection):
    pass


class _SecureConnection(_Announced, HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Body:
    """The raw bytes of a response, taken from the socket as they come."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        inner: Any = response._fp  # type: ignore[attr-defined]  # http.client's response
        self._inner = inner
        self._chunks = ChunkedDecoder() if inner.chunked else None
        self._left: int | None = None if inner.chunked else inner.length
        self.ended = inner.fp is None or self._left == 0

    def read(self) -> bytes:
        """Some bytes, empty at the end.

        Raises:
            OSError, ValueError: The connection broke.
        """
        while not self.ended:
            data: bytes = self._inner.fp.read1(_MOST_AT_ONCE)
            if not data:
                if self._chunks is not None or self._left:
                    raise ConnectionError("the server closed the connection")
                self.ended = True
            elif self._chunks is not None:
                data = self._chunks.feed(data)
                self.ended = self._chunks.complete
            elif self._left is not None:
                self._left -= len(data)
                self.ended = self._left <= 0
            if data:
                return data
        return b""

    def leave(self) -> None:
        """Give the connection back to its pool: open if the body has ended, else closed."""
        if self.ended:
            self._inner.close()
        else:
            self._response.close()
        self._response.release_conn()


class HTTPSource(Generic[T]):
    """What one exchange brings, an item at a time."""

    def __init__(self, transport: HTTPTransport, call: Call[T], timeout: Timeout) -> None:
        self._exchange = Exchange(call, transport.endpoints, transport.retry)
        self._transport = transport
        self._timeout = timeout
        self._deadline = Deadline(timeout)
        self._ready: Iterator[T] = iter(())
        self._url = ""
        self._socket: socket.socket | None = None
        self._body: _Body | None = None
        self._busy = False
        self._closed = threading.Event()
        self._lock = threading.Lock()

    def __iter__(self) -> HTTPSource[T]:
        return self

    def __next__(self) -> T:
        while True:
            for item in self._ready:
                return item
            self._ready = iter(self._items())

    def close(self) -> None:
        """Stop: what the server still sends is not read. May come from any thread, at any time."""
        with self._lock:
            self._closed.set()
            busy, self._busy = self._busy, True
            if busy:  # wake the thread that waits; it lets go of the connection itself
                if self._socket is not None:
                    with contextlib.suppress(OSError):
                        self._socket.shutdown(socket.SHUT_RDWR)
                return
        self._let_go()

    def use(self, sock: socket.socket) -> None:
        """The request went out over `sock`."""
        with self._lock:
            self._socket = sock
        if self._closed.is_set():
            raise ConnectionError("closed")

    def _items(self) -> Sequence[T]:
        with self._lock:
            if self._busy:
                raise StopIteration
            self._busy = True
        outcome: object = None
        keep = False
        try:
            while True:
                command = self._exchange.resume(outcome)
                if not isinstance(command, (Send, Read, Pause)):
                    self._deadline.piece_arrived()
                    keep = True
                    return command
                try:
                    outcome = self._execute(command)
                except LLMError as error:
                    outcome = error
        finally:
            with self._lock:
                self._busy = not keep or self._closed.is_set()
                ended = self._busy
            if ended:
                self._let_go()

    def _execute(self, command: Send | Read | Pause) -> object:
        if isinstance(command, Read):
            return self._read()
        self._leave_connection()
        if isinstance(command, Pause):
            self._sleep(command.seconds)
            return None
        return self._send(command)

    def _send(self, command: Send) -> Head:
        self._deadline.restart()
        remaining = self._deadline.remaining()
        if remaining == 0:
            raise self._deadline.exceeded()
        request = command.request
        _current.source = self
        try:
            response = self._transport.pools_for(command.url).urlopen(
                request.method,
                command.url + request.path,
                body=request.body,
                headers={**self._transport.headers, **request.headers},
                redirect=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=self._timeout.connect, read=remaining),
            )
        except (HTTPError, HTTPException, OSError) as error:
            raise self._failure(command.url, error) from error
        finally:
            del _current.source
        self._url = command.url
        self._body = _Body(response)
        return Head(response.status, {name.lower(): value for name, value in response.headers.items()})

    def _failure(self, url: str, error: Exception) -> LLMError:
        in_time = not isinstance(error, (TimeoutError, urllib3.exceptions.TimeoutError))
        if self._socket is not None:  # the request was sent
            return interrupted(url, error) if in_time else self._deadline.exceeded()
        if in_time or isinstance(error, urllib3.exceptions.NewConnectionError):
            return connect_error(url, error)
        return connect_timeout(url, self._timeout.connect)

    def _read(self) -> bytes:
        assert self._body is not None
        if self._body.ended:
            return b""
        remaining = self._deadline.remaining()
        if remaining == 0:
            raise self._deadline.exceeded()
        assert self._socket is not None
        try:
            self._socket.settimeout(remaining)
            return self._body.read()
        except TimeoutError:
            raise self._deadline.exceeded() from None
        except (OSError, ValueError) as error:
            raise interrupted(self._url, error) from error

    def _sleep(self, seconds: float) -> None:
        remaining = self._deadline.remaining_in_total()
        if remaining is not None and remaining < seconds:
            time.sleep(remaining)
            raise self._deadline.exceeded()
        self._closed.wait(seconds)

    def _leave_connection(self) -> None:
        if self._body is not None:
            self._body.leave()
        self._body = self._socket = None

    def _let_go(self) -> None:
        """Give the connection back, and end the exchange."""
        body, sock = self._body, self._socket
        if body is not None and sock is not None and self._exchange.complete and not body.ended:
            with contextlib.suppress(OSError, ValueError):
                sock.settimeout(_FAREWELL)
                body.read()
        self._leave_connection()
        self._exchange.close()
