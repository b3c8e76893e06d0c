"""The connections of aiohttp: checked before they are used again, left alone after a fork."""

from __future__ import annotations

import asyncio
import os
import select
import weakref
from typing import Any

import aiohttp

__all__ = ["Connector"]

#: Seconds an idle connection is kept.
_KEEP_ALIVE = 300.0

_connectors: weakref.WeakSet[Connector] = weakref.WeakSet()


class Connector(aiohttp.TCPConnector):
    """Connections of one loop in one process; after a fork or the end of the loop, nothing touches them.

    aiohttp sees that a server has closed an idle connection only when the loop has run since; here the socket
    is looked at before the connection is used again.
    """

    def __init__(self) -> None:
        super().__init__(limit=0, keepalive_timeout=_KEEP_ALIVE)
        self.__loop = asyncio.get_running_loop()
        self.__inherited = False
        self.__known: weakref.WeakSet[Any] = weakref.WeakSet()  # protocols
        _connectors.add(self)

    @property
    def closed(self) -> bool:
        """Whether the connections cannot be used here."""
        return super().closed or self.__inherited or self.__loop.is_closed()

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        """An idle connection that is still open, or a new one; the arguments are aiohttp's."""
        while True:
            connection = await super().connect(*args, **kwargs)
            if connection.protocol not in self.__known:
                self.__known.add(connection.protocol)
                return connection
            if _is_quiet(connection.transport):
                return connection
            connection.close()

    async def close(self, **kwargs: Any) -> None:
        """Close all connections at once, whatever is still to be sent over them."""
        for protocol in self.__known:
            if protocol.transport is not None:
                protocol.transport.abort()
        await super().close(**kwargs)
        await asyncio.sleep(0)  # in which the sockets are closed

    def forget(self) -> None:
        """Leave the sockets to the parent process.

        A fork shares the loop's selector: to close a socket here would make the parent's loop deaf for it.
        """
        self.__inherited = True
        for protocol in self.__known:
            protocol.transport = None

    def __del__(self, *args: Any) -> None:
        if not self.closed:
            super().__del__(*args)


def _is_quiet(transport: asyncio.Transport | None) -> bool:
    """Whether a connection between two requests is open and the server has sent nothing (that it closes)."""
    socket = None if transport is None else transport.get_extra_info("socket")
    if socket is None or socket.fileno() < 0:
        return False
    if not hasattr(select, "poll"):  # Windows
        return not select.select([socket], [], [], 0)[0]
    watch = select.poll()
    watch.register(socket.fileno(), select.POLLIN)
    return not watch.poll(0)


def _after_fork_in_child() -> None:
    for connector in _connectors:
        connector.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
