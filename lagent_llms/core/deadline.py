"""The time limits of one call: for its next piece and for the whole answer."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..errors import TimeoutExceeded
from ..params import Timeout

# Not asyncio.wait_for: before Python 3.12 it loses a cancellation that arrives together with the result.
if sys.version_info >= (3, 11):
    from asyncio import timeout as timeout_after
else:
    from async_timeout import timeout as timeout_after

__all__ = ["Deadline", "timeout_after"]

_T = TypeVar("_T")


class Deadline:
    """The time limits of one call; they run from its construction.

    Args:
        timeout: The limits, in seconds.
        clock: A monotonic clock, in seconds.
    """

    __slots__ = ("_clock", "_end", "_first", "_last", "_resting", "_timeout")

    def __init__(self, timeout: Timeout, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._last = clock()
        self._end = None if timeout.total is None else self._last + timeout.total
        self._first = True
        self._resting = False

    def restart(self) -> None:
        """Restart the limit for the first piece; the limit for the whole answer continues."""
        self._first, self._resting = True, False
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
        if self._resting:
            return None if end is None else max(0.0, end - self._clock())
        if wait is not None and (end is None or self._last + wait < end):
            end = self._last + wait
        return None if end is None else max(0.0, end - self._clock())

    def next_check(self) -> float | None:
        """Delay until the next timer check, in seconds; None without a limit.

        It is at most `idle`, since the first piece may shorten `remaining` to that.
        """
        waits = [wait for wait in (self.remaining(), self._timeout.idle) if wait is not None]
        return min(waits, default=None)

    def remaining_in_total(self) -> float | None:
        """Seconds left for the whole answer; None without a limit."""
        return None if self._end is None else max(0.0, self._end - self._clock())

    async def wait(self, awaitable: Awaitable[_T]) -> _T:
        """Await `awaitable` for at most `remaining` seconds.

        Raises:
            TimeoutExceeded: The limit passed first; `awaitable` was cancelled.
        """
        try:
            async with timeout_after(self.remaining()):
                return await awaitable
        except asyncio.TimeoutError as error:
            if type(error) is not asyncio.TimeoutError:  # raised by `awaitable` itself
                raise
            raise self.exceeded() from None

    def exceeded(self) -> TimeoutExceeded:
        """The error for the limit that was reached."""
        phase, seconds = "idle", self._timeout.idle
        if self._first:
            phase, seconds = "first_token", self._timeout.first_token
        # Not only when its end has passed: a timer may fire a moment early.
        if self._end is not None and (
            self._resting or seconds is None or self._end <= max(self._clock(), self._last + seconds)
        ):
            phase, seconds = "total", self._timeout.total
        waited = {
            "total": "the whole answer took longer than",
            "first_token": "no piece of the answer came within",
            "idle": "no further piece of the answer came within",
        }[phase]
        return TimeoutExceeded(f"{waited} {seconds:g} s", phase=phase, seconds=seconds)
