"""One object for each event loop, closed with its loop at the latest."""

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
        self._keepers: dict[asyncio.AbstractEventLoop, _Keeper[T]] = {}

    async def get(self) -> T:
        """Return the running loop's object."""
        loop = asyncio.get_running_loop()
        keeper = self._keepers.get(loop)
        if keeper is None:
            for other in list(self._keepers):  # a copy: loops of other threads change it
                if other.is_closed():
                    self._keepers.pop(other, None)
            keeper = self._keepers[loop] = _Keeper(await self._make(), self._end)
            await keeper.start()
        return keeper.kept

    async def close(self) -> None:
        """Close the running loop's object, if there is one."""
        keeper = self._keepers.pop(asyncio.get_running_loop(), None)
        if keeper is not None:
            await keeper.close()

    async def _end(self, kept: T) -> None:
        self._keepers.pop(asyncio.get_running_loop(), None)
        await self._close(kept)


class _Keeper(Generic[T]):
    """Holds an object and closes it with its loop: `asyncio.run` closes every asynchronous generator."""

    def __init__(self, kept: T, close: Callable[[T], Awaitable[None]]) -> None:
        self.kept = kept
        self._generator = self._hold(close)

    async def start(self) -> None:
        await self._generator.__anext__()

    async def close(self) -> None:
        await self._generator.aclose()

    async def _hold(self, close: Callable[[T], Awaitable[None]]) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await close(self.kept)
