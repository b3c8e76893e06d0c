"""The time limits of one call, for its next piece and the whole answer; their timer on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import TimeoutExceeded
from ..params import Timeout

# Not asyncio.wait_for: before Python 3.12 it loses a cancellation that arrives together with the result.
if sys.version_info >= (3, 11):
    from asyncio import timeout as timeout_after
else:
    from async_timeout import timeout as timeout_after

__all__ = ["Deadline", "DeadlineTimer", "LaterAttempt", "expire", "timeout_after", "timeout_exceeded"]

_T = TypeVar("_T")

#: Shortest delay between two checks of a held deadline, in seconds.
_SHORTEST_CHECK = 0.01


@dataclass(frozen=True)
class LaterAttempt(Timeout):
    """The limits of a later attempt of a call: `total` still runs from the first.

    Attributes:
        end: When the limit for the whole answer passes, in seconds of the monotonic clock.
    """

    end: float | None = None

    @classmethod
    def of(cls, timeout: Timeout, began: float) -> Timeout:
        """The limits of an attempt of a call that began at `began` with the limits `timeout`."""
        if timeout.total is None or isinstance(timeout, cls):
            return timeout
        limits = timeout.connect, timeout.first_token, timeout.idle, timeout.total
        return cls(*limits, began + timeout.total)


class Deadline:
    """The time limits of one attempt of a call; they run from its construction.

    Args:
        timeout: The limits, in seconds.
        clock: A monotonic clock, in seconds.
    """

    __slots__ = ("_clock", "_end", "_first", "_held", "_last", "_resting", "_timeout")

    def __init__(self, timeout: Timeout, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._last = clock()
        self._end = None if timeout.total is None else self._last + timeout.total
        if isinstance(timeout, LaterAttempt):
            self._end = timeout.end
        self._first = True
        self._resting = False
        self._held = False

    def restart(self) -> None:
        """Restart the limit for the first piece; the limit for the whole answer continues."""
        self._first, self._resting, self._held = True, False, False
        self._last = self._clock()

    def hold(self) -> None:
        """Stop the limit for the next piece until `resume`: the server or the engine does not work on it.

        The prompt waits for a place on this side, or the engine compiles.
        """
        self._held = True

    def resume(self) -> None:
        """Start the limit for the next piece anew, after `hold`."""
        if self._held:
            self._held = False
            self._last = self._clock()

    def piece_arrived(self) -> None:
        """Record a piece of the answer. Until `wake` only the limit for the whole answer runs.

        The time that the caller takes between two pieces does not count as the server's.
        """
        self._first = False
        self._resting = True

    def renew(self) -> None:
        """Restart the limit that runs: the server generates, but no piece of the answer is complete."""
        self._last = self._clock()

    def wake(self) -> None:
        """Start the limit for the next piece, unless it runs already: the caller waits for it now."""
        if self._resting:
            self._resting = False
            self._last = self._clock()

    def remaining(self) -> float | None:
        """Seconds left for the next piece, 0 when the limit has passed; None without a limit."""
        wait = self._timeout.first_token if self._first else self._timeout.idle
        end = self._end
        if self._resting or self._held:
            return None if end is None else max(0.0, end - self._clock())
        if wait is not None and (end is None or self._last + wait < end):
            end = self._last + wait
        return None if end is None else max(0.0, end - self._clock())

    def next_check(self) -> float | None:
        """Delay until the next timer check, in seconds; None without a limit.

        It is at most `idle`, since the first piece may shorten `remaining` to that; so may the end of a hold
        with `first_token`.
        """
        waits = [wait for wait in (self.remaining(), self._timeout.idle) if wait is not None]
        if self._held and self._timeout.first_token is not None:
            waits.append(max(_SHORTEST_CHECK, self._timeout.first_token))
        return min(waits, default=None)

    async def wait(self, awaitable: Awaitable[_T], server: object = "") -> _T:
        """Await `awaitable` for at most `remaining` seconds.

        Args:
            awaitable: What to wait for.
            server: See `exceeded`; of an object, its `repr` is shown.

        Raises:
            TimeoutExceeded: The limit passed first; `awaitable` was cancelled.
        """
        try:
            async with timeout_after(self.remaining()):
                return await awaitable
        except asyncio.TimeoutError as error:
            if type(error) is not asyncio.TimeoutError:  # raised by `awaitable` itself
                raise
            raise self.exceeded(server if isinstance(server, str) else repr(server)) from None

    def exceeded(self, server: str = "") -> TimeoutExceeded:
        """The error for the limit that was reached; its message names the parameter that sets it.

        Args:
            server: The server or engine that was waited for.
        """
        phase, seconds = "idle", self._timeout.idle
        if self._first:
            phase, seconds = "first_token", self._timeout.first_token
        # Not only when its end has passed: a timer may fire a moment early.
        if self._end is not None and (
            self._resting
            or self._held
            or seconds is None
            or self._end <= max(self._clock(), self._last + seconds)
        ):
            phase, seconds = "total", self._timeout.total
        waited, limit = _LIMITS[phase]
        where = " (the prompt still waited for its place or for compilation)" if self._held else ""
        return timeout_exceeded(server, f"{waited} {seconds:g} s{where}", phase, seconds, limit)


#: Field of `Timeout` -> what it limits, and its name in messages.
_LIMITS = {
    "total": ("the whole answer took longer than", "the whole answer"),
    "first_token": ("no piece of the answer came within", "the first token"),
    "idle": ("no further piece of the answer came within", "the time between pieces"),
}


def timeout_exceeded(
    server: str, waited: str, phase: str, seconds: float | None, limit: str
) -> TimeoutExceeded:
    """Make the error for a limit that was reached.

    Args:
        server: The server or engine, '' if it is not known.
        waited: What did not happen, and within how many seconds.
        phase: The field of `Timeout` that holds the limit.
        seconds: The limit.
        limit: Its name in messages.
    """
    where = f"{server}: " if server else ""
    return TimeoutExceeded(
        f"{where}{waited}, the limit for {limit}; timeout=Timeout({phase}=…) changes it",
        phase=phase,
        seconds=seconds,
    )


class DeadlineTimer:
    """Calls `on_expired` when `deadline` has passed: one timer for a whole answer, not one for each wait.

    A piece that arrives moves the deadline, not the timer.

    Args:
        deadline: The deadline to watch.
        on_expired: Called at most once, on `loop`.
        loop: The running event loop.

    Attributes:
        expired: Whether `on_expired` was called.
    """

    def __init__(
        self, deadline: Deadline, on_expired: Callable[[], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.expired = False
        self._deadline = deadline
        self._on_expired = on_expired
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._set()

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _set(self) -> None:
        wait = self._deadline.next_check()
        if wait is not None:
            self._timer = self._loop.call_later(wait, self._check)

    def _check(self) -> None:
        if self._deadline.remaining() == 0:
            self.expired = True
            self._on_expired()
        else:
            self._set()


def expire(scope: Any) -> None:
    """End a running `timeout_after` block: it raises `asyncio.TimeoutError` at the next step of the loop."""
    now = asyncio.get_running_loop().time()
    with contextlib.suppress(RuntimeError):  # the block is ending already
        if sys.version_info >= (3, 11):
            scope.reschedule(now)
        else:
            scope.update(now)
