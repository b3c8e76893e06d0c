"""The synchronous HTTP driver: it executes an exchange over the sockets of `Connections`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException
from typing import TYPE_CHECKING, Generic, TypeVar

import urllib3
from urllib3.exceptions import HTTPError

from ..core.deadline import Deadline
from ..errors import LLMError
from .config import (
    connect_error,
    connect_timeout,
    environment_proxies,
    interrupted,
    request_headers,
    tls_context,
)
from .exchange import Call, Exchange, Pause, Read, Send
from .messages import ResponseHead
from .retry import RetryPolicy
from .sync_pool import Channel, Connections

if TYPE_CHECKING:
    from ..params import Timeout
    from .endpoints import Endpoints

__all__ = ["HTTPSource", "HTTPTransport"]

T = TypeVar("T")


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
        proxies = environment_proxies(endpoints.urls) if environment_proxy else {}
        tls = tls_context(verify)
        self._connections = {
            url: Connections(url, proxy=proxies.get(url), most_idle=max_connections, ssl_context=tls)
            for url in endpoints.urls
        }

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
        for connections in self._connections.values():
            connections.close()

    def connections_to(self, url: str) -> Connections:
        """The connections to one of the servers."""
        return self._connections[url]


class HTTPSource(Generic[T]):
    """What one exchange brings, an item at a time."""

    def __init__(self, transport: HTTPTransport, call: Call[T], timeout: Timeout) -> None:
        self._exchange = Exchange(call, transport.endpoints, transport.retry)
        self._transport = transport
        self._timeout = timeout
        self._deadline = Deadline(timeout)
        self._ready: Iterator[T] = iter(())
        self._url = ""
        self._channel: Channel | None = None
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
                if self._channel is not None:
                    self._channel.wake()
                return
        self._let_go()

    def _items(self) -> Sequence[T]:
        with self._lock:
            if self._busy:
                raise StopIteration
            self._busy = True
        self._deadline.wake()
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
                    outcome = self._read() if isinstance(command, Read) else self._execute(command)
                except LLMError as error:
                    outcome = error
        finally:
            with self._lock:
                self._busy = not keep or self._closed.is_set()
                ended = self._busy
            if ended:
                self._let_go()

    def _execute(self, command: Send | Pause) -> object:
        self._leave_connection()
        if isinstance(command, Pause):
            self._sleep(command.seconds)
            return None
        return self._send(command)

    def _send(self, command: Send) -> ResponseHead:
        self._deadline.restart()
        remaining = self._deadline.remaining()
        if remaining == 0:
            raise self._deadline.exceeded()
        self._url = command.url
        connections = self._transport.connections_to(command.url)
        try:
            connection = connections.take(_shorter(self._timeout.connect, remaining))
        except (HTTPError, HTTPException, OSError) as error:
            raise self._no_connection(error) from error
        with self._lock:
            channel = self._channel = Channel(connections, connection, self._deadline)
        if self._closed.is_set():
            raise interrupted(self._url)
        way = connections.route
        headers = {**way.headers, **self._transport.headers}
        try:
            return channel.send(command.request.encode(way.target(command.request.path), headers))
        except (OSError, ValueError) as error:
            raise self._broken(error) from error

    def _no_connection(self, error: Exception) -> LLMError:
        if self._deadline.remaining() == 0:
            return self._deadline.exceeded()
        in_time = not isinstance(error, (TimeoutError, urllib3.exceptions.TimeoutError))
        if in_time or isinstance(error, urllib3.exceptions.NewConnectionError):
            return connect_error(self._url, error)
        return connect_timeout(self._url, self._timeout.connect)

    def _read(self) -> bytes:
        assert self._channel is not None
        try:
            return self._channel.read()
        except (OSError, ValueError) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> LLMError:
        return self._deadline.exceeded() if isinstance(error, TimeoutError) else interrupted(self._url, error)

    def _sleep(self, seconds: float) -> None:
        remaining = self._deadline.remaining_in_total()
        if remaining is not None and remaining < seconds:
            time.sleep(remaining)
            raise self._deadline.exceeded()
        self._closed.wait(seconds)

    def _leave_connection(self) -> None:
        if self._channel is not None:
            self._channel.leave()
        self._channel = None

    def _let_go(self) -> None:
        """Give the connection back, and end the exchange."""
        if self._channel is not None and self._exchange.complete and not self._channel.ended:
            self._channel.drain()
        self._leave_connection()
        self._exchange.close()


def _shorter(one: float | None, other: float | None) -> float | None:
    """The shorter of two limits; None is none."""
    return min((limit for limit in (one, other) if limit is not None), default=None)
