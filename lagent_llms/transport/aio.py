"""The asynchronous HTTP driver, on aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Generic, TypeVar

import aiohttp

from ..deadline import Deadline
from ..errors import LLMError
from ..wire.exchange import Call, Exchange, Pause, Read, Send
from ..wire.http import Head
from ..wire.retry import RetryPolicy
from .alarm import Alarm
from .driver import (
    connect_error,
    connect_timeout,
    environment_proxies,
    interrupted,
    request_headers,
    tls_context,
)
from .loops import PerLoop

if TYPE_CHECKING:
    from ..params import Timeout
    from ..wire.endpoints import Endpoints

__all__ = ["AsyncHTTPSource", "AsyncHTTPTransport"]

T = TypeVar("T")
#: Seconds a finished answer may take to let go of its connection before that is dropped.
_FAREWELL = 1.0
#: Seconds the next request waits for such a connection rather than make a new one.
_PATIENCE = 0.02


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
        # Not aiohttp's trust_env, which asks a thread about them, and about ~/.netrc, at every request.
        self.proxies = environment_proxies(endpoints.urls) if environment_proxy else {}
        self._tls = tls_context(verify)
        self._sessions = PerLoop(self._new_session, _Session.close)

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

    async def session(self) -> _Session:
        """The session of the running loop; it is closed with this transport, at the latest with the loop."""
        return await self._sessions.get()

    async def aclose(self) -> None:
        """Close the running loop's connections."""
        await self._sessions.close()

    async def _new_session(self) -> _Session:
        connector = aiohttp.TCPConnector(
            limit=0, keepalive_timeout=60, ssl=True if self._tls is None else self._tls
        )
        return _Session(
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self.headers,
                auto_decompress=False,
            )
        )


class _Session:
    """aiohttp's session, and the answers in it that are whole and wait for the end of their response.

    Attributes:
        client: aiohttp's session.
    """

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self.client = client
        self._farewells: set[asyncio.Task[None]] = set()
        self._free_soon: deque[asyncio.Task[None]] = deque()

    def let_go(self, response: aiohttp.ClientResponse, *, whole: bool) -> None:
        """Free the connection: it is kept if the body has ended, or soon ends since the answer is `whole`."""
        if whole and not response.content.is_eof():
            with contextlib.suppress(RuntimeError):  # no loop is running: a finalizer calls
                task = asyncio.get_running_loop().create_task(_take_leave(response))
                self._farewells.add(task)
                self._free_soon.append(task)
                task.add_done_callback(self._farewells.discard)
                return
        _leave(response)

    async def wait_for_free(self) -> None:
        """Wait a little for a connection that is about to be free, if there is one: one for each request."""
        while self._free_soon:
            task = self._free_soon.popleft()
            if not task.done():
                await asyncio.wait([task], timeout=_PATIENCE)
                return

    async def close(self) -> None:
        """Close all connections."""
        farewells = list(self._farewells)
        for task in farewells:
            task.cancel()
        await asyncio.gather(*farewells, return_exceptions=True)
        await self.client.close()


def _leave(response: aiohttp.ClientResponse) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, and the connection with it
        if response.content.is_eof():
            response.release()
        else:
            response.close()


async def _take_leave(response: aiohttp.ClientResponse) -> None:
    with contextlib.suppress(aiohttp.ClientError, OSError, asyncio.TimeoutError):
        await asyncio.wait_for(response.content.readany(), _FAREWELL)
    _leave(response)


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
        self._session: _Session | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._alarm: Alarm | None = None
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
        if self._alarm is not None:
            self._alarm.stop()
        if self._response is not None and self._session is not None:
            self._session.let_go(self._response, whole=self._exchange.complete)
        self._exchange.close()

    async def _execute(self, command: Send | Pause) -> object:
        if self._response is not None:
            _leave(self._response)
            self._response = None
        if self._alarm is not None:
            self._alarm.stop()
        if isinstance(command, Pause):
            await self._sleep(command.seconds)
            return None
        return await self._send(command)

    async def _send(self, command: Send) -> Head:
        self._deadline.restart()
        self._url = command.url
        request = command.request
        try:
            session = self._session = await self._transport.session()
            await session.wait_for_free()
            response = await self._deadline.wait(
                session.client.request(
                    request.method,
                    command.url + request.path,
                    data=request.body,
                    headers=request.headers,
                    proxy=self._transport.proxies.get(command.url),
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, connect=self._timeout.connect),
                )
            )
        except LLMError:
            raise
        except aiohttp.ConnectionTimeoutError as error:
            raise connect_timeout(command.url, self._timeout.connect) from error
        except aiohttp.ClientConnectorError as error:
            raise connect_error(command.url, error) from error
        except (aiohttp.ClientError, OSError) as error:
            raise interrupted(command.url, error) from error
        self._response = response
        self._alarm = Alarm(self._deadline, response.close)
        return Head(response.status, {name.lower(): value for name, value in response.headers.items()})

    async def _read(self) -> bytes:
        assert self._response is not None
        content = self._response.content
        try:
            return await content.readany()
        except (aiohttp.ClientError, OSError, RuntimeError) as error:  # RuntimeError: closed meanwhile
            if self._alarm is not None and self._alarm.rang:
                raise self._deadline.exceeded() from None
            raise interrupted(self._url, error) from error

    async def _sleep(self, seconds: float) -> None:
        remaining = self._deadline.remaining_in_total()
        if remaining is not None and remaining < seconds:
            await asyncio.sleep(remaining)
            raise self._deadline.exceeded()
        await asyncio.sleep(seconds)
