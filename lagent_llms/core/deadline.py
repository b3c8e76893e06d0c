"""How long a call may still wait for its next piece of the answer."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..errors import TimeoutExceeded
from ..params import Timeout

# Not asyncio.wait_for: until Python 3.12 it loses a cancellation that comes together with the result.
if sys.version_info >= (3, 11):
    from asyncio import timeout as timeout_after
else:
    from async_timeout import timeout as timeout_after

__all__ = ["Deadline", "timeout_after"]

_T = TypeVar("_T")


class Deadline:
    """The clock of one call, started when it is made.

    Args:
        timeout: The limits.
        clock: Seconds that never go back.
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
        """The call begins anew: only the limit of the whole answer goes on."""
        self._first, self._resting = True, False
        self._last = self._clock()

    def piece_arrived(self) -> None:
        """A piece of the answer came. Until `wake` only the limit of the whole answer goes on.

        A slow reader is no slow server.
        """
        self._first = False
        self._resting = True

    def wake(self) -> None:
        """Somebody waits for the next piece: the wait begins now, unless it has begun before."""
        if self._resting:
            self._resting = False
            self._last = self._clock()

    def remaining(self) -> float | None:
        """Seconds the next piece may still take, 0 when its time is up; None without a limit."""
        wait = self._timeout.first_token if self._first else self._timeout.idle
        end = self._end
        if self._resting:
            return None if end is None else max(0.0, end - self._clock())
        if wait is not None and (end is None or self._last + wait < end):
            end = self._last + wait
        return None if end is None else max(0.0, end - self._clock())

    def next_look(self) -> float | None:
        """Seconds until `remaining` should be looked at again, for who sets a timer and sleeps.

        It may become shorter in between: with the first piece the limit for further ones begins to count.
        """
        waits = [wait for wait in (self.remaining(), self._timeout.idle) if wait is not None]
        return min(waits, default=None)

    def remaining_in_total(self) -> float | None:
        """Seconds the whole answer may still take; None without a limit."""
        return None if self._end is None else max(0.0, self._end - self._clock())

    async def wait(self, awaitable: Awaitable[_T]) -> _T:
        """What `awaitable` gives, unless time is up before.

        Raises:
            TimeoutExceeded: It is; `awaitable` was cancelled.
        """
        try:
            async with timeout_after(self.remaining()):
                return await awaitable
        except asyncio.TimeoutError as error:
            if type(error) is not asyncio.TimeoutError:  # a limit of what was awaited
                raise
            raise self.exceeded() from None

    def exceeded(self) -> TimeoutExceeded:
        """The error that tells which limit was reached."""
        phase, seconds = "idle", self._timeout.idle
        if self._first:
            phase, seconds = "first_token", self._timeout.first_token
        # Not only when its end is past: a timer may ring a moment early.
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
