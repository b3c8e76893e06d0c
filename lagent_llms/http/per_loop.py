"""Keep one object per event loop, closed with its loop at the latest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["PerLoop"]

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One object for each event loop.

    Args:
        make: Makes the running loop's object.
        close: Closes an object; called on the loop it was made in.
    """

    def __init__(self, make: Callable[[], Awaitable[T]], close: Callable[[T], Awaitable[None]]) -> None:
        self._make, self._close = make, close
        self._entries: dict[asyncio.AbstractEventLoop, _Entry[T]] = {}

    async def get(self) -> T:
        """Return the running loop's object."""
        loop = asyncio.get_running_loop()
        entry = self._entries.get(loop)
        if entry is None:
            for other in list(self._entries):  # a copy: other threads may change the dict
                if other.is_closed():
                    self._entries.pop(other, None)
            entry = self._entries[loop] = _Entry(await self._make(), self._close_value)
            await entry.start()
        return entry.value

    async def close(self) -> None:
        """Close the running loop's object, if there is one."""
        entry = self._entries.pop(asyncio.get_running_loop(), None)
        if entry is not None:
            await entry.close()

    async def _close_value(self, value: T) -> None:
        self._entries.pop(asyncio.get_running_loop(), None)
        await self._close(value)


class _Entry(Generic[T]):
    """An object with an asynchronous generator, which `asyncio.run` closes, and the object with it."""

    def __init__(self, value: T, close: Callable[[T], Awaitable[None]]) -> None:
        self.value = value
        self._generator = self._close_with_loop(close)

    async def start(self) -> None:
        await self._generator.__anext__()

    async def close(self) -> None:
        await self._generator.aclose()

    async def _close_with_loop(self, close: Callable[[T], Awaitable[None]]) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await close(self.value)
