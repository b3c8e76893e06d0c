"""The asynchronous client's state for one event loop: connections and the requests that use them."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections import defaultdict
from typing import Protocol

import aiohttp

from ..core.deadline import timeout_after
from ..errors import InvalidArgument, LLMError, TimeoutExceeded
from .async_connector import Connector, Response, abort
from .config import connect_error, connect_timeout, interrupted

__all__ = ["LoopSession", "transport_error"]

#: Longest wait for the end of a response whose answer is complete, in seconds; then its connection is closed.
_DRAIN_TIMEOUT = 1.0
#: Longest wait of a new request for such a connection, in seconds; then it opens a new one.
_REUSE_TIMEOUT = 0.02


class ActiveRequest(Protocol):
    """A request in progress."""

    def abort(self) -> None:
        """Abort the request; the task that reads gets an error."""


class LoopSession:
    """The connections of the running event loop, and the requests that use them.

    Args:
        session: The caller's session, which stays open; None makes a connector.

    Attributes:
        loop: The event loop.
        connector_or_session: The connector, or the caller's session.
        active: The requests in progress.
        draining: For each server, responses whose answer is complete but whose last bytes have not arrived.
    """

    def __init__(self, session: aiohttp.ClientSession | None) -> None:
        self.loop = asyncio.get_running_loop()
        if session is not None and _loop_of(session) not in (None, self.loop):
            raise InvalidArgument(
                "session: this aiohttp.ClientSession was made in another event loop; a session serves only "
                "the loop it was made in",
                argument="session",
            )
        self.connector_or_session: Connector | aiohttp.ClientSession = session or Connector()
        self.active: set[ActiveRequest] = set()
        self.draining: defaultdict[str, set[Response | aiohttp.ClientResponse]] = defaultdict(set)

    async def wait_for_draining(self, url: str) -> None:
        """Wait briefly until a response in `draining` releases its connection, which can then be reused."""
        response = self.draining[url].pop()  # each waiting request takes a different one
        ended = asyncio.Event()
        response.content.on_eof(ended.set)
        with contextlib.suppress(asyncio.TimeoutError):
            async with timeout_after(_REUSE_TIMEOUT):
                await ended.wait()

    def release(self, response: Response | aiohttp.ClientResponse, url: str, *, complete: bool) -> None:
        """Stop reading an open `response`: keep its connection if the answer is `complete`, else close it."""
        if not complete:
            abort(response)
            return
        draining = self.draining[url]

        def on_end() -> None:
            timer.cancel()
            draining.discard(response)

        def on_timeout() -> None:
            draining.discard(response)
            abort(response)

        timer = self.loop.call_later(_DRAIN_TIMEOUT, on_timeout)
        response.content.on_eof(on_end)
        draining.add(response)

    async def close(self) -> None:
        """Abort the active requests; close the connections, unless they belong to the caller's session."""
        for request in list(self.active):
            request.abort()
        if isinstance(self.connector_or_session, Connector):
            for draining in self.draining.values():
                while draining:
                    draining.pop().close()
            await self.connector_or_session.close()
            return
        waits = [self.wait_for_draining(url) for url, draining in self.draining.items() for _ in draining]
        await asyncio.gather(*waits)


def _loop_of(session: aiohttp.ClientSession) -> asyncio.AbstractEventLoop | None:
    """Return the event loop `session` was made in, None if it has no `loop` attribute."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(session, "loop", None)


def transport_error(address: str, error: Exception, connect: float | None) -> LLMError:
    """Convert an exception raised by aiohttp to an `LLMError`.

    Args:
        address: URL of the server without credentials, and the proxy.
        error: The exception.
        connect: The limit for connecting, in seconds.
    """
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return connect_timeout(address, connect)
    if isinstance(error, asyncio.TimeoutError):
        return TimeoutExceeded(
            f"{address}: a limit of the session was reached ({error}); the timeout of the "
            "aiohttp.ClientSession changes it",
            phase="total",
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):
        reason = f"the proxy refused to connect to it (HTTP {error.status})"
        return connect_error(address, ConnectionError(reason))
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        reason = f"the proxy {error.host}:{error.port} cannot be reached ({error.strerror})"
        return connect_error(address, ConnectionError(reason))
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.InvalidURL, UnicodeError)):  # a host name
        return connect_error(address, error)
    silent = isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError))
    return interrupted(address, error, silent=silent)
