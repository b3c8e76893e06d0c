"""The asynchronous HTTP driver: it executes an exchange over `AsyncConnections`."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

from ..core.deadline import Deadline, timeout_after
from ..core.deadline_timer import DeadlineTimer
from ..errors import LLMError
from .async_pool import AsyncConnection, AsyncConnections
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
from .per_loop import PerLoop
from .proxy import route
from .retry import RetryPolicy

if TYPE_CHECKING:
    from ..params import Timeout
    from .endpoints import Endpoints

__all__ = ["AsyncHTTPSource", "AsyncHTTPTransport"]

T = TypeVar("T")


class AsyncHTTPTransport:
    """`HTTPTransport` for event loops; one object may serve several loops, one after the other or at once.

    The arguments are those of `HTTPTransport`; connections are as many as there are requests.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        retry: RetryPolicy | None = None,
        verify: bool | str | os.PathLike[str] = True,
        environment_proxy: bool = True,
    ) -> None:
        self.endpoints = endpoints
        self.retry = retry or RetryPolicy()
        self.headers = request_headers(headers, api_key)
        proxies = environment_proxies(endpoints.urls) if environment_proxy else {}
        self._routes = {url: route(url, proxies.get(url)) for url in endpoints.urls}
        self._tls = tls_context(verify)
        self._connections = PerLoop(self._of_this_loop, _close)

    def open(self, call: Call[T], timeout: Timeout) -> AsyncHTTPSource[T]:
        """Start an exchange; nothing is sent before its first step."""
        return AsyncHTTPSource(self, call, timeout)

    async def fetch(self, call: Call[T], timeout: Timeout) -> T:
        """The one result of an exchange."""
        source = self.open(call, timeout)
        try:
            return await source.__anext__()
        finally:
            source.close()

    async def connections_to(self, url: str) -> AsyncConnections:
        """The running loop's connections to one of the servers.

        They are closed with this transport, at the latest with the loop.
        """
        return (await self._connections.get())[url]

    async def aclose(self) -> None:
        """Close the running loop's connections."""
        await self._connections.close()

    async def _of_this_loop(self) -> dict[str, AsyncConnections]:
        return {url: AsyncConnections(way, self._tls) for url, way in self._routes.items()}


async def _close(connections: Mapping[str, AsyncConnections]) -> None:
    for each in connections.values():
        await each.close()


class AsyncHTTPSource(Generic[T]):
    """What one exchange brings, an item at a time.

    Attributes:
        ready: Items that have arrived and were not asked for yet.
    """

    def __init__(self, transport: AsyncHTTPTransport, call: Call[T], timeout: Timeout) -> None:
        self._exchange = Exchange(call, transport.endpoints, transport.retry)
        self._transport = transport
        self._timeout = timeout
        self._deadline = Deadline(timeout)
        self.ready: deque[T] = deque()
        self._url = ""
        self._connections: AsyncConnections | None = None
        self._connection: AsyncConnection | None = None
        self._alarm: DeadlineTimer | None = None
        self._closed = False

    def __aiter__(self) -> AsyncHTTPSource[T]:
        return self

    async def __anext__(self) -> T:
        if self.ready:
            return self.ready.popleft()
        if self._closed:
            raise StopAsyncIteration
        self._deadline.wake()
        outcome: object = None
        try:
            while True:
                command = self._exchange.resume(outcome)
                if not isinstance(command, (Send, Read, Pause)):
                    self._deadline.piece_arrived()
                    self.ready.extend(command)
                    return self.ready.popleft()
                try:
                    outcome = await (self._read() if isinstance(command, Read) else self._execute(command))
                except LLMError as error:
                    outcome = error
        except StopIteration:
            self.close()
            raise StopAsyncIteration from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop: what the server still sends is not read."""
        if self._closed:
            return
        self._closed = True
        self._leave_connection()
        self._exchange.close()

    async def _execute(self, command: Send | Pause) -> object:
        self._leave_connection()
        if isinstance(command, Pause):
            await self._sleep(command.seconds)
            return None
        return await self._send(command)

    async def _send(self, command: Send) -> ResponseHead:
        self._deadline.restart()
        self._url = command.url
        connections = await self._transport.connections_to(command.url)
        connection = await connections.kept()
        if connection is None:
            connection = await self._connect(connections)
        if self._closed:
            connection.leave(whole=False)
            raise interrupted(self._url)
        self._connection = connection
        self._alarm = DeadlineTimer(self._deadline, connection.abort)
        way = connections.route
        headers = {**way.headers, **self._transport.headers}
        try:
            return await connection.send(command.request.encode(way.target(command.request.path), headers))
        except (OSError, ValueError) as error:
            raise self._broken(error) from error

    async def _connect(self, connections: AsyncConnections) -> AsyncConnection:
        seconds = self._timeout.connect
        try:
            async with timeout_after(seconds):
                return await self._deadline.wait(connections.connect())
        except LLMError:
            raise
        except asyncio.TimeoutError as error:
            raise connect_timeout(self._url, seconds) from error
        except (OSError, ValueError) as error:
            raise connect_error(self._url, error) from error

    async def _read(self) -> bytes:
        assert self._connection is not None
        try:
            return await self._connection.read()
        except (OSError, ValueError) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> LLMError:
        if self._alarm is not None and self._alarm.expired:
            return self._deadline.exceeded()
        return interrupted(self._url, error)

    async def _sleep(self, seconds: float) -> None:
        remaining = self._deadline.remaining_in_total()
        if remaining is not None and remaining < seconds:
            await asyncio.sleep(remaining)
            raise self._deadline.exceeded()
        await asyncio.sleep(seconds)

    def _leave_connection(self) -> None:
        if self._alarm is not None:
            self._alarm.stop()
        if self._connection is not None:
            self._connection.leave(whole=self._exchange.complete)
        self._alarm = self._connection = None
