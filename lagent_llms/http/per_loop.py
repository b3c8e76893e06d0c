"""Keep one object per event loop, closed with its loop at the latest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["LoopLocks", "PerLoop", "call_on"]

T = TypeVar("T")


def call_on(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object) -> None:
    """Call `function` at once if `loop` runs in this thread, else let `loop` call it.

    It is not called if the loop is closed: whatever belongs to the loop ended with it.
    """
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is loop:
        function(*args)
    else:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(function, *args)


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


class LoopLocks(PerLoop[asyncio.Lock]):
    """One lock for each event loop."""

    def __init__(self) -> None:
        super().__init__(_new_lock, _close_lock)


async def _new_lock() -> asyncio.Lock:
    return asyncio.Lock()


async def _close_lock(lock: asyncio.Lock) -> None:
    """Do nothing: a lock holds no resources."""
