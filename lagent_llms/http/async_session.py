"""What the asynchronous client keeps for each event loop: its connections and the requests that use them."""

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

#: Seconds the end of a response may come after the end of its answer before the connection is closed.
_DRAIN_TIMEOUT = 1.0
#: Seconds a request waits for such a connection rather than make a new one.
_PATIENCE = 0.02


class Running(Protocol):
    """A request in progress."""

    def abort(self) -> None:
        """Break it off; the task that reads gets an error."""


class LoopSession:
    """The connections of the running event loop, and the requests that use them.

    Args:
        given: The caller's session, which stays open; None makes a connector.

    Attributes:
        loop: The event loop.
        carrier: The connector, or the caller's session.
        running: Requests in progress.
        ending: For each server, responses whose answer is complete and whose last bytes have not come yet.
    """

    def __init__(self, given: aiohttp.ClientSession | None) -> None:
        self.loop = asyncio.get_running_loop()
        if given is not None and _own_loop(given) not in (None, self.loop):
            raise InvalidArgument(
                "session: this aiohttp.ClientSession was made in another event loop; a session serves only "
                "the loop it was made in",
                argument="session",
            )
        self.carrier: Connector | aiohttp.ClientSession = given or Connector()
        self.running: set[Running] = set()
        self.ending: defaultdict[str, set[Response | aiohttp.ClientResponse]] = defaultdict(set)

    async def settle(self, url: str) -> None:
        """Wait briefly for one of `ending` to release its connection, rather than open another one."""
        response = self.ending[url].pop()  # each request waits for another one
        ended = asyncio.Event()
        response.content.on_eof(ended.set)
        with contextlib.suppress(asyncio.TimeoutError):
            async with timeout_after(_PATIENCE):
                await ended.wait()

    def leave(self, response: Response | aiohttp.ClientResponse, url: str, *, whole: bool) -> None:
        """Read no more of `response`: keep its connection if the answer is `whole`, else close it."""
        if response.closed:  # the connection was released with the last byte
            return
        if not whole:
            abort(response)
            return
        ending = self.ending[url]

        def ended() -> None:
            timer.cancel()
            ending.discard(response)

        def give_up() -> None:
            ending.discard(response)
            abort(response)

        timer = self.loop.call_later(_DRAIN_TIMEOUT, give_up)
        response.content.on_eof(ended)
        ending.add(response)

    async def close(self) -> None:
        """Break off what is running and close the connections; the caller's session stays open."""
        for request in list(self.running):
            request.abort()
        for ending in self.ending.values():
            while ending:
                ending.pop().close()
        if isinstance(self.carrier, Connector):
            await self.carrier.close()


def _own_loop(session: aiohttp.ClientSession) -> asyncio.AbstractEventLoop | None:
    """The event loop `session` was made in, None if it does not say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(session, "loop", None)


def transport_error(url: str, error: Exception, connect: float | None) -> LLMError:
    """Return our error for what aiohttp raised.

    Args:
        url: The server.
        error: What was raised.
        connect: The limit of connecting, in seconds.
    """
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return connect_timeout(url, connect)
    if isinstance(error, asyncio.TimeoutError):
        return TimeoutExceeded(f"a limit of the session was reached: {error}", phase="total")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        refused = f"the proxy refused to connect to it (HTTP {error.status})"
        return connect_error(url, ConnectionError(refused))
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.InvalidURL, UnicodeError)):  # a host name
        return connect_error(url, error)
    return interrupted(url, error)
