"""The synchronous HTTP client: it executes an exchange over sockets or a `requests.Session`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from .. import forks
from ..core.deadline import Deadline
from ..errors import LLMError, StreamInterrupted
from .config import direct_routes, given_headers, interrupted
from .endpoints import public_url
from .exchange import READ, Call, Exchange, Read, Send, Settings
from .limits import DEFAULT_LIMITS, Limits
from .messages import HTTPRequest, ResponseHead
from .proxy import find_route
from .secrets import Secrets
from .sync_pool import ConnectionPool

if TYPE_CHECKING:
    import requests

    from ..params import Timeout
    from .endpoints import Endpoints

__all__ = ["HTTPSource", "HTTPTransport"]

T = TypeVar("T")


class Channel(Protocol):
    """One request and its response. See `lagent_llms.http.sync_pool.SocketChannel`."""

    @property
    def ended(self) -> bool: ...
    @property
    def stale(self) -> bool: ...
    def send(self, request: HTTPRequest) -> ResponseHead: ...
    def read(self) -> bytes: ...
    def drain(self) -> None: ...
    def release(self) -> None: ...
    def interrupt(self) -> None: ...


class Server(Protocol):
    """Interface of `ConnectionPool` and `SessionServer`."""

    def open(self, deadline: Deadline, limits: Timeout, *, fresh: bool = False) -> Channel: ...
    def close(self) -> None: ...


class HTTPTransport:
    """Connections to the servers of one backend, kept open between requests. Safe to share between threads.

    Without a `session`, proxies, CA bundles and netrc are those of the environment when the transport is made
    (`read_environment`).

    Args:
        endpoints: The servers.
        headers: Sent with every request.
        api_key: Sent as a bearer token.
        verify: Whether and how certificates are checked.
        session: The `requests.Session` that sends the requests. None uses a `ConnectionPool` per server.
        max_connections: Maximum number of idle connections kept for each server.
        environment_proxy: Whether the proxies that the environment names are used.
        proxies: The caller's proxies; see `read_environment`. A `session` has its own.
        limits: The most that a server may send.

    Attributes:
        servers: The connection pool or session of each server, by its URL.

    Raises:
        InvalidArgument: A header is not valid.
        ConfigError: A proxy or a CA bundle cannot be used.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        verify: bool | str | os.PathLike[str] = True,
        session: requests.Session | None = None,
        max_connections: int = 64,
        environment_proxy: bool = True,
        proxies: Mapping[str, str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.endpoints = endpoints
        self.servers: dict[str, Server] = {}
        if session is not None:
            from .session_client import SessionServer

            own = given_headers(headers, api_key)
            checked = verify if isinstance(verify, bool) else os.fspath(verify)
            servers = {
                url: SessionServer(
                    session, url, find_route(url), own, verify=checked, environment_proxy=environment_proxy
                )
                for url in endpoints.urls
            }
            self.servers.update(servers)

            def secrets() -> list[str]:
                return [value for server in servers.values() for value in server.secrets()]

            vias = {url: server.via for url, server in servers.items()}
            self.settings = Settings(Secrets.of(*secrets()), vias, limits, secrets)
            return
        routes = direct_routes(
            endpoints.urls, headers, api_key, verify, environment_proxy=environment_proxy, proxies=proxies
        )
        self.settings = Settings(routes.secrets, routes.proxies, limits)
        for url, (route, sent, tls) in routes.servers.items():
            self.servers[url] = ConnectionPool(
                public_url(url) + route.via, route, sent, max_idle=max_connections, limits=limits, tls=tls
            )

    def open(self, call: Call[T], timeout: Timeout) -> HTTPSource[T]:
        """Start an exchange; nothing is sent before its first step."""
        return HTTPSource(self, call, timeout)

    def fetch(self, call: Call[T], timeout: Timeout) -> T:
        """Execute an exchange that has one result, and return the result."""
        source = self.open(call, timeout)
        try:
            return next(source)
        finally:
            source.close()

    def close(self) -> None:
        """Close idle connections; a later request opens new ones. A session stays open."""
        for server in self.servers.values():
            server.close()


class HTTPSource(Generic[T]):
    """Iterator over the items that one exchange decodes."""

    def __init__(self, transport: HTTPTransport, call: Call[T], timeout: Timeout) -> None:
        self._exchange = Exchange(call, transport.endpoints, transport.settings)
        self._transport = transport
        self._timeout = timeout
        self._deadline = Deadline(timeout)
        self._ready: Iterator[T] = iter(())
        self._channel: Channel | None = None
        self._busy = False
        self._closed = False
        self._lock = threading.Lock()
        self._generation = forks.generation

    def __iter__(self) -> HTTPSource[T]:
        return self

    def __next__(self) -> T:
        while True:
            for item in self._ready:
                return item
            self._ready = iter(self._items())

    def close(self) -> None:
        """Stop reading the response. Any thread may call this, at any time."""
        if self._generation != forks.generation:  # in a fork, the response is the parent's
            return
        with self._lock:
            self._closed = True
            busy, self._busy = self._busy, True
            if busy:  # interrupt the thread that waits; it releases the connection itself
                if self._channel is not None:
                    self._channel.interrupt()
                return
        self._release()

    def _items(self) -> Sequence[T]:
        if self._generation != forks.generation:
            forks.check(self._generation, "this call was started", "start a new one in this process")
        with self._lock:
            if self._busy:
                raise StopIteration
            self._busy = True
        self._deadline.wake()
        exchange = self._exchange
        outcome: object = None
        keep = False
        try:
            while True:
                command = READ if outcome is None and exchange.reads_next else exchange.resume(outcome)
                try:
                    if isinstance(command, Read):
                        outcome = self._read()
                    elif isinstance(command, Send):
                        outcome = self._send(command)
                    elif command:
                        self._deadline.piece_arrived()
                        keep = True
                        return command
                    else:
                        self._deadline.renew()
                        outcome = None
                except LLMError as error:
                    outcome = error
        finally:
            with self._lock:
                self._busy = not keep or self._closed
                ended = self._busy
            if ended:
                self._release()

    def _send(self, command: Send) -> ResponseHead:
        self._release_channel()
        channel = self._open(command.url)
        try:
            return channel.send(command.request)
        except StreamInterrupted:
            if not channel.stale or self._closed:
                raise
        # The server had closed the idle connection: it has not read the request.
        self._release_channel()
        return self._open(command.url, fresh=True).send(command.request)

    def _open(self, url: str, *, fresh: bool = False) -> Channel:
        self._deadline.restart()
        channel = self._transport.servers[url].open(self._deadline, self._timeout, fresh=fresh)
        with self._lock:
            self._channel = channel
        if self._closed:
            raise interrupted(self._transport.settings.address(url))
        return channel

    def _read(self) -> bytes:
        assert self._channel is not None
        return self._channel.read()

    def _release_channel(self) -> None:
        with self._lock:  # after `release`, the connection may carry another request: never interrupt it
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.release()

    def _release(self) -> None:
        """Release the connection and end the exchange."""
        if self._channel is not None and self._exchange.complete and not self._channel.ended:
            self._channel.drain()
        self._release_channel()
        self._exchange.close()
