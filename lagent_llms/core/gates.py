"""Wait for a place of a batch: `Gate` for threads, `AsyncGate` for tasks. `Admission` decides."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import LLMError
from .admission import Admission, Ticket

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Self

__all__ = ["AsyncGate", "AsyncPlace", "Gate", "Place"]


class _Gate:
    """The base of both gates.

    Args:
        admission: Decides which prompts enter.

    Attributes:
        paused: Number of prompts that wait for their next attempt.
    """

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.paused = 0

    def wants(self, workers: int) -> bool:
        """Whether another worker is needed besides `workers`, so that one waits for the next place."""
        return workers - self.paused <= self.admission.limit


class Gate(_Gate):
    """The places of one batch, for threads. The arguments are those of its base class."""

    def __init__(self, admission: Admission) -> None:
        super().__init__(admission)
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

    def enter(self) -> Ticket | None:
        """Wait for a free place; return what `Admission.enter` returns, None if the gate was closed."""
        with self.changed:
            while not self._closed:
                if (seconds := self.admission.wait()) == 0:
                    return self.admission.enter()
                self._waiting += 1
                try:
                    self.changed.wait(seconds)
                finally:
                    self._waiting -= 1
        return None

    def leave(self, ticket: Ticket, *, answered: bool) -> None:
        """Free the place of `ticket`; `answered` tells whether its prompt was answered."""
        with self.changed:
            if answered:
                self.admission.answered(ticket)
            self.admission.leave(ticket)
            if self._waiting:
                self.changed.notify_all()


class _Place:
    """The base of both places."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._ticket: Ticket | None = None

    @property
    def server(self) -> int | None:
        """The index of the server that the prompt is for, None for any."""
        return None if self._ticket is None else self._admission.server(self._ticket)


class Place(_Place):
    """The place of one prompt: entered for each attempt, left while the prompt waits for the next one."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(gate.admission)
        self._gate = gate
        self._answered = False

    def __enter__(self) -> Self:
        self._ticket = self._gate.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (ticket := self._ticket) is not None:
            self._ticket = None
            self._gate.leave(ticket, answered=self._answered)

    def answered(self) -> None:
        """Note that the prompt is answered; see `Concurrency.answered`."""
        self._answered = True

    def failed(self, error: LLMError) -> bool:
        """See `Concurrency.failed`."""
        if self._ticket is None:
            return False
        with self._gate.changed:
            return self._admission.failed(error, self._ticket)

    def pause(self, seconds: float, error: LLMError, wake: threading.Event) -> None:
        """Leave the place for `seconds` or until `wake` is set, then wait for a free one."""
        with self._gate.changed:
            self._gate.paused += 1
            if self._ticket is not None:
                self._admission.hold(getattr(error, "retry_after", None) or 0.0, self._ticket)
        self.__exit__(None, None, None)
        try:
            woken = wake.wait(seconds)
        finally:
            with self._gate.changed:
                self._gate.paused -= 1
        if not woken:
            self.__enter__()


class AsyncGate(_Gate):
    """`Gate` for the tasks of an event loop, in the order of their coming."""

    def __init__(self, admission: Admission) -> None:
        super().__init__(admission)
        self._waiting: deque[asyncio.Future[Ticket]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def place(self) -> AsyncPlace:
        """Return a place, to be entered as a context."""
        return AsyncPlace(self)

    async def enter(self) -> Ticket:
        """Wait for a free place; return what `Admission.enter` returns."""
        import asyncio  # here, to keep the package's import fast

        if not self._waiting and self.admission.wait() == 0:
            return self.admission.enter()
        turn: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(turn.result())
            raise

    def leave(self, ticket: Ticket) -> None:
        """Free the place of `ticket`."""
        self.admission.leave(ticket)
        self._admit()

    def _admit(self) -> None:
        """Give the free places to those that wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            if self._waiting[0].done():  # cancelled
                self._waiting.popleft()
            elif (seconds := self.admission.wait()) == 0:
                self._waiting.popleft().set_result(self.admission.enter())
            else:
                if seconds is not None:
                    self._timer = self._waiting[0].get_loop().call_later(seconds, self._admit)
                return


class AsyncPlace(_Place):
    """`Place` for tasks."""

    def __init__(self, gate: AsyncGate) -> None:
        super().__init__(gate.admission)
        self._gate = gate

    async def __aenter__(self) -> Self:
        self._ticket = await self._gate.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def answered(self) -> None:
        """See `Concurrency.answered`."""
        if self._ticket is not None:
            self._admission.answered(self._ticket)

    def failed(self, error: LLMError) -> bool:
        """See `Concurrency.failed`."""
        return self._ticket is not None and self._admission.failed(error, self._ticket)

    async def pause(self, seconds: float, error: LLMError, wake: asyncio.Event) -> None:
        """See `Place.pause`."""
        if self._ticket is not None:
            self._admission.hold(getattr(error, "retry_after", None) or 0.0, self._ticket)
        self._leave()
        self._gate.paused += 1
        try:
            await wait_for_event(wake, seconds)
        finally:
            self._gate.paused -= 1
        if not wake.is_set():
            self._ticket = await self._gate.enter()

    def _leave(self) -> None:
        if (ticket := self._ticket) is not None:
            self._ticket = None
            self._gate.leave(ticket)


async def wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Wait until `event` is set, at most `seconds`."""
    import asyncio  # here, to keep the package's import fast

    from .deadline import timeout_after

    with contextlib.suppress(asyncio.TimeoutError):
        async with timeout_after(seconds):
            await event.wait()
