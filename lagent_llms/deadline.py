"""How long a call may still wait for its next piece. Pure: the caller does the waiting."""

from __future__ import annotations

import time
from collections.abc import Callable

from .errors import TimeoutExceeded
from .params import Timeout

__all__ = ["Deadline"]


class Deadline:
    """The clock of one call, started when it is made.

    Args:
        timeout: The limits.
        clock: Seconds that never go back.
    """

    __slots__ = ("_clock", "_end", "_first", "_last", "_timeout")

    def __init__(self, timeout: Timeout, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._last = clock()
        self._end = None if timeout.total is None else self._last + timeout.total
        self._first = True

    def piece_arrived(self) -> None:
        """A piece of the answer came: the wait for the next one begins now."""
        self._first = False
        self._last = self._clock()

    def remaining(self) -> float | None:
        """Seconds the next piece may still take, 0 when its time is up; None without a limit."""
        wait = self._timeout.first_token if self._first else self._timeout.idle
        ends = [end for end in (wait and self._last + wait, self._end) if end is not None]
        return max(0.0, min(ends) - self._clock()) if ends else None

    def exceeded(self) -> TimeoutExceeded:
        """The error that tells which limit was reached."""
        if self._end is not None and self._clock() >= self._end:
            phase, seconds = "total", self._timeout.total
        elif self._first:
            phase, seconds = "first_token", self._timeout.first_token
        else:
            phase, seconds = "idle", self._timeout.idle
        waited = {
            "total": "the whole answer took longer than",
            "first_token": "no piece of the answer came within",
            "idle": "no further piece of the answer came within",
        }[phase]
        return TimeoutExceeded(f"{waited} {seconds:g} s", phase=phase, seconds=seconds)
