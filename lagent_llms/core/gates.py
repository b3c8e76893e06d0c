"""Wait for a place of a batch: `Gate` for threads, `AsyncGate` for tasks. `Concurrency` decides."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import LLMError
from .concurrency import Concurrency

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Self

__all__ = ["AsyncGate", "AsyncPlace", "Gate", "Place"]


class Gate:
    """The places of one batch, for threads.

    Args:
        concurrency: How many places there are.
    """

    def __init__(self, concurrency: Concurrency) -> None:
        self.concurrency = concurrency
        self.changed = threading.Condition()
        self._closed = False
        self._waiting = 0

    def place(self) -> Place:
        """Return a place, to be entered as a context."""
        return Place(self)

    def close(self) -> None:
        """End all waits."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()

    def enter(self) -> int | None:
        """Wait for a free place; return what `Concurrency.enter` returns, None if the gate was closed."""
        with self.changed:
            while not self._closed:
                if (seconds := self.concurrency.wait()) == 0:
                    return self.concurrency.enter()
                self._waiting += 1
                try:
                    self.changed.wait(seconds)
                finally:
                    self._waiting -= 1
        return None

    def leave(self, answered: int | None = None) -> None:
        """Free a place; `answered` is what `enter` returned for a prompt that was answered."""
        with self.changed:
            if answered is not None:
                self.concurrency.answered(answered)
            self.concurrency.leave()
            if self._waiting:
                self.changed.notify_all()


class Place:
    """The place of one prompt: entered for each attempt, left while the prompt waits for the next one."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._cuts: int | None = None
        self._answered = False

    def __enter__(self) -> Self:
        self._cuts = self._gate.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (cuts := self._cuts) is not None:
            self._cuts = None
            self._gate.leave(cuts if self._answered else None)

    def answered(self) -> None:
        """Note that the prompt is answered; see `Concurrency.answered`."""
        self._answered = True

    def failed(self, error: LLMError) -> bool:
        """See `Concurrency.failed`."""
        if self._cuts is None:
            return False
        with self._gate.changed:
            return self._gate.concurrency.failed(error, self._cuts)

    def pause(self, seconds: float, error: LLMError, wake: threading.Event) -> None:
        """Leave the place for `seconds` or until `wake` is set, then wait for a free one."""
        with self._gate.changed:
            self._gate.concurrency.hold(getattr(error, "retry_after", None) or 0.0)
        self.__exit__(None, None, None)
        if not wake.wait(seconds):
            self.__enter__()


class AsyncGate:
    """`Gate` for the tasks of an event loop, in the order of their coming.

    Args:
        concurrency: How many places there are.
    """

    def __init__(self, concurrency: Concurrency) -> None:
        self.concurrency = concurrency
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def place(self) -> AsyncPlace:
        """Return a place, to be entered as a context."""
        return AsyncPlace(self)

    async def enter(self) -> int:
        """Wait for a free place; return what `Concurrency.enter` returns."""
        import asyncio  # here, to keep the package's import fast

        if not self._waiting and self.concurrency.wait() == 0:
            return self.concurrency.enter()
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Free a place."""
        self.concurrency.leave()
        self._admit()

    def _admit(self) -> None:
        """Give the free places to those that wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            if self._waiting[0].done():  # cancelled
                self._waiting.popleft()
            elif (seconds := self.concurrency.wait()) == 0:
                self._waiting.popleft().set_result(self.concurrency.enter())
            else:
                if seconds is not None:
                    self._timer = self._waiting[0].get_loop().call_later(seconds, self._admit)
                return


class AsyncPlace:
    """`Place` for tasks."""

    def __init__(self, gate: AsyncGate) -> None:
        self._gate = gate
        self._cuts: int | None = None

    async def __aenter__(self) -> Self:
        self._cuts = await self._gate.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def answered(self) -> None:
        """See `Concurrency.answered`."""
        if self._cuts is not None:
            self._gate.concurrency.answered(self._cuts)

    def failed(self, error: LLMError) -> bool:
        """See `Concurrency.failed`."""
        return self._cuts is not None and self._gate.concurrency.failed(error, self._cuts)

    async def pause(self, seconds: float, error: LLMError, wake: asyncio.Event) -> None:
        """See `Place.pause`."""
        self._gate.concurrency.hold(getattr(error, "retry_after", None) or 0.0)
        self._leave()
        await wait_for_event(wake, seconds)
        if not wake.is_set():
            self._cuts = await self._gate.enter()

    def _leave(self) -> None:
        if self._cuts is not None:
            self._cuts = None
            self._gate.leave()


async def wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Wait until `event` is set, at most `seconds`."""
    import asyncio  # here, to keep the package's import fast

    from .deadline import timeout_after

    with contextlib.suppress(asyncio.TimeoutError):
        async with timeout_after(seconds):
            await event.wait()
