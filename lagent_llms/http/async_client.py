"""The asynchronous HTTP client: it executes an exchange over aiohttp."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import aiohttp

from .. import forks
from ..core.deadline import Deadline, DeadlineTimer, expire, timeout_after
from ..errors import LLMError
from .async_connector import Response, abort
from .async_servers import DirectServer, Server, SessionServer
from .async_session import LoopSession, transport_error
from .config import direct_routes, interrupted
from .exchange import READ, Call, Exchange, Send, Settings
from .limits import DEFAULT_LIMITS, Limits
from .messages import ResponseHead
from .per_loop import PerLoop, call_on
from .secrets import Secrets
from .session_argument import check_session

if TYPE_CHECKING:
    import os

    from ..params import Timeout
    from .endpoints import Endpoints

__all__ = ["AsyncHTTPSource", "AsyncHTTPTransport"]

T = TypeVar("T")

#: Exceptions of aiohttp for a failed request. RuntimeError: the session or connection was closed meanwhile.
_AIOHTTP_ERRORS = (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError, RuntimeError)


class AsyncHTTPTransport:
    """`HTTPTransport` for event loops; one object may serve several loops, one after the other or at once.

    Args:
        endpoints: The servers.
        headers: Sent with every request.
        api_key: Sent as a bearer token.
        verify: Whether and how certificates are checked.
        session: Carries the requests, with its own headers, auth, cookies, connector, proxies, timeouts,
            middlewares and trace hooks; `api_key`, `headers` and credentials in a URL take precedence, and
            `verify` unless it is True. The transport never closes it; it serves only the event loop it was
            made in. None makes a connector for each loop, without a limit on connections; then proxies, CA
            bundles and netrc are those of the environment when the transport is made.
        environment_proxy: Whether the proxies that the environment names are used.
        proxies: The caller's proxies; see `read_environment`. A `session` has its own.
        limits: The most that a server may send.

    Raises:
        InvalidArgument, ConfigError: A value that cannot be used.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        verify: bool | str | os.PathLike[str] = True,
        session: aiohttp.ClientSession | None = None,
        environment_proxy: bool = True,
        proxies: Mapping[str, str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        check_session(session, "aiohttp.ClientSession")
        self.endpoints = endpoints
        self._servers: dict[str, Server] = {}
        if session is None:
            routes = direct_routes(
                endpoints.urls, headers, api_key, verify, environment_proxy=environment_proxy, proxies=proxies
            )
            self.settings = Settings(routes.secrets, routes.proxies, limits)
            self._servers = {url: DirectServer(*settings, limits) for url, settings in routes.servers.items()}
        else:
            servers = {url: SessionServer(url, headers, api_key, verify, session) for url in endpoints.urls}
            self._servers.update(servers)

            def secrets() -> list[str]:
                return [value for server in servers.values() for value in server.secrets()]

            self.settings = Settings(Secrets.of(*secrets()), {}, limits, secrets)
        self._caller_session = session
        self._sessions = PerLoop(self._new_loop_session, LoopSession.close)

    def open(self, call: Call[T], timeout: Timeout) -> AsyncHTTPSource[T]:
        """Start an exchange; nothing is sent before its first step."""
        return AsyncHTTPSource(self, call, timeout)

    async def fetch(self, call: Call[T], timeout: Timeout) -> T:
        """Execute an exchange that has one result, and return the result."""
        source = self.open(call, timeout)
        try:
            return await source.__anext__()
        finally:
            source.close()

    async def session(self) -> LoopSession:
        """Return the session of the running loop, which is closed with this transport or with the loop."""
        return await self._sessions.get()

    def server(self, url: str) -> Server:
        """Return the server at `url`, one of the endpoints."""
        return self._servers[url]

    async def aclose(self) -> None:
        """Close the running loop's connections."""
        await self._sessions.close()

    async def _new_loop_session(self) -> LoopSession:
        return LoopSession(self._caller_session)


class AsyncHTTPSource(Generic[T]):
    """The items of one exchange, decoded as they arrive.

    Attributes:
        ready: Decoded items that `__anext__` has not returned yet.
    """

    __slots__ = (
        "__weakref__", "_aborted", "_closed", "_deadline", "_exchange", "_generation", "_response",
        "_sending", "_session", "_timeout", "_timer", "_transport", "_url", "ready",
    )  # fmt: skip

    def __init__(self, transport: AsyncHTTPTransport, call: Call[T], timeout: Timeout) -> None:
        self._exchange = Exchange(call, transport.endpoints, transport.settings)
        self._transport = transport
        self._timeout = timeout
        self._deadline = Deadline(timeout)
        self.ready: deque[T] = deque()
        self._url = ""
        self._session: LoopSession | None = None
        self._response: Response | aiohttp.ClientResponse | None = None
        self._sending: Any = None  # the `timeout_after` block that waits for the head of the response
        self._timer: DeadlineTimer | None = None
        self._aborted = False
        self._closed = False
        self._generation = forks.generation

    def __aiter__(self) -> AsyncHTTPSource[T]:
        return self

    async def __anext__(self) -> T:
        if self.ready:
            return self.ready.popleft()
        if self._closed:
            raise StopAsyncIteration
        if self._generation != forks.generation:
            forks.check(self._generation, "this call was started", "start a new one in this process")
        self._deadline.wake()
        exchange = self._exchange
        outcome: object = None
        try:
            while True:
                command = READ if outcome is None and exchange.reads_next else exchange.resume(outcome)
                try:
                    if command is READ:
                        outcome = await self._response.content.readany()  # type: ignore[union-attr]
                    elif isinstance(command, Send):
                        outcome = await self._send(command)
                    elif not command:
                        self._deadline.renew()
                        outcome = None
                    else:
                        self._deadline.piece_arrived()
                        item, *others = cast("Sequence[T]", command)
                        if others:
                            self.ready.extend(others)
                        return item
                except LLMError as error:
                    outcome = error
                except _AIOHTTP_ERRORS as error:
                    outcome = self._as_llm_error(error)
        except StopIteration:
            self.close()
            raise StopAsyncIteration from None
        except BaseException:  # a cancellation too: the generation must not go on
            self.close()
            raise

    def close(self) -> None:
        """End the exchange and read no more; callable from any thread and from a finalizer."""
        if self._closed or self._generation != forks.generation:  # in a fork, the response is the parent's
            return
        self._closed = True
        self._release_connection()
        self._exchange.close()

    def abort(self) -> None:
        """Abort the request; the task that reads gets an error."""
        self._aborted = True
        if self._response is not None:
            abort(self._response)
        elif self._sending is not None:
            expire(self._sending)

    async def _send(self, command: Send) -> ResponseHead:
        self._release_connection()
        self._deadline.restart()
        self._url, self._aborted = command.url, False
        session = self._session = await self._transport.session()
        if self._closed:  # from another thread, before there was a connection to release
            raise interrupted(self._transport.settings.address(command.url))
        server = self._transport.server(command.url)
        session.active.add(self)
        self._timer = DeadlineTimer(self._deadline, self.abort, session.loop)
        async with timeout_after(None) as self._sending:
            try:
                if session.draining[command.url]:
                    await session.wait_for_draining(command.url)
                response = await server.send(
                    session.connector_or_session, command.request, self._timeout.connect, self._deadline
                )
            finally:
                self._sending = None
        if self._aborted:
            response.close()
            raise self._as_llm_error(ConnectionAbortedError("the request was aborted"))
        self._response = response
        return ResponseHead(response.status, response.headers)

    def _as_llm_error(self, error: Exception) -> LLMError:
        """Convert an exception of aiohttp to an `LLMError`."""
        failure: LLMError
        address = self._transport.settings.address(self._url)
        if self._timer is not None and self._timer.expired:
            failure = self._deadline.exceeded(address)
        elif self._aborted or self._closed:
            failure = interrupted(address)
        else:
            failure = transport_error(address, error, self._timeout.connect)
        failure.__cause__ = error
        return failure

    def _release_connection(self) -> None:
        """Release the connection, in the event loop it belongs to."""
        if self._session is not None:
            call_on(self._session.loop, self._release_on_loop, self._session)

    def _release_on_loop(self, session: LoopSession) -> None:
        timer, self._timer = self._timer, None  # breaks a reference cycle
        if timer is not None:
            timer.stop()
        if self._sending is not None:
            self.abort()
        session.active.discard(self)
        response, self._response = self._response, None
        if response is not None and not response.closed:  # closed: the last byte released the connection
            session.release(response, self._url, complete=self._exchange.complete)
